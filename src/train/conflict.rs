//! Effect of a modality with a wrong and confident prediction on the fused prediction.

use rand::Rng;

use crate::labels::LABELS;
use crate::manifest::HeadEntry;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::{LabelledLogits, argmax};
use crate::train::embeddings::LabelledEmbeddings;
use crate::train::figure::{Figure, ModalityConflict};
use crate::train::fusion::{HeadBatch, empty, only, push_row, single_modality_logits};
use crate::train::metrics::predictions::softmax;
use crate::train::samples::generator;

/// Lowest confidence, 0..1, at which the prediction of a single modality counts as confident.
pub const MIN_CONFIDENCE: f32 = 0.7;

/// Metrics of fused predictions on contradicting modalities: first voices with misleading faces,
/// then faces with misleading voices. Every row of one modality is joined with an item of the other
/// modality that alone gives a confident prediction of another label.
///
/// `all`: embeddings of each modality, in the order of [`Modality::ALL`]; `answer`: computes the
/// logits of a batch, `[rows, labels]`, row-major. A direction without confident misleading items
/// is omitted.
pub fn figures(
    all: &[LabelledEmbeddings],
    head: &HeadEntry,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Vec<Figure>> {
    [
        (Modality::Voice, Modality::Face),
        (Modality::Face, Modality::Voice),
    ]
    .into_iter()
    .map(|(right, wrong)| measure_conflict(all, head, [right, wrong], answer))
    .filter_map(Result::transpose)
    .collect()
}

/// Index of the modality in [`Modality::ALL`].
fn modality_index(modality: Modality) -> usize {
    Modality::ALL
        .iter()
        .position(|m| *m == modality)
        .expect("it is one of them")
}

/// The head's temperature for a subset of modalities; 1 if it has none.
fn temperature_of(head: &HeadEntry, subset: &Presence) -> f32 {
    head.temperature.get(&subset.name()).copied().unwrap_or(1.0)
}

/// Metrics of the rows of `right`, each joined with a misleading item of `wrong`; `None` if no item
/// of `wrong` is confident of another label.
fn measure_conflict(
    all: &[LabelledEmbeddings],
    head: &HeadEntry,
    [right, wrong]: [Modality; 2],
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Option<Figure>> {
    let firsts = all[modality_index(wrong)].first_views();
    let items: Vec<&[f32]> = firsts.chunks(all[modality_index(wrong)].dim).collect();
    let temperature = temperature_of(head, &only(wrong));
    let confident_predictions: Vec<(usize, f32)> = single_modality_logits(all, wrong, answer)?
        .chunks(LABELS.len())
        .map(|row| {
            let label = argmax(row);
            (label, softmax(row, temperature)[label])
        })
        .collect();
    let mut both = only(right);
    *both.get_mut(wrong) = true;
    let mut rng = generator(2, 0, 0);
    let (mut fused, mut single) = (empty(all), empty(all));
    let (mut truth, mut shares, mut misleading_labels) = (Vec::new(), Vec::new(), Vec::new());
    let candidates: Vec<Vec<usize>> = (0..LABELS.len())
        .map(|label| {
            let misleads = |item: &usize| {
                confident_predictions[*item].1 >= MIN_CONFIDENCE
                    && confident_predictions[*item].0 != label
            };
            (0..items.len()).filter(misleads).collect()
        })
        .collect();
    for (row, label, share) in all[modality_index(right)].rows() {
        if candidates[label].is_empty() {
            continue;
        }
        let item = candidates[label][rng.random_range(0..candidates[label].len())];
        push_row(&mut fused, all, &both, |i| {
            if i == modality_index(right) {
                row.to_vec()
            } else {
                items[item].to_vec()
            }
        });
        push_row(&mut single, all, &only(right), |_| row.to_vec());
        truth.push(label);
        shares.push(share);
        misleading_labels.push(confident_predictions[item].0);
    }
    if truth.is_empty() {
        return Ok(None);
    }
    let labelled =
        |logits| LabelledLogits::shared(LABELS.len(), logits, truth.clone(), shares.clone());
    let alone_is_right = labelled(answer(&single)?).accuracy();
    let predictions = labelled(answer(&fused)?);
    let verdicts = predictions.scored_predictions(f64::from(temperature_of(head, &both)));
    let all_shares: f64 = shares.iter().sum();
    let (mut follows, mut answered, mut answered_right) = (0.0, 0.0, 0.0);
    for ((verdict, (_, given, share)), misleading_label) in verdicts
        .iter()
        .zip(predictions.predictions())
        .zip(&misleading_labels)
    {
        if verdict.confidence >= f64::from(head.abstain_threshold) {
            answered += share;
            answered_right += if verdict.right { share } else { 0.0 };
            follows += if given == *misleading_label {
                share
            } else {
                0.0
            };
        }
    }
    let name = format!(
        "head, {}: {}, each with a misleading {}",
        both.name(),
        if right == Modality::Voice {
            "RAVDESS windows"
        } else {
            "PublicTest faces"
        },
        wrong.name()
    );
    Ok(Some(Figure {
        answered: Some(answered / all_shares),
        answered_accuracy: Some(answered_right / f64::max(answered, f64::MIN_POSITIVE)),
        conflict: Some(ModalityConflict {
            wrong_modality: wrong.name().to_owned(),
            follow_share: follows / all_shares,
            abstention_share: 1.0 - answered / all_shares,
            other_accuracy: alone_is_right,
        }),
        ..Figure::from_predictions(&name, &predictions, &LABELS)
    }))
}

#[cfg(test)]
mod tests {

    use super::*;

    /// A head for tests: each embedding is a row of logits, and the head adds them.
    fn sum(batch: &HeadBatch) -> anyhow::Result<Vec<f32>> {
        let count = batch.count * LABELS.len();
        Ok((0..count)
            .map(|i| batch.embeddings.iter().map(|values| values[i]).sum())
            .collect())
    }

    /// A row of logits with `strength` at `label` and 0 elsewhere.
    fn logits(label: usize, strength: f32) -> Vec<f32> {
        let mut row = vec![0.0; LABELS.len()];
        row[label] = strength;
        row
    }

    #[test]
    fn the_more_confident_modality_decides_and_equal_confidence_abstains() {
        let head = HeadEntry {
            abstain_threshold: 0.55,
            ..HeadEntry::default()
        };
        let mut all = vec![LabelledEmbeddings::new(LABELS.len()); 3];
        // Two confident happy faces, one unconfident sad face.
        all[0].push(1, logits(1, 6.0));
        all[0].push(1, logits(1, 4.0));
        all[0].push(2, logits(2, 0.5));
        // One voice is more confident than the faces, one as confident.
        all[1].push(3, logits(3, 9.0));
        let figures = figures(&all, &head, &mut sum).unwrap();
        let [voice, face] = &figures[..] else {
            panic!("{figures:?}")
        };
        let conflict = voice.conflict.as_ref().unwrap();
        assert_eq!(
            (
                voice.n,
                voice.accuracy,
                conflict.follow_share,
                conflict.other_accuracy
            ),
            (1, 1.0, 0.0, 1.0)
        );
        // All three faces, joined with the first voice.
        let conflict = face.conflict.as_ref().unwrap();
        assert_eq!(
            (face.n, face.accuracy, conflict.other_accuracy),
            (3, 0.0, 1.0)
        );
        assert!(
            (conflict.follow_share - 1.0).abs() < 1e-9 && conflict.abstention_share.abs() < 1e-9
        );
        // Equal evidence leads to abstention.
        all[1] = LabelledEmbeddings::new(LABELS.len());
        all[1].push(3, logits(3, 4.0));
        all[0] = LabelledEmbeddings::new(LABELS.len());
        all[0].push(1, logits(1, 4.0));
        let figures = super::figures(&all, &head, &mut sum).unwrap();
        assert!((figures[0].conflict.as_ref().unwrap().abstention_share - 1.0).abs() < 1e-9);
        // No confident face contradicts the voice.
        all[0] = LabelledEmbeddings::new(LABELS.len());
        all[0].push(3, logits(3, 6.0));
        assert!(super::figures(&all, &head, &mut sum).unwrap().is_empty());
    }
}
