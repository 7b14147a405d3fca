//! Runs the head: embeddings of several clips become logits, then scores, confidence and
//! abstention.

use super::Embeddings;
use super::batch::{Embedded, rows_of, wrong_output};
use crate::clip::{Absence, Recognition};
use crate::encode::{EncodeError, Graph, Input};
use crate::manifest::{Manifest, Task};
use crate::modality::{PerModality, Presence};
use crate::model::Bundle;

/// Runs the head on the embeddings of one clip; returns one logit for each label. An absent
/// embedding is passed as zeros with presence 0.
///
/// # Errors
/// The graph fails, or the shape of its output is not `[1, labels]`.
pub fn head_logits(bundle: &mut Bundle, embeddings: &Embeddings) -> Result<Vec<f32>, EncodeError> {
    let manifest = &bundle.manifest;
    let embedded: Vec<Embedded> = manifest
        .encoders
        .iter()
        .map(|entry| {
            let mut embedded = Embedded::none(1, entry.dim);
            if let Some(embedding) = embeddings.get(&entry.name) {
                embedded.set(0, embedding);
            }
            embedded
        })
        .collect();
    let mut logits = Vec::new();
    let inputs = HeadInputs::new(manifest, &embedded, &[0]);
    inputs.run(&mut bundle.head, 0..1, |_, row| logits = row.to_vec())?;
    Ok(logits)
}

/// The head's inputs for several clips, one row a clip.
struct HeadInputs<'a> {
    /// For each entry of the manifest's `head.inputs`: (length of a row, values `[rows, length]`).
    embeddings: Vec<(usize, &'a [f32])>,
    /// `[rows, inputs]`: 1 if the clip has an embedding by the encoder of this input, else 0.
    presence: Vec<f32>,
    /// Number of labels.
    labels: usize,
}

impl<'a> HeadInputs<'a> {
    /// Collects the inputs for the clips with the indices `clips`. `embedded` is in the order of
    /// the manifest's encoders; its `values` hold the rows of `clips` only.
    fn new(manifest: &Manifest, embedded: &'a [Embedded], clips: &[usize]) -> HeadInputs<'a> {
        let named = |name: &String| manifest.encoders.iter().position(|e| e.name == *name);
        let places: Vec<Option<usize>> = manifest.head.inputs.iter().map(named).collect();
        let presence = clips.iter().flat_map(|clip| {
            let is_present =
                |place: &Option<usize>| place.is_some_and(|p| embedded[p].is_present[*clip]);
            places
                .iter()
                .map(move |place| f32::from(u8::from(is_present(place))))
        });
        HeadInputs {
            presence: presence.collect(),
            embeddings: places
                .iter()
                .map(|place| match place {
                    Some(place) => (manifest.encoders[*place].dim, &embedded[*place].values[..]),
                    None => (0, &[][..]),
                })
                .collect(),
            labels: manifest.labels.len(),
        }
    }

    /// Runs the head on these rows. `scatter` receives the index and the logits of each row.
    fn run(
        &self,
        head: &mut Graph,
        rows: std::ops::Range<usize>,
        mut scatter: impl FnMut(usize, &[f32]),
    ) -> Result<(), EncodeError> {
        let count = rows.len();
        let of_rows = |values: &'a [f32], dim: usize| &values[rows.start * dim..rows.end * dim];
        let shapes: Vec<[usize; 2]> = self
            .embeddings
            .iter()
            .map(|(dim, _)| [count, *dim])
            .collect();
        let inputs = self.embeddings.len();
        let presence_shape = [count, inputs];
        let mut bound: Vec<Input<'_>> = self
            .embeddings
            .iter()
            .zip(&shapes)
            .map(|((dim, values), shape)| Input::F32(shape, of_rows(values, *dim)))
            .collect();
        let presence = &self.presence[rows.start * inputs..rows.end * inputs];
        bound.push(Input::F32(&presence_shape, presence));
        let scattered = head.run_with(&bound, |outputs| {
            let logits = rows_of(outputs, count, self.labels)?;
            for (i, logits) in logits.chunks(self.labels).enumerate() {
                scatter(rows.start + i, logits);
            }
            Ok(())
        })?;
        scattered.map_err(|found| wrong_output(head, found, count, self.labels))
    }
}

/// The logits of each clip; `None` if it has no embedding (`used` is empty) or the head fails.
///
/// All clips share one run if the head takes batches. If that run fails, each clip runs alone.
pub(super) fn logits_of(
    bundle: &mut Bundle,
    mut embedded: Vec<Embedded>,
    used: &[Presence],
) -> Vec<Option<Vec<f32>>> {
    let mut logits = vec![None; used.len()];
    let clips: Vec<usize> = (0..used.len()).filter(|i| !used[*i].is_none()).collect();
    if clips.is_empty() {
        return logits;
    }
    if clips.len() < used.len() {
        embedded
            .iter_mut()
            .for_each(|embedded| embedded.keep(&clips));
    }
    let Bundle { manifest, head, .. } = bundle;
    let inputs = HeadInputs::new(manifest, &embedded, &clips);
    let mut scatter = |row: usize, values: &[f32]| logits[clips[row]] = Some(values.to_vec());
    let is_done = clips.len() > 1
        && head.takes_batches()
        && inputs.run(head, 0..clips.len(), &mut scatter).is_ok();
    if !is_done {
        for row in 0..clips.len() {
            if let Err(error) = inputs.run(head, row..row + 1, &mut scatter) {
                tracing::debug!(%error, "the head returned no logits");
            }
        }
    }
    logits
}

/// Computes scores, top label, confidence and abstention from logits. `logits` is `None` if there
/// is no evidence or the head failed: then all scores are equal and the recognition abstains.
pub(super) fn recognition(
    manifest: &Manifest,
    logits: Option<&[f32]>,
    used: Presence,
    absence: PerModality<Option<Absence>>,
) -> Recognition {
    let labels = manifest.labels.len();
    let scores = match (logits, manifest.task) {
        (None, _) => vec![1.0 / labels as f32; labels],
        (Some(logits), Task::Single) => softmax(logits, manifest.temperature(&used)),
        (Some(logits), Task::Multi) => logits
            .iter()
            .map(|l| 1.0 / (1.0 + (-l / manifest.temperature(&used)).exp()))
            .collect(),
    };
    let top = (0..labels).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
    let confidence = scores[top];
    let abstain = logits.is_none() || confidence < manifest.head.abstain_threshold;
    Recognition {
        scores,
        top,
        confidence,
        abstain,
        used,
        absence,
    }
}

/// Softmax of `logits / temperature`.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|l| f64::from((l - highest) / temperature).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / sum) as f32).collect()
}
