//! Evaluation of a fusion head on held-out embeddings.

use crate::labels::LABELS;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::LabelledLogits;
use crate::train::embeddings::{EmbeddingPair, LabelledEmbeddings};
use crate::train::samples::generator;

use super::{HeadBatch, empty, only, push_row};

/// Evaluation rows for one subset of modalities. Returns the inputs of the head, and for each row
/// the index of its label and its weight. `all`: the held-out embeddings of each modality, in the
/// order of [`Modality::ALL`].
///
/// Each row contains an item of the leading modality: voice if it is in the subset, otherwise face,
/// otherwise text. Random items with the same label are added for the other modalities. A subset of
/// several modalities has `DRAWS` rows per item. An item on whose label annotators disagree has
/// rows for each of its labels, with weights that sum to 1.
pub(super) fn held_out(
    all: &[LabelledEmbeddings],
    subset: &Presence,
) -> (HeadBatch, Vec<usize>, Vec<f64>) {
    /// Number of rows per item, which differ in the random items of the other modalities.
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

/// Predictions for held-out items with the modalities of `subset`, with true labels and weights.
///
/// `all`: the held-out embeddings of each modality, in the order of [`Modality::ALL`]. Items of
/// different modalities are joined by label. `answer` maps a [`HeadBatch`] to logits `[rows,
/// labels]`, row by row.
///
/// # Errors
/// Those of `answer`.
pub fn evaluate_subset(
    all: &[LabelledEmbeddings],
    subset: &Presence,
    answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<LabelledLogits> {
    let (batch, truth, shares) = held_out(all, subset);
    let logits = answer(&batch)?;
    Ok(LabelledLogits::shared(LABELS.len(), logits, truth, shares))
}

/// Logits `[pairs, labels]` for faces and voices of one person, row by row. Only the modalities of
/// `subset` are present; a text is a random one with the same label. `answer` maps a [`HeadBatch`]
/// to logits.
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

/// As [`evaluate_subset`]; for subsets with face and voice, rows of `pairs` (of one person) are
/// added. Together they weigh as much as the rows that are joined by label.
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

/// The logits of each held-out item of `modality` with all other modalities absent, `[items,
/// labels]` row by row. `all`: the embeddings of each modality, in the order of [`Modality::ALL`];
/// `answer` maps a [`HeadBatch`] to logits.
///
/// # Errors
/// Those of `answer`.
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
