//! Runs the heads: embeddings of several clips become logits, then scores, confidence and
//! abstention; further heads give scores or numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::batch::{Embedded, rows_of, wrong_output};
use super::{Embeddings, place};
use crate::clip::{Absence, Recognition};
use crate::encode::{EncodeError, Graph, Input};
use crate::manifest::{FurtherHead, HeadKind, Manifest};
use crate::modality::{PerModality, Presence};
use crate::model::Bundle;

/// Runs the primary head on the embeddings of one clip; returns one logit for each label. An absent
/// embedding is passed as zeros with presence 0.
///
/// # Errors
/// The graph fails, or the output is not finite or its shape not `[1, labels]`.
pub fn head_logits(bundle: &mut Bundle, embeddings: &Embeddings) -> Result<Vec<f32>, EncodeError> {
    let embedded = embedded_of(&bundle.manifest, embeddings);
    let head = &bundle.manifest.head;
    let inputs = HeadInputs::new(&bundle.manifest, &head.inputs, &embedded, &[0]);
    let read = [HeadOutput {
        output: head.output,
        width: bundle.manifest.labels.len(),
    }];
    Ok(inputs.run_one(&mut bundle.head, &read)?.remove(0))
}

/// Runs the further heads on the embeddings of one clip; returns each head's output by its name,
/// before temperature or scale.
///
/// # Errors
/// As for [`head_logits`].
pub(super) fn further_outputs(
    bundle: &mut Bundle,
    embeddings: &Embeddings,
) -> Result<BTreeMap<String, Vec<f32>>, EncodeError> {
    let embedded = embedded_of(&bundle.manifest, embeddings);
    let Bundle {
        manifest,
        head,
        further,
        ..
    } = bundle;
    let mut outputs = BTreeMap::new();
    for entry in &manifest.further {
        let inputs = HeadInputs::new(manifest, &entry.inputs, &embedded, &[0]);
        let other = further.iter_mut().find(|h| h.sha256 == entry.sha256);
        let graph = other.map_or(&mut *head, |other| &mut other.graph);
        let output = inputs.run_one(graph, &[HeadOutput::of(entry)])?.remove(0);
        outputs.insert(entry.name.clone(), output);
    }
    Ok(outputs)
}

/// The embeddings of one clip, in the order of the manifest's encoders.
fn embedded_of(manifest: &Manifest, embeddings: &Embeddings) -> Vec<Embedded> {
    let encoders = manifest.encoders.iter();
    let rows = encoders.map(|entry| {
        let mut embedded = Embedded::none(1, entry.dim);
        if let Some(embedding) = embeddings.get(&entry.name) {
            embedded.set(0, embedding);
        }
        embedded
    });
    rows.collect()
}

/// The part of a graph's outputs that one head reads.
#[derive(Clone, Copy, Debug)]
struct HeadOutput {
    /// Index of the graph's output.
    output: usize,
    /// Number of values of a row.
    width: usize,
}

impl HeadOutput {
    fn of(entry: &FurtherHead) -> HeadOutput {
        HeadOutput {
            output: entry.output,
            width: entry.labels.len(),
        }
    }
}

/// The inputs of a head's graph for several clips, one row a clip.
struct HeadInputs<'a> {
    /// For each entry of the head's `inputs`: (length of a row, values `[rows, length]`).
    embeddings: Vec<(usize, &'a [f32])>,
    /// `[rows, inputs]`: 1 if the clip has an embedding by the encoder of this input, else 0.
    presence: Vec<f32>,
}

impl<'a> HeadInputs<'a> {
    /// Collects the inputs by the encoders `names` for the clips with the indices `clips`.
    /// `embedded` is in the order of the manifest's encoders; its `values` hold the rows of `clips`
    /// only.
    fn new(
        manifest: &Manifest,
        names: &[String],
        embedded: &'a [Embedded],
        clips: &[usize],
    ) -> HeadInputs<'a> {
        let places: Vec<Option<usize>> = names.iter().map(|name| place(manifest, name)).collect();
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
        }
    }

    /// Runs the graph on these rows, and reads the outputs `read`. `scatter` receives the index in
    /// `read`, the index of the row, and the row's values. It is not called for a row that is not
    /// finite.
    ///
    /// # Errors
    /// The run fails. Else the first output with another shape, or else the first row that is not
    /// finite; `scatter` has then received the other outputs and rows.
    fn run(
        &self,
        graph: &mut Graph,
        read: &[HeadOutput],
        rows: Range<usize>,
        mut scatter: impl FnMut(usize, usize, &[f32]),
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
        let (wrong, is_finite) = graph.run_unchecked(&bound, |outputs| {
            let (mut wrong, mut is_finite) = (None, true);
            for (index, HeadOutput { output, width }) in read.iter().enumerate() {
                match rows_of(outputs.get(*output..).unwrap_or_default(), count, *width) {
                    Ok(values) => {
                        for (i, row) in values.chunks(*width).enumerate() {
                            if row.iter().all(|value| value.is_finite()) {
                                scatter(index, rows.start + i, row);
                            } else {
                                is_finite = false;
                            }
                        }
                    }
                    Err(found) => wrong = wrong.or(Some((found, *width))),
                }
            }
            (wrong, is_finite)
        })?;
        match wrong {
            Some((found, width)) => Err(wrong_output(graph, found, count, width)),
            None if is_finite => Ok(()),
            None => Err(EncodeError::NotFinite {
                graph: graph.name().to_owned(),
            }),
        }
    }

    /// Runs the graph on the first row; returns the row of each output of `read`.
    fn run_one(
        &self,
        graph: &mut Graph,
        read: &[HeadOutput],
    ) -> Result<Vec<Vec<f32>>, EncodeError> {
        let mut found = vec![Vec::new(); read.len()];
        self.run(graph, read, 0..1, |index, _, row| {
            found[index] = row.to_vec()
        })?;
        Ok(found)
    }

    /// Runs the graph on all rows: in one run if the graph takes batches. If that run fails, each
    /// row runs alone.
    fn run_all(
        &self,
        graph: &mut Graph,
        read: &[HeadOutput],
        rows: usize,
        mut scatter: impl FnMut(usize, usize, &[f32]),
    ) {
        let is_done = rows > 1
            && graph.takes_batches()
            && self.run(graph, read, 0..rows, &mut scatter).is_ok();
        if !is_done {
            for row in 0..rows {
                if let Err(error) = self.run(graph, read, row..row + 1, &mut scatter) {
                    tracing::debug!(%error, "a head returned no output");
                }
            }
        }
    }
}

/// The outputs of all heads for one clip, before temperature and scale.
#[derive(Clone, Debug)]
pub(super) struct HeadOutputs {
    /// The primary head's logits; `None` if the clip has no embedding or the head fails.
    pub primary: Option<Vec<f32>>,
    /// For each further head: its output, and the modalities of its inputs that the clip has.
    /// `None` if there is none, or the head fails.
    pub further: Vec<Option<(Vec<f32>, Presence)>>,
}

/// The heads' outputs for each clip. `used` has the modalities of each clip's embeddings.
pub(super) fn outputs_of(
    bundle: &mut Bundle,
    mut embedded: Vec<Embedded>,
    used: &[Presence],
) -> Vec<HeadOutputs> {
    let nothing = HeadOutputs {
        primary: None,
        further: vec![None; bundle.manifest.further.len()],
    };
    let mut outputs = vec![nothing; used.len()];
    let clips: Vec<usize> = (0..used.len()).filter(|i| !used[*i].is_none()).collect();
    if clips.is_empty() {
        return outputs;
    }
    if clips.len() < used.len() {
        embedded
            .iter_mut()
            .for_each(|embedded| embedded.keep(&clips));
    }
    let Bundle {
        manifest,
        head,
        further,
        ..
    } = bundle;
    let primary = HeadOutput {
        output: manifest.head.output,
        width: manifest.labels.len(),
    };
    let sha256 = manifest.head.sha256.as_str();
    let graphs = std::iter::once((sha256, head, Some(primary))).chain(
        further
            .iter_mut()
            .map(|h| (h.sha256.as_str(), &mut h.graph, None)),
    );
    for (sha256, graph, primary) in graphs {
        let readers = manifest.further.iter().enumerate();
        let readers: Vec<_> = readers.filter(|(_, h)| h.sha256 == sha256).collect();
        let names = match (primary, readers.first()) {
            (None, Some((_, first))) => &first.inputs,
            _ => &manifest.head.inputs,
        };
        let of_readers = readers.iter().map(|(_, entry)| HeadOutput::of(entry));
        let read: Vec<_> = primary.into_iter().chain(of_readers).collect();
        let inputs = HeadInputs::new(manifest, names, &embedded, &clips);
        inputs.run_all(graph, &read, clips.len(), |index, row, values| {
            let clip = clips[row];
            match index.checked_sub(usize::from(primary.is_some())) {
                None => outputs[clip].primary = Some(values.to_vec()),
                Some(reader) => {
                    let (place, entry) = readers[reader];
                    let presence = presence_of(manifest, entry, &embedded, clip);
                    let has_evidence = !presence.is_none();
                    outputs[clip].further[place] =
                        has_evidence.then(|| (values.to_vec(), presence));
                }
            }
        });
    }
    outputs
}

/// The modalities of the head's inputs for which the clip has an embedding.
fn presence_of(
    manifest: &Manifest,
    head: &FurtherHead,
    embedded: &[Embedded],
    clip: usize,
) -> Presence {
    let mut presence = Presence::default();
    for place in head.inputs.iter().filter_map(|name| place(manifest, name)) {
        let modality = manifest.encoders[place].modality;
        *presence.get_mut(modality) |= embedded[place].is_present[clip];
    }
    presence
}

/// Computes scores, top label, confidence and abstention of the primary head, and the answers of
/// the further heads. If the primary head has no output, all its scores are equal and the
/// recognition abstains.
pub(super) fn recognition(
    manifest: &Manifest,
    outputs: &HeadOutputs,
    used: Presence,
    absence: PerModality<Option<Absence>>,
) -> Recognition {
    let labels = manifest.labels.len();
    let scores = match &outputs.primary {
        None => vec![1.0 / labels as f32; labels],
        Some(logits) => scores(manifest.task.into(), logits, manifest.temperature(&used)),
    };
    let top = (0..labels).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
    let confidence = scores[top];
    let abstain = outputs.primary.is_none() || confidence < manifest.head.abstain_threshold;
    let further = manifest.further.iter().zip(&outputs.further);
    let further = further.map(|(head, output)| {
        let (values, presence) = output.as_ref()?;
        answer(head, values, presence)
    });
    Recognition {
        scores,
        top,
        confidence,
        abstain,
        further: further.collect(),
        used,
        absence,
    }
}

/// The answer of a further head: the scores of its labels, or its numbers, clamped to their ranges.
/// `None` if the highest score is below the head's threshold.
fn answer(head: &FurtherHead, values: &[f32], presence: &Presence) -> Option<Vec<f32>> {
    let subset = presence.name();
    if head.kind == HeadKind::Regression {
        let scale = head.scale.get(&subset);
        let numbers = values.iter().zip(&head.range).enumerate();
        let scaled = numbers.map(|(i, (value, [low, high]))| {
            let [slope, offset] = scale.map_or([1.0, 0.0], |lines| lines[i]);
            (slope * value + offset).clamp(*low, *high)
        });
        return Some(scaled.collect());
    }
    let temperature = head.temperature.get(&subset).copied().unwrap_or(1.0);
    let scores = scores(head.kind, values, temperature);
    let highest = scores.iter().copied().fold(0.0, f32::max);
    (highest >= head.abstain_threshold.unwrap_or(0.0)).then_some(scores)
}

/// The scores of labels: the softmax or, if labels are independent, the sigmoid of
/// `logits / temperature`.
fn scores(kind: HeadKind, logits: &[f32], temperature: f32) -> Vec<f32> {
    match kind {
        HeadKind::Single => softmax(logits, temperature),
        _ => logits
            .iter()
            .map(|l| 1.0 / (1.0 + (-l / temperature).exp()))
            .collect(),
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
