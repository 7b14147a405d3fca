//! What the head learns from: embeddings of faces and voices, by label.

use rand::Rng;
use rand::rngs::StdRng;

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::preprocess::{LogMel, normalise};
use crate::train::augment::{vary_crop, vary_voice};
use crate::train::data::{Part, fer, ravdess};
use crate::train::finetune::{VoiceRun, encode_faces};
use crate::train::fit::{device, tensor, values};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;
use crate::train::samples::{generator, live_windows, milliseconds, random_start};

/// Embeddings by label of the wire: of each item (a picture, a window) one or several views.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub(super) dim: usize,
    /// Per label, per item, views of `dim` values.
    by_label: Vec<Vec<Vec<f32>>>,
}

impl Evidence {
    pub fn new(dim: usize) -> Self {
        Evidence {
            dim,
            by_label: vec![Vec::new(); LABELS.len()],
        }
    }

    pub fn push(&mut self, label: usize, views: Vec<f32>) {
        assert_eq!(views.len() % self.dim, 0);
        self.by_label[label].push(views);
    }

    /// The mean of some of the views of an item of this label.
    pub(super) fn draw(&self, label: usize, rng: &mut StdRng) -> Vec<f32> {
        let item = &self.by_label[label][rng.random_range(0..self.by_label[label].len())];
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

    pub fn count(&self) -> usize {
        self.by_label.iter().map(Vec::len).sum()
    }

    /// Every item's first view, with its label.
    pub(super) fn rows(&self) -> (Vec<f32>, Vec<usize>) {
        let items = self
            .by_label
            .iter()
            .enumerate()
            .flat_map(|(label, items)| items.iter().map(move |item| (label, item)));
        items.fold(
            (Vec::new(), Vec::new()),
            |(mut rows, mut truth), (label, item)| {
                rows.extend_from_slice(&item[..self.dim]);
                truth.push(label);
                (rows, truth)
            },
        )
    }
}

/// Of each picture its embedding, and in training that of varied views too.
pub(super) fn face_evidence(
    recipe: &Recipe,
    net: &Encoder,
    crops: &[fer::LabelledCrop],
    part: Part,
) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence::new(recipe.face.shape.dim);
    let views = if part == Part::Train {
        recipe.head.views
    } else {
        1
    };
    let crops: Vec<_> = crops.iter().filter(|c| c.part == part).collect();
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
        for (sample, views) in chunk.iter().zip(embeddings.chunks(evidence.dim * views)) {
            evidence.push(sample.label, views.to_vec());
        }
    }
    Ok(evidence)
}

/// In training varied windows of each clip, each an item of its own; else the windows as the daemon would cut them.
pub(super) fn voice_evidence(
    recipe: &Recipe,
    net: &Encoder,
    which: VoiceRun,
    part: Part,
) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence::new(recipe.voice.shape.dim);
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let length = milliseconds(recipe.window.length_ms);
    let (hop, least) = (
        milliseconds(recipe.window.hop_ms),
        milliseconds(recipe.voice.preprocessing.min_speech_ms),
    );
    for (index, clip) in ravdess::read(&recipe.ravdess_folder(), part, which.held_out(recipe))?
        .iter()
        .enumerate()
    {
        let label =
            label_index(RAVDESS[clip.emotion]).expect("every emotion of RAVDESS is on the wire");
        let mut encode = |pieces: &[&[f32]]| -> anyhow::Result<()> {
            let spectrograms: Vec<Vec<f32>> =
                pieces.iter().map(|piece| mel.compute(piece).0).collect();
            let shape = [
                pieces.len(),
                1,
                recipe.voice.preprocessing.mels,
                mel.frames(pieces[0].len()),
            ];
            let embeddings = values(
                net.forward(tensor(spectrograms.concat(), shape, &device()))
                    .0,
            )?;
            embeddings
                .chunks(evidence.dim)
                .for_each(|views| evidence.push(label, views.to_vec()));
            Ok(())
        };
        if part == Part::Train {
            let mut rng = generator(recipe.seed + 2, 0, index);
            let pieces: Vec<Vec<f32>> = (0..4 * recipe.head.views)
                .map(|_| {
                    vary_voice(
                        &clip.samples,
                        random_start(clip, length, &mut rng),
                        length,
                        &mut rng,
                    )
                })
                .collect();
            encode(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        } else {
            // Those early in a recording are shorter: one by one.
            live_windows(clip, length, hop, least)
                .into_iter()
                .try_for_each(|piece| encode(&[piece]))?;
        }
    }
    Ok(evidence)
}
