//! Training batches of the encoders: labelled crops and clips, which are augmented and then
//! preprocessed as in the daemon.

#[cfg(feature = "train-torch")]
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::clip::SAMPLE_RATE_HZ;
use crate::preprocess::{LogMel, normalise};
use crate::train::augment::{mask_spectrogram, vary_picture, vary_spectrogram, vary_voice};
use crate::train::data::fer::VotedCrop;
use crate::train::data::speech_clip::LabelledClip;
#[cfg(feature = "train-torch")]
use crate::train::device::{is_torch, precision};
#[cfg(feature = "train-torch")]
use crate::train::fit::differentiated;
use crate::train::fit::{Batches, Learner, soft_cross_entropy, tensor};
use crate::train::net::Encoder;
use crate::train::recipe::{EarlyEpochs, FaceRecipe, FitSettings, VoiceRecipe};

/// A batch of planes (greyscale crops or spectrograms) with target probabilities.
#[derive(Clone, Debug)]
pub struct PlaneBatch {
    /// The planes in row-major order of `shape`.
    pub values: Vec<f32>,
    /// `[count, 1, rows, columns]`.
    pub shape: [usize; 4],
    /// Target probability of each class, times the row's weight: `[count, classes]`, row-major.
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

/// The random generator of one batch, which depends on seed, epoch and index of the batch alone.
pub fn generator(seed: u64, epoch: usize, index: usize) -> StdRng {
    StdRng::seed_from_u64(seed ^ ((epoch as u64 + 1) << 40) ^ ((index as u64 + 1) << 8))
}

/// The indices below `count` in the shuffled order of an epoch.
fn order(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut StdRng::seed_from_u64(
        seed ^ ((epoch as u64 + 1) << 20),
    ));
    order
}

/// The target probabilities of one row with label smoothing: `1 - smoothing` for the class with
/// index `class`, plus `smoothing` spread evenly over all classes.
pub fn smoothed(class: usize, classes: usize, smoothing: f32) -> impl Iterator<Item = f32> {
    (0..classes)
        .map(move |c| smoothing / classes as f32 + if c == class { 1.0 - smoothing } else { 0.0 })
}

/// Mean over the pictures of the share of annotators who chose the most frequent label, 0..1.
/// Weights of pictures are divided by it, so that their mean is 1.
pub fn mean_agreement(crops: &[VotedCrop]) -> f32 {
    crops.iter().map(|c| c.votes.agreement()).sum::<f32>() / crops.len().max(1) as f32
}

/// Training batches of FER2013's pictures for the face encoder.
///
/// The target of a picture is the distribution of its votes. Its weight is the annotators'
/// agreement, because a picture without agreement carries little information.
pub struct FaceBatches<'a> {
    /// The training pictures with their votes.
    pub crops: &'a [VotedCrop],
    /// [`mean_agreement`] of `crops`.
    pub mean_agreement: f32,
    /// The recipe's settings of the face encoder.
    pub recipe: &'a FaceRecipe,
    /// Settings of this generation's training (a generation is the network of one round).
    pub fit: &'a FitSettings,
    /// Smaller pictures in the first epochs; `None`: full size.
    pub early: Option<EarlyEpochs>,
    /// Probability of a camera variation, 0..1 ([`FaceRecipe::camera_variation`]).
    pub camera_variation: f64,
    /// The teacher's probabilities, `[crops, classes]` row-major, and their weight in a target,
    /// 0..1. `None`: no distillation.
    pub teacher: Option<(Vec<f32>, f32)>,
    /// Number of classes.
    pub classes: usize,
    /// Seed of order and augmentation.
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
                &vary_picture(&sample.crop, size, self.camera_variation, &mut rng),
                &self.recipe.preprocessing.normalise,
            ));
            let weight = sample.votes.agreement() / self.mean_agreement;
            let smoothing = self.fit.label_smoothing;
            for (label, votes) in sample.votes.shares().into_iter().enumerate() {
                let target = votes + smoothing * (1.0 / self.classes as f32 - votes);
                targets.push(
                    weight
                        * match &self.teacher {
                            None => target,
                            Some((probabilities, weight)) => {
                                target
                                    + weight
                                        * (probabilities[picked * self.classes + label] - target)
                            }
                        },
                );
            }
        }
        mix(
            &mut values,
            &mut targets,
            batch,
            self.recipe.mixup,
            &mut rng,
        );
        PlaneBatch {
            values,
            shape: [batch, 1, size, size],
            targets,
        }
    }
}

/// Training batches of acted clips for the voice encoder: spectrograms of windows of random length
/// and position. All windows of a batch have the same length.
pub struct VoiceBatches<'a> {
    /// The training clips.
    pub clips: &'a [LabelledClip],
    /// The recipe's settings of the voice encoder.
    pub recipe: &'a VoiceRecipe,
    /// Length of the longest window, in milliseconds.
    pub window_ms: u32,
    /// Number of classes.
    pub classes: usize,
    /// Seed of order, windows and augmentation.
    pub seed: u64,
    /// Computes the spectrograms.
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
        // Augmentation and spectra take longer than the training step, so they are computed on all
        // cores. Each window has its own generator, so that the order of computation has no effect.
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
                    vary_spectrogram(&mut spectrogram, mels, frames, &mut rng);
                    mask_spectrogram(&mut spectrogram, mels, frames, &mut rng);
                    (
                        spectrogram,
                        smoothed(clip.emotion, self.classes, self.recipe.fit.label_smoothing)
                            .collect::<Vec<f32>>(),
                    )
                });
        let (values, targets): (Vec<Vec<f32>>, Vec<Vec<f32>>) = windows.unzip();
        let (mut values, mut targets) = (values.concat(), targets.concat());
        mix(
            &mut values,
            &mut targets,
            batch,
            self.recipe.mixup,
            &mut rng,
        );
        PlaneBatch {
            values,
            shape: [batch, 1, mels, frames],
            targets,
        }
    }
}

/// Number of 16 kHz samples in `ms` milliseconds.
pub fn milliseconds(ms: u32) -> usize {
    ms as usize * SAMPLE_RATE_HZ as usize / 1000
}

/// A random start, in samples from the start of the clip, for a window of `length` samples. The
/// window holds at least 0.6 s of speech, or all the speech if the clip has less.
pub fn random_start(clip: &LabelledClip, length: usize, rng: &mut StdRng) -> usize {
    let [first, last] = clip.speech;
    let needed = milliseconds(600).min(last - first).min(length);
    let low = (first + needed).saturating_sub(length);
    let high = (last - needed)
        .min(clip.samples.len().saturating_sub(length))
        .max(low);
    rng.random_range(low..=high)
}

/// The windows of a clip for evaluation: `length` samples every `hop` samples within its speech. If
/// the speech is not longer than a window, the result is one window around its centre.
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

/// The windows that the daemon would cut from a clip during its speech: one every `hop` samples,
/// from the time at which there are `least` samples of speech. A window has `length` samples, or
/// all samples so far if these are fewer.
pub fn live_windows(clip: &LabelledClip, length: usize, hop: usize, least: usize) -> Vec<&[f32]> {
    let [first, last] = clip.speech;
    (first + least.min(last - first)..=last)
        .step_by(hop)
        .map(|end| &clip.samples[end.saturating_sub(length)..end])
        .collect()
}

/// Mixes each row with the next one (mixup, Zhang et al. 2018). The ratio is drawn once per batch
/// from the distribution Beta(`a`, `a`). With `a` = 0 the rows stay unchanged.
fn mix(values: &mut [f32], targets: &mut [f32], rows: usize, a: f64, rng: &mut StdRng) {
    if a > 0.0 {
        // The own values of a row have at least half of the weight.
        let share = beta(a, rng).max(0.5);
        mix_with_next(values, rows, share);
        mix_with_next(targets, rows, share);
    }
}

/// A random value of the distribution Beta(a, a), by Jöhnk's method.
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

/// Sets each row to `share * row + (1 - share) * next row`; the next row of the last one is the
/// first.
fn mix_with_next(values: &mut [f32], rows: usize, share: f32) {
    let original = values.to_vec();
    let width = values.len() / rows;
    for (i, value) in values.iter_mut().enumerate() {
        *value = share * *value + (1.0 - share) * original[(i + width) % original.len()];
    }
}

#[cfg(test)]
mod tests;
