//! Runs one encoder on several clips: selects the inputs that are not cached, gathers them into
//! batches, runs the graph, and stores the embeddings by clip.

use std::collections::HashSet;
use std::ops::Range;

use super::cache::FaceCache;
use crate::clip::{Clip, Crop, Face};
use crate::encode::{EncodeError, Graph, Input, OutputView};
use crate::manifest::{EncoderKind, FacePreprocessing, Manifest};
use crate::modality::Modality;
use crate::model::Encoder;
use crate::preprocess::{LogMel, MelCache, normalise_into};

/// Largest number of rows (inputs) in one run of a graph, unless a single clip has more. It bounds
/// the memory of activations.
const ROWS_PER_RUN: usize = 32;

/// The embeddings of several clips by one encoder.
#[derive(Debug)]
pub(super) struct Embedded {
    dim: usize,
    /// `[clips, dim]`; a clip without an embedding has a row of zeros.
    pub values: Vec<f32>,
    /// Whether each clip has an embedding.
    pub is_present: Vec<bool>,
}

impl Embedded {
    /// A table for `clips` clips, none of which has an embedding yet.
    pub fn none(clips: usize, dim: usize) -> Embedded {
        Embedded {
            dim,
            values: vec![0.0; clips * dim],
            is_present: vec![false; clips],
        }
    }

    /// Sets the embedding of the clip with the index `clip`.
    pub fn set(&mut self, clip: usize, embedding: &[f32]) {
        self.row(clip).copy_from_slice(embedding);
        self.is_present[clip] = true;
    }

    /// The row of the clip with this index.
    fn row(&mut self, clip: usize) -> &mut [f32] {
        &mut self.values[clip * self.dim..(clip + 1) * self.dim]
    }

    /// Keeps only the rows of the clips with these indices, which must be ascending. `is_present`
    /// is unchanged.
    pub fn keep(&mut self, clips: &[usize]) {
        for (to, from) in clips.iter().enumerate() {
            let from = from * self.dim..(from + 1) * self.dim;
            self.values.copy_within(from, to * self.dim);
        }
        self.values.truncate(clips.len() * self.dim);
    }
}

/// A face or voice encoder with its preprocessing and caches.
pub(super) struct ClipEncoder<'a> {
    pub encoder: &'a mut Encoder,
    pub manifest: &'a Manifest,
    /// Required for voice encoders.
    pub mel: Option<&'a LogMel>,
    /// Embeddings of this encoder by face.
    pub cache: &'a mut FaceCache,
    /// Mel frames of the newest windows.
    pub mels: &'a mut MelCache,
    /// Buffer for the graph's input, one row after another; reused from run to run.
    pub input: &'a mut Vec<f32>,
}

impl ClipEncoder<'_> {
    /// Embeds the clips that have the encoder's modality. Returns (index of the clip, error) for
    /// each failure.
    ///
    /// If a run of several clips fails, each of these clips runs alone, so that a faulty clip does
    /// not affect the others.
    pub fn embed(&mut self, clips: &[&Clip], embedded: &mut Embedded) -> Vec<(usize, EncodeError)> {
        let modality = self.encoder.entry.modality;
        let wanted: Vec<usize> = (0..clips.len())
            .filter(|i| *clips[*i].presence().get(modality))
            .collect();
        match (modality, self.encoder.entry.kind) {
            (Modality::Face, EncoderKind::Frame) => self.embed_frames(clips, &wanted, embedded),
            (Modality::Face, _) => {
                let shape = self.window_shape();
                let size = shape.iter().product();
                self.embed_windows(clips, &wanted, &|_| (shape.clone(), size), embedded)
            }
            _ => {
                let mel = self.mel.expect("checked when the bundle was opened");
                let shape = |clip: &Clip| {
                    let frames = mel.frames(samples(clip).len());
                    (vec![1, mel.mels(), frames], mel.mels() * frames)
                };
                self.embed_windows(clips, &wanted, &shape, embedded)
            }
        }
    }

    /// Embeds the clips with the indices `wanted` by an encoder that takes one input for each clip.
    /// `shape_of` returns (shape of a clip's input, number of its elements). Clips with inputs of
    /// the same shape share a run.
    fn embed_windows(
        &mut self,
        clips: &[&Clip],
        wanted: &[usize],
        shape_of: &dyn Fn(&Clip) -> (Vec<usize>, usize),
        embedded: &mut Embedded,
    ) -> Vec<(usize, EncodeError)> {
        let mut waiting = wanted.to_vec();
        let mut failed = Vec::new();
        while let Some(first) = waiting.first().copied() {
            let (shape, size) = shape_of(clips[first]);
            let most = if self.encoder.graph.takes_batches() {
                ROWS_PER_RUN
            } else {
                1
            };
            let group: Vec<usize> = waiting
                .iter()
                .copied()
                .filter(|i| shape_of(clips[*i]).0 == shape)
                .take(most)
                .collect();
            waiting.retain(|i| !group.contains(i));
            self.input.clear();
            for clip in &group {
                self.gather_window(clips[*clip]);
            }
            let Encoder { entry, graph } = &mut *self.encoder;
            let mut run = |rows: Range<usize>| {
                let input = &self.input[rows.start * size..rows.end * size];
                run_rows(graph, entry.dim, &shape, input, |row, embedding| {
                    embedded.set(group[rows.start + row], embedding)
                })
            };
            let Err(error) = run(0..group.len()) else {
                continue;
            };
            if let [clip] = group[..] {
                failed.push((clip, error));
                continue;
            }
            for (row, clip) in group.iter().enumerate() {
                failed.extend(run(row..row + 1).err().map(|error| (*clip, error)));
            }
        }
        failed
    }

    /// Appends the clip's input to the input buffer.
    fn gather_window(&mut self, clip: &Clip) {
        let entry = &self.encoder.entry;
        if entry.modality == Modality::Face {
            let crops: Vec<&Crop> = entry
                .input_faces(&clip.faces)
                .filter_map(|f| f.crop.as_deref())
                .collect();
            gather_frames(self.encoder, self.manifest, &crops, self.input);
        } else {
            let mel = self.mel.expect("checked when the bundle was opened");
            let samples = clip.voice.as_ref().map(|voice| voice.samples.clone());
            let samples = samples.unwrap_or_default();
            self.mels
                .compute_into(mel, clip.span.start, samples, self.input);
        }
    }

    /// Shape of the input for one window of faces, `[frames, channels, size, size]`.
    fn window_shape(&self) -> Vec<usize> {
        let face = face_of(self.manifest);
        let frames = self.encoder.entry.input[0].max(1);
        vec![frames, face.channels, face.size, face.size]
    }

    /// Embeds the clips with the indices `wanted` by an encoder that takes single crops. Only crops
    /// that are not cached run. The embedding of a clip is the mean over its crops, weighted by
    /// age.
    fn embed_frames(
        &mut self,
        clips: &[&Clip],
        wanted: &[usize],
        embedded: &mut Embedded,
    ) -> Vec<(usize, EncodeError)> {
        if wanted.len() > 1 && self.encoder.graph.takes_batches() {
            self.run_new_faces(clips, wanted);
        }
        let mut failed = Vec::new();
        for clip in wanted {
            // Nothing is left to run after a successful batch.
            let new = self.new_faces(clips[*clip], &HashSet::new());
            match self.run_faces(&new) {
                Ok(()) => self.weighted_mean(clips[*clip], *clip, embedded),
                Err(error) => failed.push((*clip, error)),
            }
        }
        failed
    }

    /// Runs the crops of several clips that are not cached, in few runs. The crops of a clip are in
    /// the same run. Errors are ignored, because the caller repeats a failed run clip by clip.
    fn run_new_faces(&mut self, clips: &[&Clip], wanted: &[usize]) {
        let (mut planned, mut group) = (HashSet::new(), Vec::new());
        for clip in wanted {
            let new = self.new_faces(clips[*clip], &planned);
            if group.len() + new.len() > ROWS_PER_RUN {
                let _ = self.run_faces(&group);
                group.clear();
            }
            planned.extend(new.iter().map(|face| face.id));
            group.extend(new);
        }
        let _ = self.run_faces(&group);
    }

    /// The clip's faces that the encoder takes and that are in neither the cache nor `planned` (ids
    /// of faces).
    fn new_faces<'c>(&self, clip: &'c Clip, planned: &HashSet<u64>) -> Vec<&'c Face> {
        self.encoder
            .entry
            .input_faces(&clip.faces)
            .map(|face| &**face)
            .filter(|face| face.crop.is_some())
            .filter(|face| self.cache.get(face.id).is_none() && !planned.contains(&face.id))
            .collect()
    }

    /// Embeds the crops of `faces` and adds the embeddings to the cache.
    fn run_faces(&mut self, faces: &[&Face]) -> Result<(), EncodeError> {
        if faces.is_empty() {
            return Ok(());
        }
        let crops: Vec<&Crop> = faces.iter().filter_map(|f| f.crop.as_deref()).collect();
        let cache = &mut *self.cache;
        run_crops(
            self.encoder,
            self.manifest,
            &crops,
            self.input,
            |row, embedding| cache.insert(faces[row].id, embedding.into()),
        )
    }

    /// Sets the embedding of the clip with the index `row` to the weighted mean over its cached
    /// crops.
    fn weighted_mean(&self, clip: &Clip, row: usize, embedded: &mut Embedded) {
        let weight = |face: &Face| match self.manifest.window.half_life_ms {
            None => 1.0,
            Some(half_life_ms) => (-clip.span.end.nanos_since(face.time) as f64 * 1e-6
                / f64::from(half_life_ms))
            .exp2(),
        };
        let entry = &self.encoder.entry;
        let faces = entry
            .input_faces(&clip.faces)
            .filter(|face| face.crop.is_some());
        let known = faces.filter_map(|face| Some((weight(face), self.cache.get(face.id)?)));
        embedded.set(row, &mean(entry.dim, known));
    }
}

/// The clip's mono samples; empty if it has no voice.
fn samples(clip: &Clip) -> &[f32] {
    clip.voice.as_ref().map_or(&[], |voice| &voice.samples)
}

/// The manifest's preprocessing of faces; panics if there is none.
fn face_of(manifest: &Manifest) -> &FacePreprocessing {
    let face = manifest.face.as_ref();
    face.expect("checked when the bundle was opened")
}

/// Embeds crops with an encoder of kind `frame`. `scatter` receives the index of each crop and its
/// embedding.
pub(super) fn run_crops(
    encoder: &mut Encoder,
    manifest: &Manifest,
    crops: &[&Crop],
    input: &mut Vec<f32>,
    scatter: impl FnMut(usize, &[f32]),
) -> Result<(), EncodeError> {
    let face = face_of(manifest);
    let how = encoder.entry.normalise.as_ref().unwrap_or(&face.normalise);
    input.clear();
    for crop in crops {
        normalise_into(crop, how, input);
    }
    let shape = [face.channels, face.size, face.size];
    run_rows(
        &mut encoder.graph,
        encoder.entry.dim,
        &shape,
        input,
        scatter,
    )
}

/// Appends one input `[frames, channels, size, size]`: as many evenly spaced crops as the encoder's
/// manifest entry states (`src/train/method.md` a.4).
pub(super) fn gather_frames(
    encoder: &Encoder,
    manifest: &Manifest,
    crops: &[&Crop],
    input: &mut Vec<f32>,
) {
    let how = encoder.entry.normalise.as_ref();
    let how = how.unwrap_or(&face_of(manifest).normalise);
    let frames = encoder.entry.input[0].max(1);
    for i in 0..frames {
        let pick = i * (crops.len() - 1) / (frames - 1).max(1);
        normalise_into(crops[pick], how, input);
    }
}

/// Runs `graph` on the rows of `input`, each of shape `row`: in one run if the graph takes batches,
/// else row by row. `scatter` receives the index of each row and the row's part of the first
/// output, `dim` numbers.
pub(super) fn run_rows(
    graph: &mut Graph,
    dim: usize,
    row: &[usize],
    input: &[f32],
    mut scatter: impl FnMut(usize, &[f32]),
) -> Result<(), EncodeError> {
    let size = row.iter().product::<usize>().max(1);
    let rows = input.len() / size;
    let per_run = if graph.takes_batches() { rows } else { 1 };
    let mut shape = [&[per_run], row].concat();
    for (run, values) in input.chunks(per_run.max(1) * size).enumerate() {
        shape[0] = values.len() / size;
        let scattered = graph.run_with(&[Input::F32(&shape, values)], |outputs| {
            let embeddings = rows_of(outputs, shape[0], dim)?;
            for (i, embedding) in embeddings.chunks(dim).enumerate() {
                scatter(run * per_run + i, embedding);
            }
            Ok(())
        })?;
        scattered.map_err(|found| wrong_output(graph, found, shape[0], dim))?;
    }
    Ok(())
}

/// The values of the first output, `[rows, dim]`.
///
/// # Errors
/// The first output has another shape, which is the error's value; it is empty if there is no
/// output.
pub(super) fn rows_of<'a>(
    outputs: &[OutputView<'a>],
    rows: usize,
    dim: usize,
) -> Result<&'a [f32], Vec<usize>> {
    match outputs.first() {
        Some(output) if output.has_shape(&[rows, dim]) => Ok(output.values),
        other => Err(other.map_or_else(Vec::new, OutputView::shape)),
    }
}

/// The error for an output of shape `found` instead of `[rows, dim]`.
pub(super) fn wrong_output(
    graph: &Graph,
    found: Vec<usize>,
    rows: usize,
    dim: usize,
) -> EncodeError {
    EncodeError::WrongOutput {
        graph: graph.name().to_owned(),
        found: format!("{found:?}"),
        expected: format!("{:?}", [rows, dim]),
    }
}

/// The mean of (weight, vector) pairs, each vector of length `dim`; zeros if there are none.
pub(super) fn mean<'a>(dim: usize, vectors: impl Iterator<Item = (f64, &'a [f32])>) -> Vec<f32> {
    let (mut sum, mut all) = (vec![0.0f64; dim], 0.0);
    for (weight, vector) in vectors {
        all += weight;
        sum.iter_mut()
            .zip(vector)
            .for_each(|(s, v)| *s += weight * f64::from(*v));
    }
    sum.iter()
        .map(|s| if all > 0.0 { (s / all) as f32 } else { 0.0 })
        .collect()
}
