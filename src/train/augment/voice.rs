//! Augmentation of voices: random changes as by another room, microphone or codec.

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::noise;

/// The parameters of one voice augmentation. They are drawn once, and applied to one window or to a
/// whole recording.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceVariation {
    /// Factor on the speed, which changes the pitch too.
    speed: f32,
    /// Reverberation; `None`: none is added.
    room: Option<Room>,
    /// Cut-off frequency of a low-pass filter; `None`: no filter.
    below_hz: Option<f32>,
    /// Cut-off frequency of a high-pass filter; `None`: no filter.
    above_hz: Option<f32>,
    /// Added noise: its signal-to-noise ratio in dB, and the correlation of successive samples (0:
    /// white noise, near 1: brownian). The noise of rooms has more low than high frequencies.
    noise: Option<(f32, f32)>,
    /// Gain of the samples in dB, applied last before the quantisation.
    gain_db: f32,
    /// Number of bits of each mu-law sample, as of a coarse codec (G.711 has eight); `None`: no
    /// quantisation.
    bits: Option<u32>,
}

thread_local! {
    /// Caches the plans of Fourier transforms; few different sizes occur.
    static PLANNER: RefCell<realfft::RealFftPlanner<f32>> =
        RefCell::new(realfft::RealFftPlanner::new());
}

/// A room, whose simulated impulse response is decaying noise.
#[derive(Clone, Debug, PartialEq)]
struct Room {
    /// Reverberation time in seconds: the time in which echoes decay by 60 dB (RT60).
    seconds: f32,
    /// Energy of the direct sound over that of all echoes, in dB.
    direct_db: f32,
    /// Seed of the impulse response, so that the room is the same throughout a recording.
    seed: u64,
}

impl Room {
    /// Adds the room's echoes to `samples` (at [`crate::clip::SAMPLE_RATE_HZ`]), by convolution
    /// with the impulse response in the frequency domain.
    fn add_echoes(&self, samples: &mut [f32]) {
        let rate = crate::clip::SAMPLE_RATE_HZ as f32;
        let mut rng = StdRng::seed_from_u64(self.seed);
        // The first echo comes after some 5 ms, from the nearest wall.
        let (first, length) = ((0.005 * rate) as usize, (self.seconds * rate) as usize);
        let dies_away = 10f32.powf(-3.0 / length as f32);
        let mut loudness = 1.0;
        let mut echoes: Vec<f32> = (noise(&mut rng).take(length).enumerate())
            .map(|(i, deviate)| {
                loudness *= dies_away;
                if i < first { 0.0 } else { deviate * loudness }
            })
            .collect();
        low_pass(&mut echoes, 4000.0);
        let energy: f32 = echoes.iter().map(|e| e * e).sum();
        let loudness = (10f32.powf(-self.direct_db / 10.0) / energy.max(f32::MIN_POSITIVE)).sqrt();
        let size = (samples.len() + length).next_power_of_two();
        let (forward, backward) = PLANNER.with_borrow_mut(|planner| {
            (
                planner.plan_fft_forward(size),
                planner.plan_fft_inverse(size),
            )
        });
        let mut padded = vec![0.0; size];
        let (mut of_samples, mut of_echoes) =
            (forward.make_output_vec(), forward.make_output_vec());
        padded[..samples.len()].copy_from_slice(samples);
        forward
            .process(&mut padded, &mut of_samples)
            .expect("the buffers are the planner's");
        padded.fill(0.0);
        padded[..length].copy_from_slice(&echoes);
        forward
            .process(&mut padded, &mut of_echoes)
            .expect("the buffers are the planner's");
        of_samples
            .iter_mut()
            .zip(&of_echoes)
            .for_each(|(s, e)| *s *= e);
        backward
            .process(&mut of_samples, &mut padded)
            .expect("the buffers are the planner's");
        samples
            .iter_mut()
            .zip(&padded)
            .for_each(|(s, echo)| *s += echo * loudness / size as f32);
    }
}

impl VoiceVariation {
    /// Draws random parameters.
    pub fn draw(rng: &mut StdRng) -> VoiceVariation {
        VoiceVariation {
            speed: rng.random_range(0.85f32..1.18),
            room: rng.random_bool(0.4).then(|| Room {
                seconds: rng.random_range(0.1f32..0.8),
                direct_db: rng.random_range(-3.0f32..15.0),
                seed: rng.random(),
            }),
            below_hz: rng
                .random_bool(0.3)
                .then(|| rng.random_range(1500.0f32..6500.0)),
            above_hz: rng
                .random_bool(0.2)
                .then(|| rng.random_range(60.0f32..350.0)),
            noise: rng.random_bool(0.6).then(|| {
                (
                    rng.random_range(5.0f32..40.0),
                    rng.random_range(0.0f32..0.95),
                )
            }),
            gain_db: rng.random_range(-18.0f32..9.0),
            bits: rng.random_bool(0.2).then(|| rng.random_range(5..=8)),
        }
    }

    /// Applies the augmentation to `clip` (samples at [`crate::clip::SAMPLE_RATE_HZ`]) from sample
    /// `start` on, and returns `length` samples within -1..1. Beyond the end of the clip they are
    /// silent. `rng` draws the noise.
    pub fn apply(&self, clip: &[f32], start: usize, length: usize, rng: &mut StdRng) -> Vec<f32> {
        let mut samples: Vec<f32> = (0..length)
            .map(|i| {
                let position = start as f32 + i as f32 * self.speed;
                let at = |i: usize| clip.get(i).copied().unwrap_or(0.0);
                let whole = position as usize;
                at(whole) + (at(whole + 1) - at(whole)) * (position - whole as f32)
            })
            .collect();
        if let Some(room) = &self.room {
            room.add_echoes(&mut samples);
        }
        let power = samples.iter().map(|s| s * s).sum::<f32>() / length.max(1) as f32;
        if let Some(cut_hz) = self.below_hz {
            low_pass(&mut samples, cut_hz);
        }
        if let Some(cut_hz) = self.above_hz {
            let mut low = samples.clone();
            low_pass(&mut low, cut_hz);
            samples.iter_mut().zip(low).for_each(|(s, l)| *s -= l);
        }
        if let Some((snr_db, colour)) = self.noise {
            let deviation = (power * 10f32.powf(-snr_db / 10.0)).sqrt();
            let mut state = 0.0;
            let keep = (1.0 - colour * colour).sqrt();
            for (sample, deviate) in samples.iter_mut().zip(noise(rng)) {
                state = colour * state + keep * deviate;
                *sample += state * deviation;
            }
        }
        let gain = 10f32.powf(self.gain_db / 20.0);
        samples
            .iter_mut()
            .for_each(|s| *s = (*s * gain).clamp(-1.0, 1.0));
        if let Some(bits) = self.bits {
            compand(&mut samples, bits);
        }
        samples
    }
}

/// Quantises each sample to `bits` bits by mu-law companding (mu = 255), whose relative error is
/// about the same for quiet and loud sounds.
fn compand(samples: &mut [f32], bits: u32) {
    const MU: f32 = 255.0;
    let steps = (1u32 << (bits - 1)) as f32;
    for sample in samples {
        let companded = (1.0 + MU * sample.abs()).ln() / (1.0 + MU).ln();
        let kept = (companded * steps).round() / steps;
        *sample = sample.signum() * ((1.0 + MU).powf(kept) - 1.0) / MU;
    }
}

/// Augments a voice by random parameters: speed and pitch, reverberation, band limits, noise, gain
/// and a coarse codec. Returns `length` samples within -1..1, from sample `start` of `clip` on.
pub fn vary_voice(clip: &[f32], start: usize, length: usize, rng: &mut StdRng) -> Vec<f32> {
    VoiceVariation::draw(rng).apply(clip, start, length, rng)
}

/// A one-pole low-pass filter, applied in place.
fn low_pass(samples: &mut [f32], cut_hz: f32) {
    let keep = (-std::f32::consts::TAU * cut_hz / crate::clip::SAMPLE_RATE_HZ as f32).exp();
    let mut state = 0.0;
    for sample in samples {
        state = keep * state + (1.0 - keep) * *sample;
        *sample = state;
    }
}

/// Sets up to two mel bands and up to two time intervals of a normalised spectrogram to its mean,
/// which is 0 (SpecAugment, Park et al. 2019). `values`: `[mels, frames]`, row by row.
pub fn mask_spectrogram(values: &mut [f32], mels: usize, frames: usize, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..=2) {
        let height = rng.random_range(1..=(mels / 8).max(1));
        let first = rng.random_range(0..=mels - height);
        values[first * frames..(first + height) * frames].fill(0.0);
    }
    for _ in 0..rng.random_range(0..=2) {
        let width = rng.random_range(1..=(frames / 8).max(1));
        let first = rng.random_range(0..=frames - width);
        for mel in 0..mels {
            values[mel * frames + first..][..width].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_samples;

    #[test]
    fn augmented_voices_have_the_requested_length_and_stay_within_1() {
        let clip = golden_samples(1, 40_000);
        for seed in 0..40 {
            let varied = vary_voice(&clip, 30_000, 16_000, &mut StdRng::seed_from_u64(seed));
            assert_eq!(varied.len(), 16_000);
            assert!(varied.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        }
    }

    #[test]
    fn a_room_adds_decaying_echoes_and_keeps_the_direct_sound() {
        let mut samples = vec![0.0f32; 16_000];
        samples[100] = 0.5;
        Room {
            seconds: 0.4,
            direct_db: 6.0,
            seed: 3,
        }
        .add_echoes(&mut samples);
        assert!(
            (samples[100] - 0.5).abs() < 1e-5 && samples[..100].iter().all(|s| s.abs() < 1e-5),
            "{}",
            samples[100]
        );
        let energy = |span: std::ops::Range<usize>| {
            samples[span].iter().map(|s| f64::from(s * s)).sum::<f64>()
        };
        let all = energy(101..16_000);
        assert!((all / 0.25 - 10f64.powf(-0.6)).abs() < 1e-3, "{all}");
        assert!(
            energy(150..1_700) > 10.0 * energy(1_700..3_300) && energy(7_000..16_000) < 1e-6 * all
        );
    }

    #[test]
    fn the_codec_error_is_larger_with_fewer_bits() {
        let clip = golden_samples(1, 4_000);
        let error = |bits| {
            let mut coded = clip.clone();
            compand(&mut coded, bits);
            let off = clip
                .iter()
                .zip(&coded)
                .map(|(a, b)| f64::from((a - b).powi(2)));
            (off.sum::<f64>() / 4_000.0).sqrt()
        };
        assert!(
            error(5) > 4.0 * error(8) && error(8) < 0.01,
            "{} {}",
            error(5),
            error(8)
        );
    }

    #[test]
    fn masks_only_set_values_to_zero() {
        let mut masked = 0;
        for seed in 0..20 {
            let mut values = vec![1.0f32; 64 * 101];
            mask_spectrogram(&mut values, 64, 101, &mut StdRng::seed_from_u64(seed));
            assert!(values.iter().all(|v| *v == 0.0 || *v == 1.0));
            masked += values.iter().filter(|v| **v == 0.0).count();
        }
        assert!((1..64 * 101 * 10).contains(&masked), "{masked}");
    }
}
