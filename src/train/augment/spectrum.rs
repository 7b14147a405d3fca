//! Augmentation of log-mel spectrograms: random changes as by another vocal tract or microphone.

use rand::Rng;
use rand::rngs::StdRng;

use super::normal;

/// Largest deviation of the factor on the mel axis from 1.
const WARP: f32 = 0.12;
/// Number of points of the simulated frequency response of a microphone, evenly spaced over the mel
/// bands; the response is linear between them.
const CURVE: usize = 5;
/// Standard deviation of each point of the frequency response, in units of a normalised
/// spectrogram: about 4 dB.
const CURVE_DEVIATION: f32 = 0.35;

/// Augments a normalised log-mel spectrogram in place. `values`: `[mels, frames]`, row by row.
///
/// The mel axis is stretched or compressed, as by a longer or shorter vocal tract (Jaitly and
/// Hinton 2013). A piecewise linear curve over the mel bands is added to every frame, as the
/// frequency response of another microphone. The result is normalised to mean 0 and deviation 1.
pub fn vary_spectrogram(values: &mut [f32], mels: usize, frames: usize, rng: &mut StdRng) {
    let warp = rng.random_range(1.0 - WARP..1.0 + WARP);
    let curve: [f32; CURVE] = std::array::from_fn(|_| CURVE_DEVIATION * normal(rng));
    stretch(values, mels, frames, warp);
    let last = (mels - 1).max(1) as f32;
    for (mel, row) in values.chunks_exact_mut(frames).enumerate() {
        let place = mel as f32 / last * (CURVE - 1) as f32;
        let below = (place as usize).min(CURVE - 2);
        let gain = curve[below] + (curve[below + 1] - curve[below]) * (place - below as f32);
        row.iter_mut().for_each(|value| *value += gain);
    }
    normalise(values);
}

/// Resamples the mel axis: row `i` becomes the former row `i * warp`, by linear interpolation
/// between rows. Beyond the last row, the last row is repeated.
fn stretch(values: &mut [f32], mels: usize, frames: usize, warp: f32) {
    let original = values.to_vec();
    for (mel, row) in values.chunks_exact_mut(frames).enumerate() {
        let place = (mel as f32 * warp).min((mels - 1) as f32);
        let below = (place as usize).min(mels.saturating_sub(2));
        let share = place - below as f32;
        let above = (below + 1).min(mels - 1);
        let (low, high) = (&original[below * frames..], &original[above * frames..]);
        for ((value, low), high) in row.iter_mut().zip(low).zip(high) {
            *value = low + (high - low) * share;
        }
    }
}

/// Scales the values to mean 0 and standard deviation 1, as in the preprocessing of the voice.
fn normalise(values: &mut [f32]) {
    let n = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
    let factor = 1.0 / deviation.max(1e-3);
    values.iter_mut().for_each(|v| *v = (*v - mean) * factor);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::model::golden::golden_samples;

    #[test]
    fn augmented_spectrograms_are_normalised_and_differ_from_the_original() {
        let mut plain = golden_samples(1, 64 * 50);
        normalise(&mut plain);
        let correlation = |other: &[f32]| {
            plain.iter().zip(other).map(|(a, b)| a * b).sum::<f32>() / plain.len() as f32
        };
        for seed in 0..20 {
            let mut varied = plain.clone();
            vary_spectrogram(&mut varied, 64, 50, &mut StdRng::seed_from_u64(seed));
            let n = varied.len() as f32;
            let mean = varied.iter().sum::<f32>() / n;
            let power = varied.iter().map(|v| v * v).sum::<f32>() / n;
            assert!(
                mean.abs() < 1e-3 && (power - 1.0).abs() < 1e-3,
                "{mean} {power}"
            );
            assert!(correlation(&varied) < 0.999);
        }
    }

    #[test]
    fn the_mel_axis_is_resampled_by_linear_interpolation() {
        let values: Vec<f32> = (0..8).flat_map(|mel| [mel as f32; 3]).collect();
        let (mut up, mut down, mut same) = (values.clone(), values.clone(), values.clone());
        stretch(&mut up, 8, 3, 1.1);
        stretch(&mut down, 8, 3, 0.9);
        stretch(&mut same, 8, 3, 1.0);
        assert_eq!(same, values);
        assert!((up[3 * 3] - 3.3).abs() < 1e-5 && (down[3 * 5] - 4.5).abs() < 1e-5);
        assert_eq!(up[7 * 3], 7.0);
    }
}
