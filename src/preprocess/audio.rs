//! Converts mono samples to a mel spectrogram.

use std::ops::Range;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::manifest::{AudioNormalisation, AudioPreprocessing, AudioScale};

/// Computes the mel spectrogram of torchaudio's `MelSpectrogram` with its defaults
/// (`src/train/method.md` a.5), then applies the manifest's scale and normalisation.
pub struct LogMel {
    settings: AudioPreprocessing,
    fft: Arc<dyn RealToComplex<f32>>,
    /// The Hann window, `n_fft` weights.
    window: Vec<f32>,
    /// For each mel band: (index of the first FFT bin, weights of the bins from it on).
    filters: Vec<(usize, Vec<f32>)>,
}

impl std::fmt::Debug for LogMel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogMel({} mels)", self.settings.mels)
    }
}

impl LogMel {
    /// Plans FFT, window and mel filters for `settings`.
    pub fn new(settings: &AudioPreprocessing) -> Self {
        let n = settings.n_fft;
        let window = (0..n)
            .map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / n as f64).cos())
            .map(|w| w as f32)
            .collect();
        LogMel {
            fft: RealFftPlanner::new().plan_fft_forward(n),
            window,
            filters: mel_filters(settings),
            settings: settings.clone(),
        }
    }

    /// Number of frames for `samples` samples: `1 + samples / hop`.
    pub fn frames(&self, samples: usize) -> usize {
        1 + samples / self.settings.hop
    }

    /// Number of mel bands.
    pub fn mels(&self) -> usize {
        self.settings.mels
    }

    /// Computes the spectrogram of mono `samples` in [-1, 1]. Returns (values `[mels, frames]` in
    /// row-major order, number of frames). Samples too few to reflect are padded with zeros.
    pub fn compute(&self, samples: &[f32]) -> (Vec<f32>, usize) {
        let mut out = Vec::new();
        self.compute_into(samples, &mut out);
        (out, self.frames(samples.len()))
    }

    /// As [`LogMel::compute`], but appends the values to `out`.
    pub fn compute_into(&self, samples: &[f32], out: &mut Vec<f32>) {
        let frames = self.frames(samples.len());
        let begin = out.len();
        out.resize(begin + self.settings.mels * frames, 0.0);
        let out = &mut out[begin..];
        self.scaled(samples, 0..frames, out);
        self.normalise(out);
    }

    /// Normalises the values of a whole window; this is the last step.
    pub(super) fn normalise(&self, values: &mut [f32]) {
        normalise(values, self.settings.normalise);
    }

    /// Distance from one frame to the next, in samples.
    pub(super) fn hop(&self) -> usize {
        self.settings.hop
    }

    /// Sample rate of the input, in Hz.
    pub(super) fn rate_hz(&self) -> u32 {
        self.settings.rate_hz
    }

    /// Range of the frames of a window of `samples` samples that do not depend on reflected
    /// samples.
    pub(super) fn inner_frames(&self, samples: usize) -> Range<usize> {
        let half = self.settings.n_fft / 2;
        let first = half.div_ceil(self.settings.hop);
        let end = samples
            .checked_sub(half)
            .map_or(0, |s| s / self.settings.hop + 1);
        first..end.max(first)
    }

    /// Computes the frames with the indices `frames`, scaled but not normalised. Writes them to
    /// their places in `out`, which is `[mels, frames of the whole window]`.
    pub(super) fn scaled(&self, samples: &[f32], frames: Range<usize>, out: &mut [f32]) {
        let n = self.settings.n_fft;
        let all_frames = self.frames(samples.len());
        let (mut piece, mut spectrum, mut scratch) = (
            self.fft.make_input_vec(),
            self.fft.make_output_vec(),
            self.fft.make_scratch_vec(),
        );
        let mut power = vec![0.0f32; n / 2 + 1];
        for frame in frames {
            let start = (frame * self.settings.hop) as isize - (n / 2) as isize;
            let inside = usize::try_from(start).ok();
            if let Some(within) = inside.and_then(|start| samples.get(start..start + n)) {
                for ((value, sample), weight) in piece.iter_mut().zip(within).zip(&self.window) {
                    *value = sample * weight;
                }
            } else {
                for (i, value) in piece.iter_mut().enumerate() {
                    *value = reflected(samples, start + i as isize) * self.window[i];
                }
            }
            self.fft
                .process_with_scratch(&mut piece, &mut spectrum, &mut scratch)
                .expect("lengths are the plan's own");
            for (p, c) in power.iter_mut().zip(&spectrum) {
                *p = c.norm_sqr();
            }
            for (mel, (first, weights)) in self.filters.iter().enumerate() {
                let energy: f32 = weights
                    .iter()
                    .zip(&power[*first..])
                    .map(|(w, p)| w * p)
                    .sum();
                out[mel * all_frames + frame] = match self.settings.scale {
                    AudioScale::Log => (energy + 1e-6).ln(),
                    AudioScale::Power => energy,
                };
            }
        }
    }
}

/// `samples[i]`, reflected at both ends without repeating the end (numpy's mode `reflect`); 0
/// beyond the reflection.
fn reflected(samples: &[f32], i: isize) -> f32 {
    let last = samples.len() as isize - 1;
    let i = if i < 0 {
        -i
    } else if i > last {
        2 * last - i
    } else {
        i
    };
    usize::try_from(i)
        .ok()
        .and_then(|i| samples.get(i))
        .copied()
        .unwrap_or(0.0)
}

/// Scales all values of a window as the manifest states.
fn normalise(values: &mut [f32], how: AudioNormalisation) {
    match how {
        AudioNormalisation::Window => {
            let n = values.len().max(1) as f64;
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let deviation = (values
                .iter()
                .map(|v| (f64::from(*v) - mean).powi(2))
                .sum::<f64>()
                / n)
                .sqrt()
                .max(1e-3);
            values
                .iter_mut()
                .for_each(|v| *v = ((f64::from(*v) - mean) / deviation) as f32);
        }
        AudioNormalisation::MinMax => {
            let (low, high) = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| {
                    (low.min(*v), high.max(*v))
                });
            values
                .iter_mut()
                .for_each(|v| *v = (*v - low) / (high - low + 1e-8));
        }
    }
}

/// Triangular filters of height 1 on the HTK mel scale, as (index of the first FFT bin, weights)
/// for each band. Equals torchaudio's `melscale_fbanks(norm=None)`, which halves the sample rate by
/// integer division.
fn mel_filters(settings: &AudioPreprocessing) -> Vec<(usize, Vec<f32>)> {
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let bins = settings.n_fft / 2 + 1;
    let bin_hz = |bin: usize| f64::from(settings.rate_hz / 2) * bin as f64 / (bins - 1) as f64;
    let (low, high) = (
        mel(f64::from(settings.min_hz)),
        mel(f64::from(settings.max_hz)),
    );
    let point = |i: usize| hz(low + (high - low) * i as f64 / (settings.mels + 1) as f64);
    (0..settings.mels)
        .map(|m| {
            let (left, middle, right) = (point(m), point(m + 1), point(m + 2));
            let weight = |bin: usize| {
                let f = bin_hz(bin);
                ((f - left) / (middle - left))
                    .min((right - f) / (right - middle))
                    .max(0.0) as f32
            };
            let first = (0..bins).find(|b| weight(*b) > 0.0).unwrap_or(0);
            let weights = (first..bins).map(weight).take_while(|w| *w > 0.0).collect();
            (first, weights)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden file `audio_frontend.json` holds mel power with min-max scaling of the paper's
    /// reference implementation.
    #[test]
    fn mel_spectrograms_equal_those_of_the_reference_implementation() {
        let golden = crate::testing::golden("audio_frontend.json");
        let mut compared = 0;
        for case in golden["cases"].as_array().unwrap() {
            compared += compare_case(case);
        }
        assert!(compared > 0, "the fixture held no case");
    }

    fn floats(value: &serde_json::Value) -> Vec<f32> {
        value["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    }

    /// Compares one golden case; returns 1, the number of compared cases.
    fn compare_case(case: &serde_json::Value) -> usize {
        let rate_hz = case["sample_rate"].as_u64().unwrap() as u32;
        let settings = AudioPreprocessing {
            rate_hz,
            n_fft: 2048,
            hop: 160,
            mels: 128,
            min_hz: 0.0,
            max_hz: (rate_hz / 2) as f32,
            scale: AudioScale::Power,
            normalise: AudioNormalisation::MinMax,
            min_speech_ms: 0,
        };
        let (ours, frames) = LogMel::new(&settings).compute(&floats(&case["inputs"]["waveform"]));
        let expected = &case["f64"]["mel_minmax"];
        assert_eq!(expected["shape"][1].as_u64().unwrap() as usize, frames);
        for (a, b) in ours.iter().zip(&floats(expected)) {
            assert!((a - b).abs() < 1e-5, "{}: {a} against {b}", case["case"]);
        }
        1
    }
}
