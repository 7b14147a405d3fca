//! Embeddings by label: training and test data of the fusion head.

use rand::Rng;
use rand::rngs::StdRng;

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::preprocess::{LogMel, normalise};
use crate::train::augment::{vary_crop, vary_voice};
use crate::train::data::speech_clip::LabelledClip;
use crate::train::data::{Part, fer};
use crate::train::encoder_runs::{VoiceRun, encode_faces};
use crate::train::fit::{device, tensor, values};
use crate::train::net::Encoder;
use crate::train::prior::log_shares;
use crate::train::recipe::Recipe;
use crate::train::samples::{generator, live_windows, milliseconds, random_start};

/// Embeddings of items by label, with one or several views of each item (a picture, a window). If
/// annotators disagree on an item, it belongs to several labels, to each with a share.
#[derive(Clone, Debug)]
pub struct LabelledEmbeddings {
    /// Length of an embedding.
    pub(super) dim: usize,
    /// The views of each item: `[views, dim]`, row-major.
    items: Vec<Vec<f32>>,
    /// The items of each label, in the order of [`LABELS`].
    by_label: Vec<Vec<Share>>,
}

/// An item of one label, and its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    /// Index of the item.
    item: usize,
    /// Share of the item that belongs to the label, such as the share of its annotators' votes.
    share: f64,
    /// Sum of the shares of the label's items up to and including this one, for weighted draws.
    until: f64,
}

impl LabelledEmbeddings {
    /// No items, for embeddings of length `dim`.
    pub fn new(dim: usize) -> Self {
        LabelledEmbeddings {
            dim,
            items: Vec::new(),
            by_label: vec![Vec::new(); LABELS.len()],
        }
    }

    /// Adds an item with one label. `label`: its index in [`LABELS`]; `views`: `[views, dim]`,
    /// row-major.
    pub fn push(&mut self, label: usize, views: Vec<f32>) {
        let mut shares = [0.0; LABELS.len()];
        shares[label] = 1.0;
        self.push_shares(&shares, views);
    }

    /// Adds an item that belongs to several labels. `shares`: its share of each label, in the order
    /// of [`LABELS`]; `views`: `[views, dim]`, row-major.
    pub fn push_shares(&mut self, shares: &[f32; LABELS.len()], views: Vec<f32>) {
        assert_eq!(views.len() % self.dim, 0);
        for (of_label, share) in self.by_label.iter_mut().zip(shares.map(f64::from)) {
            if share > 0.0 {
                let before = of_label.last().map_or(0.0, |last| last.until);
                of_label.push(Share {
                    item: self.items.len(),
                    share,
                    until: before + share,
                });
            }
        }
        self.items.push(views);
    }

    /// The mean of some randomly chosen views of a randomly drawn item with this label. The
    /// probability of an item is proportional to its share of the label. A picture with votes is
    /// thus drawn as often as its annotators chose the label.
    pub(super) fn draw(&self, label: usize, rng: &mut StdRng) -> Vec<f32> {
        let of_label = &self.by_label[label];
        let all = of_label.last().map_or(0.0, |last| last.until);
        let drawn = rng.random::<f64>() * all;
        let place = of_label.partition_point(|share| share.until <= drawn);
        let item = &self.items[of_label[place.min(of_label.len() - 1)].item];
        let views = item.len() / self.dim;
        let (first, count) = (rng.random_range(0..views), rng.random_range(1..=views));
        let mut mean = vec![0.0; self.dim];
        for view in (0..count).map(|i| (first + i) % views) {
            mean.iter_mut()
                .zip(&item[view * self.dim..])
                .for_each(|(m, v)| *m += v / count as f32);
        }
        mean
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Adds the items of `other`. Their weights are scaled so that they make up `share` (0..1,
    /// below 1) of the draws of each label, whatever their number. A label that only one of the two
    /// sets has keeps its weights.
    pub fn join(&mut self, other: LabelledEmbeddings, share: f64) {
        assert_eq!(self.dim, other.dim);
        let offset = self.items.len();
        for (of_label, others) in self.by_label.iter_mut().zip(other.by_label) {
            let sum = |shares: &[Share]| shares.last().map_or(0.0, |last| last.until);
            let (own, new) = (sum(of_label), sum(&others));
            let factor = if own > 0.0 && new > 0.0 {
                share / (1.0 - share) * own / new
            } else {
                1.0
            };
            of_label.extend(others.into_iter().map(|s| Share {
                item: s.item + offset,
                share: s.share * factor,
                until: own + s.until * factor,
            }));
        }
        self.items.extend(other.items);
    }

    /// The first view of every item, once for each of its labels: embedding, index of the label in
    /// [`LABELS`], and the item's share of the label.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&[f32], usize, f64)> {
        self.by_label
            .iter()
            .enumerate()
            .flat_map(|(label, shares)| shares.iter().map(move |share| (label, share)))
            .map(move |(label, share)| (&self.items[share.item][..self.dim], label, share.share))
    }

    /// The first views of all items: `[items, dim]`, row-major.
    pub(super) fn first_views(&self) -> Vec<f32> {
        self.items
            .iter()
            .flat_map(|item| item[..self.dim].iter().copied())
            .collect()
    }

    /// The logarithm of each label's share of all items, by [`log_shares`].
    pub(super) fn log_shares(&self) -> Vec<f32> {
        let sum = |shares: &Vec<Share>| shares.last().map_or(0.0, |last| last.until);
        log_shares(&self.by_label.iter().map(sum).collect::<Vec<f64>>())
    }
}

/// Embeddings of the face and the voice of one person at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingPair {
    /// Index of the label in [`LABELS`].
    pub label: usize,
    /// Embedding of the face.
    pub face: Vec<f32>,
    /// Embedding of the voice.
    pub voice: Vec<f32>,
}

impl EmbeddingPair {
    /// The embedding of the modality with index `modality` in
    /// [`Modality::ALL`](crate::modality::Modality::ALL); `None` for text.
    pub fn embedding(&self, modality: usize) -> Option<&Vec<f32>> {
        [&self.face, &self.voice].get(modality).copied()
    }
}

/// The embeddings of the pictures of one part of the data that have votes. Training pictures also
/// have augmented views.
pub(super) fn face_embeddings(
    recipe: &Recipe,
    net: &Encoder,
    crops: &[fer::LabelledCrop],
    part: Part,
) -> anyhow::Result<LabelledEmbeddings> {
    let mut labelled = LabelledEmbeddings::new(recipe.face.shape.dim);
    let views = if part == Part::Train {
        recipe.head.views
    } else {
        1
    };
    let (crops, _) = fer::with_votes(crops, part);
    for (index, chunk) in crops.chunks(64).enumerate() {
        let mut rng = generator(recipe.seed + 1, 0, index);
        let mut inputs = Vec::new();
        for sample in chunk {
            inputs.push(normalise(
                &sample.crop,
                &recipe.face.preprocessing.normalise,
            ));
            inputs.extend((1..views).map(|_| {
                normalise(
                    &vary_crop(&sample.crop, recipe.face.preprocessing.size, &mut rng),
                    &recipe.face.preprocessing.normalise,
                )
            }));
        }
        let (embeddings, _) = encode_faces(net, &inputs, recipe.face.preprocessing.size)?;
        for (sample, views) in chunk.iter().zip(embeddings.chunks(labelled.dim * views)) {
            labelled.push_shares(&sample.votes.shares(), views.to_vec());
        }
    }
    Ok(labelled)
}

/// The embeddings of voice windows of one part of the data. In the training part, each augmented
/// window of a clip is an item; in other parts, the windows are those that the daemon would cut.
/// `which`: the voice run that names the clips.
pub(super) fn voice_embeddings(
    recipe: &Recipe,
    net: &Encoder,
    which: VoiceRun,
    part: Part,
) -> anyhow::Result<LabelledEmbeddings> {
    let mut labelled = LabelledEmbeddings::new(recipe.voice.shape.dim);
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let length = milliseconds(recipe.window.length_ms);
    for (index, clip) in which.clips(recipe, part)?.iter().enumerate() {
        if part != Part::Train {
            push_clip(recipe, net, &mel, clip, &mut labelled)?;
            continue;
        }
        let mut rng = generator(recipe.seed + 2, 0, index);
        let pieces: Vec<Vec<f32>> = (0..4 * recipe.head.views)
            .map(|_| {
                let start = random_start(clip, length, &mut rng);
                vary_voice(&clip.samples, start, length, &mut rng)
            })
            .collect();
        let pieces: Vec<&[f32]> = pieces.iter().map(Vec::as_slice).collect();
        push_pieces(net, &mel, clip, &pieces, &mut labelled)?;
    }
    Ok(labelled)
}

/// Adds the embedding of each window of a clip to `labelled`. The windows are those that the daemon
/// would cut.
pub(super) fn push_clip(
    recipe: &Recipe,
    net: &Encoder,
    mel: &LogMel,
    clip: &LabelledClip,
    labelled: &mut LabelledEmbeddings,
) -> anyhow::Result<()> {
    let length = milliseconds(recipe.window.length_ms);
    let (hop, least) = (
        milliseconds(recipe.window.hop_ms),
        milliseconds(recipe.voice.preprocessing.min_speech_ms),
    );
    let pieces = live_windows(clip, length, hop, least);
    // Windows at the start of a recording are shorter; a batch needs windows of equal length.
    for alike in pieces.chunk_by(|a, b| a.len() == b.len()) {
        push_pieces(net, mel, clip, alike, labelled)?;
    }
    Ok(())
}

/// Adds one item per window in `pieces` (samples); all windows have the same length.
fn push_pieces(
    net: &Encoder,
    mel: &LogMel,
    clip: &LabelledClip,
    pieces: &[&[f32]],
    labelled: &mut LabelledEmbeddings,
) -> anyhow::Result<()> {
    let label =
        label_index(RAVDESS[clip.emotion]).expect("every emotion of RAVDESS is on the wire");
    let spectrograms: Vec<Vec<f32>> = pieces.iter().map(|piece| mel.compute(piece).0).collect();
    let frames = mel.frames(pieces[0].len());
    let shape = [pieces.len(), 1, spectrograms[0].len() / frames, frames];
    let input = tensor(spectrograms.concat(), shape, &device());
    for views in values(net.forward(input).0)?.chunks(labelled.dim) {
        labelled.push(label, views.to_vec());
    }
    Ok(())
}
