//! Batches for the encoders: labelled crops and clips, varied, preprocessed as the daemon does it.

#[cfg(feature = "train-torch")]
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::clip::SAMPLE_RATE_HZ;
use crate::preprocess::{LogMel, normalise};
use crate::train::augment::{mask_spectrogram, vary_crop, vary_voice};
use crate::train::data::fer::LabelledCrop;
use crate::train::data::ravdess::LabelledClip;
#[cfg(feature = "train-torch")]
use crate::train::device::{is_torch, precision};
#[cfg(feature = "train-torch")]
use crate::train::fit::differentiated;
use crate::train::fit::{Batches, Learner, soft_cross_entropy, tensor};
use crate::train::net::Encoder;
use crate::train::recipe::{EarlyEpochs, FaceRecipe, FitSettings, VoiceRecipe};

/// `[count, 1, rows, columns]` and soft targets `[count, classes]`.
#[derive(Clone, Debug)]
pub struct PlaneBatch {
    pub values: Vec<f32>,
    pub shape: [usize; 4],
    pub targets: Vec<f32>,
}

impl Learner for Encoder {
    type Batch = PlaneBatch;

    fn loss(&self, batch: PlaneBatch, device: &Device) -> Tensor<1> {
        let classes = batch.targets.len() / batch.shape[0];
        let targets = tensor(batch.targets, [batch.shape[0], classes], device);
        soft_cross_entropy(
            self.forward(tensor(batch.values, batch.shape, device)).1,
            targets,
        )
    }

    #[cfg(feature = "train-torch")]
    fn gradients(
        &self,
        batch: PlaneBatch,
        device: &Device,
    ) -> anyhow::Result<(f64, GradientsParams)> {
        if !is_torch() {
            return differentiated(self, batch, device);
        }
        crate::train::net::torch::gradients(
            self,
            &batch.values,
            batch.shape,
            &batch.targets,
            precision(),
        )
    }
}

/// A generator for one batch.
pub fn generator(seed: u64, epoch: usize, index: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ ((epoch as u64 + 1) << 40) ^ ((index as u64 + 1) << 8))
}

/// `0..count` shuffled for an epoch.
fn order(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut StdRng::seed_from_u64(
        seed ^ ((epoch as u64 + 1) << 20),
    ));
    order
}

/// One row of targets: `1 - smoothing` on the class, the rest spread over all.
pub fn smoothed(class: usize, classes: usize, smoothing: f32) -> impl Iterator<Item = f32> {
    (0..classes)
        .map(move |c| smoothing / classes as f32 + if c == class { 1.0 - smoothing } else { 0.0 })
}

/// FER2013's pictures for the face encoder.
pub struct FaceBatches<'a> {
    pub crops: &'a [LabelledCrop],
    pub recipe: &'a FaceRecipe,
    /// The generation's.
    pub fit: &'a FitSettings,
    pub early: Option<EarlyEpochs>,
    /// The generation before judges each crop `[crops, classes]`, and how much of a target that is.
    pub judged: Option<(Vec<f32>, f32)>,
    pub classes: usize,
    pub seed: u64,
}

impl Batches<PlaneBatch> for FaceBatches<'_> {
    fn count(&self) -> usize {
        self.crops.len() / self.fit.batch
    }

    fn batch(&self, epoch: usize, index: usize) -> PlaneBatch {
        let (batch, whole) = (self.fit.batch, self.recipe.preprocessing.size);
        let size = self
            .early
            .filter(|early| epoch < early.epochs)
            .map_or(whole, |early| early.size);
        let mut rng = generator(self.seed, epoch, index);
        let (mut values, mut targets) = (Vec::with_capacity(batch * size * size), Vec::new());
        for picked in &order(self.crops.len(), self.seed, epoch)[index * batch..][..batch] {
            let sample = &self.crops[*picked];
            values.extend(normalise(
                &vary_crop(&sample.crop, size, &mut rng),
                &self.recipe.preprocessing.normalise,
            ));
            let label = smoothed(sample.label, self.classes, self.fit.label_smoothing);
            match &self.judged {
                None => targets.extend(label),
                Some((judged, share)) => targets.extend(
                    label
                        .zip(&judged[picked * self.classes..])
                        .map(|(label, judged)| label + share * (judged - label)),
                ),
            }
        }
        PlaneBatch {
            values,
            shape: [batch, 1, size, size],
            targets,
        }
    }
}

/// RAVDESS's clips for the voice encoder: windows of random length and place.
pub struct VoiceBatches<'a> {
    pub clips: &'a [LabelledClip],
    pub recipe: &'a VoiceRecipe,
    pub window_ms: u32,
    pub classes: usize,
    pub seed: u64,
    pub mel: LogMel,
}

impl Batches<PlaneBatch> for VoiceBatches<'_> {
    fn count(&self) -> usize {
        self.clips.len() * self.recipe.windows_per_clip / self.recipe.fit.batch
    }

    fn batch(&self, epoch: usize, index: usize) -> PlaneBatch {
        let (batch, mels) = (self.recipe.fit.batch, self.recipe.preprocessing.mels);
        let mut rng = generator(self.seed, epoch, index);
        let length = milliseconds(rng.random_range(self.recipe.min_window_ms..=self.window_ms));
        let frames = self.mel.frames(length);
        let order = order(
            self.clips.len() * self.recipe.windows_per_clip,
            self.seed,
            epoch,
        );
        // Echoes, noise and spectra take longer than the step that learns from them: on all cores, each window with its own draws.
        let seeds: Vec<u64> = (0..batch).map(|_| rng.random()).collect();
        let windows =
            order[index * batch..][..batch]
                .par_iter()
                .zip(seeds)
                .map(|(picked, seed)| {
                    let (clip, mut rng) = (
                        &self.clips[picked % self.clips.len()],
                        StdRng::seed_from_u64(seed),
                    );
                    let samples = vary_voice(
                        &clip.samples,
                        random_start(clip, length, &mut rng),
                        length,
                        &mut rng,
                    );
                    let (mut spectrogram, _) = self.mel.compute(&samples);
                    mask_spectrogram(&mut spectrogram, mels, frames, &mut rng);
                    (
                        spectrogram,
                        smoothed(clip.emotion, self.classes, self.recipe.fit.label_smoothing)
                            .collect::<Vec<f32>>(),
                    )
                });
        let (values, targets): (Vec<Vec<f32>>, Vec<Vec<f32>>) = windows.unzip();
        let (mut values, mut targets) = (values.concat(), targets.concat());
        if self.recipe.mixup > 0.0 {
            // Beta(a, a) by Johnk; the larger share stays, so that each window is mostly itself.
            let share = beta(self.recipe.mixup, &mut rng).max(0.5);
            mix_with_next(&mut values, batch, share);
            mix_with_next(&mut targets, batch, share);
        }
        PlaneBatch {
            values,
            shape: [batch, 1, mels, frames],
            targets,
        }
    }
}

/// Samples in `ms` milliseconds.
pub fn milliseconds(ms: u32) -> usize {
    ms as usize * SAMPLE_RATE_HZ as usize / 1000
}

/// Where a window of `length` may begin so that at least 0.6 s of it (or all that there is) is speech.
pub fn random_start(clip: &LabelledClip, length: usize, rng: &mut StdRng) -> usize {
    let [first, last] = clip.speech;
    let needed = milliseconds(600).min(last - first).min(length);
    let low = (first + needed).saturating_sub(length);
    let high = (last - needed)
        .min(clip.samples.len().saturating_sub(length))
        .max(low);
    rng.random_range(low..=high)
}

/// What a whole clip is judged by: `length` samples every `hop` within speech; one, centred, where speech is shorter.
pub fn windows(clip: &LabelledClip, length: usize, hop: usize) -> Vec<&[f32]> {
    let [first, last] = clip.speech;
    let spoken = last - first;
    if spoken <= length {
        let start = (first + spoken / 2)
            .saturating_sub(length / 2)
            .min(clip.samples.len().saturating_sub(length));
        return vec![&clip.samples[start..(start + length).min(clip.samples.len())]];
    }
    (0..=(spoken - length) / hop)
        .map(|i| &clip.samples[first + i * hop..][..length])
        .collect()
}

/// Windows as the daemon cuts them while somebody speaks: one every `hop` as soon as `least` samples of speech lie within; `length` long, or
/// what there is since the recording's beginning.
pub fn live_windows(clip: &LabelledClip, length: usize, hop: usize, least: usize) -> Vec<&[f32]> {
    let [first, last] = clip.speech;
    (first + least.min(last - first)..=last)
        .step_by(hop)
        .map(|end| &clip.samples[end.saturating_sub(length)..end])
        .collect()
}

fn beta(a: f64, rng: &mut StdRng) -> f32 {
    loop {
        let (x, y) = (
            rng.random::<f64>().powf(1.0 / a),
            rng.random::<f64>().powf(1.0 / a),
        );
        if x + y > 0.0 && x + y <= 1.0 {
            return (x / (x + y)) as f32;
        }
    }
}

/// `row = share * row + (1 - share) * next row`, the last with the first.
fn mix_with_next(values: &mut [f32], rows: usize, share: f32) {
    let original = values.to_vec();
    let width = values.len() / rows;
    for (i, value) in values.iter_mut().enumerate() {
        *value = share * *value + (1.0 - share) * original[(i + width) % original.len()];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_samples;
    use crate::train::data::Part;

    fn clip(length: usize, speech: [usize; 2]) -> LabelledClip {
        LabelledClip {
            samples: golden_samples(1, length),
            speech,
            emotion: 2,
            actor: 1,
            part: Part::Train,
        }
    }

    #[test]
    fn windows_lie_on_speech() {
        let starts = |clip: &LabelledClip| {
            let base = clip.samples.as_ptr() as usize;
            windows(clip, 32_000, 8_000)
                .iter()
                .map(|w| (w.len(), (w.as_ptr() as usize - base) / 4))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            starts(&clip(64_000, [8_000, 57_000])),
            [(32_000, 8_000), (32_000, 16_000), (32_000, 24_000)]
        );
        assert_eq!(starts(&clip(64_000, [20_000, 40_000])), [(32_000, 14_000)]);
        assert_eq!(starts(&clip(20_000, [0, 20_000])), [(20_000, 0)]);
    }

    #[test]
    fn live_windows_come_every_hop_while_there_is_speech() {
        let spans = |clip: &LabelledClip, least| {
            let base = clip.samples.as_ptr() as usize;
            live_windows(clip, 32_000, 3_200, least)
                .iter()
                .map(|w| (w.as_ptr() as usize - base) / 4)
                .zip(live_windows(clip, 32_000, 3_200, least))
                .map(|(start, w)| [start, start + w.len()])
                .collect::<Vec<_>>()
        };
        let early = spans(&clip(64_000, [16_000, 48_000]), 4_800);
        assert_eq!(
            (early[0], early[1], early.len()),
            ([0, 20_800], [0, 24_000], 9)
        );
        assert_eq!(early[8], [14_400, 46_400]);
        // Little speech, but all that there is.
        assert_eq!(
            spans(&clip(64_000, [40_000, 42_000]), 4_800),
            [[10_000, 42_000]]
        );
    }

    #[test]
    fn random_windows_hold_speech() {
        let clip = clip(64_000, [16_000, 48_000]);
        let mut rng = generator(1, 0, 0);
        for _ in 0..200 {
            let start = random_start(&clip, 16_000, &mut rng);
            let spoken = (start + 16_000).min(48_000) - start.max(16_000);
            assert!(
                spoken >= 9_600 && start + 16_000 <= 64_000,
                "{start}: {spoken}"
            );
        }
    }

    #[test]
    fn smoothed_targets_and_mixtures_sum_to_one() {
        let mut targets: Vec<f32> = smoothed(1, 4, 0.1).chain(smoothed(3, 4, 0.1)).collect();
        assert!((targets[1] - 0.925).abs() < 1e-6);
        mix_with_next(&mut targets, 2, 0.7);
        for row in targets.chunks(4) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert!(targets[1] > targets[3] && targets[7] > targets[5]);
    }

    #[test]
    fn a_second_generation_learns_from_label_and_judgement() {
        let recipe = crate::train::recipe::Recipe::read(&crate::testing::project(
            "config/train/default.toml",
        ))
        .unwrap();
        let again = &recipe.face.again[0];
        let picture = |i: u64| LabelledCrop {
            crop: crate::model::golden::golden_crop(i, 0, 48, 1),
            label: i as usize % 7,
            part: Part::Train,
            is_copy: false,
        };
        let crops: Vec<_> = (0..2 * again.fit.batch as u64).map(picture).collect();
        // The generation before is sure that every picture's label is one too low.
        let judged: Vec<f32> = crops
            .iter()
            .flat_map(|c| (0..7).map(|i| if i == (c.label + 1) % 7 { 1.0 } else { 0.0 }))
            .collect();
        let first = FaceBatches {
            crops: &crops,
            recipe: &recipe.face,
            fit: &again.fit,
            early: again.early,
            judged: None,
            classes: 7,
            seed: 3,
        };
        let (label, smoothing) = (first.batch(0, 1), again.fit.label_smoothing);
        assert_eq!(label.shape, [again.fit.batch, 1, 40, 40]);
        let second = FaceBatches {
            judged: Some((judged, 0.25)),
            ..first
        };
        let both = second.batch(0, 1);
        assert_eq!(
            (both.values == label.values, both.shape),
            (true, label.shape),
            "the same pictures"
        );
        for (before, after) in label.targets.chunks(7).zip(both.targets.chunks(7)) {
            let class = before.iter().position(|t| *t > 0.5).unwrap();
            assert!((after.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(
                (after[class] - 0.75 * before[class]).abs() < 1e-6
                    && (after[(class + 1) % 7] - 0.25 - 0.75 * smoothing / 7.0).abs() < 1e-6
            );
        }
        // Later epochs see whole pictures.
        assert_eq!(second.batch(again.early.unwrap().epochs, 0).shape[2], 48);
    }

    #[test]
    fn voice_batches_are_the_recipes_and_repeat() {
        let recipe = crate::train::recipe::Recipe::read(&crate::testing::project(
            "config/train/default.toml",
        ))
        .unwrap();
        let clips: Vec<_> = (0..64).map(|_| clip(50_000, [8_000, 44_000])).collect();
        let mel = LogMel::new(&recipe.voice.preprocessing);
        let batches = VoiceBatches {
            clips: &clips,
            recipe: &recipe.voice,
            window_ms: 2000,
            classes: 8,
            seed: 5,
            mel,
        };
        let batch = batches.batch(3, 1);
        assert_eq!(
            (batch.shape[0], batch.shape[1], batch.shape[2]),
            (32, 1, 64)
        );
        assert!((101..=201).contains(&batch.shape[3]), "{:?}", batch.shape);
        assert_eq!(batch.values.len(), batch.shape.iter().product::<usize>());
        assert_eq!(batch.values, batches.batch(3, 1).values);
        assert_ne!(batch.values, batches.batch(4, 1).values);
    }
}
