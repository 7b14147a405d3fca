//! Conversion of RAVDESS's eight classes to the seven labels of the protocol, [`LABELS`].

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::train::calibrate::LabelledLogits;
use crate::train::data::speech_clip::{Corpus, LabelledClip};

/// Predictions on clips from the voice encoder's logits (`[clips, 8]`, row-major, in the order of
/// [`RAVDESS`]). For RAVDESS the classes are its own eight. For nEMO, which lacks some, they are
/// the labels of the protocol, [`LABELS`].
pub fn clip_predictions(
    corpus: Corpus,
    logits: Vec<f32>,
    clips: &[LabelledClip],
) -> LabelledLogits {
    let emotions = clips.iter().map(|clip| clip.emotion);
    match corpus {
        Corpus::Ravdess => LabelledLogits::new(RAVDESS.len(), logits, emotions.collect()),
        Corpus::Nemo => {
            let rows = logits.chunks(RAVDESS.len()).flat_map(merge_to_labels);
            LabelledLogits::new(
                LABELS.len(),
                rows.collect(),
                emotions.map(wire_label).collect(),
            )
        }
    }
}

/// Index in [`LABELS`] of the protocol's label for RAVDESS's class with index `emotion` in
/// [`RAVDESS`].
pub fn wire_label(emotion: usize) -> usize {
    label_index(RAVDESS[emotion]).expect("every emotion of RAVDESS is on the wire")
}

/// Logits of the protocol's labels from logits of RAVDESS's classes: for each label, the
/// log-sum-exp over its classes. A common constant is subtracted.
pub fn merge_to_labels(row: &[f32]) -> [f32; LABELS.len()] {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut odds = [0.0f32; LABELS.len()];
    for (emotion, logit) in row.iter().enumerate() {
        odds[wire_label(emotion)] += (logit - highest).exp();
    }
    odds.map(|odds| odds.max(f32::MIN_POSITIVE).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probabilities_of_calm_and_neutral_add_up_to_neutral() {
        let odds = [1.0f32, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0];
        let row = merge_to_labels(&odds.map(f32::ln)).map(f32::exp);
        for (found, expected) in row.iter().zip([3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0]) {
            assert!((found * 8.0 - expected).abs() < 1e-5, "{row:?}");
        }
    }
}
