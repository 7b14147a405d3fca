//! Evaluation of a fusion head on held-out embeddings.

use crate::labels::LABELS;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::LabelledLogits;
use crate::train::embeddings::{EmbeddingPair, LabelledEmbeddings};
use crate::train::samples::generator;

use super::{HeadBatch, empty, only, push_row};

/// Held-out rows of one subset of modalities, with labels and weights.
///
/// Every item of the leading modality (voice, else face, else text) is joined by label with random
/// items of the other modalities; `DRAWS` times, if anything is random. An item with several labels
/// has a weighted row for each.
pub(super) fn held_out(
    all: &[LabelledEmbeddings],
    subset: &Presence,
) -> (HeadBatch, Vec<usize>, Vec<f64>) {
    const DRAWS: usize = 4;
    let leads = [Modality::Voice, Modality::Face, Modality::Text]
        .into_iter()
        .find(|m| *subset.get(*m))
        .expect("a subset is not empty");
    let lead = Modality::ALL
        .iter()
        .position(|m| *m == leads)
        .expect("it is one of them");
    let alone = Modality::ALL.iter().filter(|m| *subset.get(**m)).count() == 1;
    let mut rng = generator(1, 0, 0);
    let (mut batch, mut truth, mut shares) = (empty(all), Vec::new(), Vec::new());
    for (row, label, share) in all[lead].rows() {
        for _ in 0..if alone { 1 } else { DRAWS } {
            push_row(&mut batch, all, subset, |i| {
                if i == lead {
                    row.to_vec()
                } else {
                    all[i].draw(label, &mut rng)
                }
            });
            truth.push(label);
            shares.push(share);
        }
    }
    (batch, truth, shares)
}

/// Predictions for the held-out rows of one subset. `answer` maps a [`HeadBatch`] to logits.
pub fn evaluate_subset(
    all: &[LabelledEmbeddings],
    subset: &Presence,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<LabelledLogits> {
    let (batch, truth, shares) = held_out(all, subset);
    let logits = answer(&batch)?;
    Ok(LabelledLogits::shared(LABELS.len(), logits, truth, shares))
}

/// Rows of `pairs` for a subset with face and voice; texts are joined by label.
pub(super) fn paired(
    all: &[LabelledEmbeddings],
    pairs: &[EmbeddingPair],
    subset: &Presence,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Vec<f32>> {
    let mut rng = generator(3, 0, 0);
    let mut batch = empty(all);
    for pair in pairs {
        push_row(&mut batch, all, subset, |i| match pair.embedding(i) {
            Some(embedding) => embedding.clone(),
            None => all[i].draw(pair.label, &mut rng),
        });
    }
    answer(&batch)
}

/// As [`evaluate_subset`]. For subsets with face and voice, `pairs` are added with the same total
/// weight as the joined rows.
pub(super) fn evaluate_with_pairs(
    all: &[LabelledEmbeddings],
    pairs: &[EmbeddingPair],
    subset: &Presence,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<LabelledLogits> {
    if pairs.is_empty() || !(subset.face && subset.voice) {
        return evaluate_subset(all, subset, answer);
    }
    let (batch, mut truth, mut shares) = held_out(all, subset);
    let mut logits = answer(&batch)?;
    logits.extend(paired(all, pairs, subset, answer)?);
    let each = shares.iter().sum::<f64>() / pairs.len() as f64;
    truth.extend(pairs.iter().map(|pair| pair.label));
    shares.extend(pairs.iter().map(|_| each));
    Ok(LabelledLogits::shared(LABELS.len(), logits, truth, shares))
}

/// The logits of each item of one modality alone, `[items, labels]` row by row.
pub fn single_modality_logits(
    all: &[LabelledEmbeddings],
    modality: Modality,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Vec<f32>> {
    let mut batch = empty(all);
    let lead = Modality::ALL
        .iter()
        .position(|m| *m == modality)
        .expect("it is one of them");
    for row in all[lead].first_views().chunks(all[lead].dim) {
        push_row(&mut batch, all, &only(modality), |_| row.to_vec());
    }
    answer(&batch)
}
