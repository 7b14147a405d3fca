//! Conversion of RAVDESS's eight classes to the labels on the wire.

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::train::calibrate::LabelledLogits;
use crate::train::data::speech_clip::{Corpus, LabelledClip};

/// Predictions from logits of clips: over RAVDESS's classes, or over the wire's labels for a corpus
/// that lacks some of these classes.
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

/// Index of the wire's label for RAVDESS's emotion with index `emotion`.
pub fn wire_label(emotion: usize) -> usize {
    label_index(RAVDESS[emotion]).expect("every emotion of RAVDESS is on the wire")
}

/// Logits of the wire's labels: for each label, the log-sum-exp over its RAVDESS classes.
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
    fn calm_and_neutral_are_one_label_on_the_wire() {
        let odds = [1.0f32, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0];
        let row = merge_to_labels(&odds.map(f32::ln)).map(f32::exp);
        for (found, expected) in row.iter().zip([3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0]) {
            assert!((found * 8.0 - expected).abs() < 1e-5, "{row:?}");
        }
    }
}
