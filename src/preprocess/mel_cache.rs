//! Cache of mel frames, so that only the new frames of overlapping windows are computed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::LogMel;
use crate::time::MediaTime;

/// Number of windows in the cache: in one hop at most two subjects may have a voice.
const KEPT: usize = 2;

/// Caches the newest audio windows with their mel frames. A window reuses frames of an earlier one
/// if it begins a whole number of frames later and its samples are the same in the overlap. A frame
/// depends on its own samples only, until the window is normalised. The results equal
/// [`LogMel::compute`]'s bit for bit.
#[derive(Debug, Default)]
pub struct MelCache {
    windows: VecDeque<Window>,
}

/// A window of mono samples from `start` on, with its mel frames.
#[derive(Debug)]
struct Window {
    start: MediaTime,
    samples: Arc<[f32]>,
    /// Scaled mel frames `[mels, frames]`, not normalised.
    scaled: Vec<f32>,
}

impl MelCache {
    /// As [`LogMel::compute_into`], for a window of mono `samples` that begins at `start`.
    ///
    /// `mel` must be the same transform at every call.
    pub fn compute_into(
        &mut self,
        mel: &LogMel,
        start: MediaTime,
        samples: Arc<[f32]>,
        out: &mut Vec<f32>,
    ) {
        let frames = mel.frames(samples.len());
        let mut scaled = vec![0.0; mel.mels() * frames];
        let overlap = self
            .windows
            .iter()
            .rev()
            .find_map(|window| Some((window, window.overlap(mel, start, &samples)?)));
        match overlap {
            Some((window, overlap)) => {
                let known = mel.inner_frames(overlap.samples);
                let theirs = mel.frames(window.samples.len());
                for row in 0..mel.mels() {
                    let from = row * theirs + overlap.frames_before + known.start;
                    let from = &window.scaled[from..from + known.len()];
                    scaled[row * frames..][known.clone()].copy_from_slice(from);
                }
                mel.scaled(&samples, 0..known.start, &mut scaled);
                mel.scaled(&samples, known.end..frames, &mut scaled);
            }
            None => mel.scaled(&samples, 0..frames, &mut scaled),
        }
        let begin = out.len();
        out.extend_from_slice(&scaled);
        mel.normalise(&mut out[begin..]);
        if self.windows.len() == KEPT {
            self.windows.pop_front();
        }
        self.windows.push_back(Window {
            start,
            samples,
            scaled,
        });
    }
}

/// The overlap of a window with an earlier one, counted from the start of the later window.
struct Overlap {
    /// Length of the overlap, in samples.
    samples: usize,
    /// Number of the earlier window's frames before the start of the later window.
    frames_before: usize,
}

impl Window {
    /// The overlap with a later window that begins at `start`; `None` if it cannot reuse a frame of
    /// this window.
    fn overlap(&self, mel: &LogMel, start: MediaTime, samples: &[f32]) -> Option<Overlap> {
        let nanos = i128::from(start.nanos_since(self.start)) * i128::from(mel.rate_hz());
        let before = usize::try_from((nanos + 500_000_000).div_euclid(1_000_000_000)).ok()?;
        let shared = self.samples.get(before..)?;
        let length = shared.len().min(samples.len());
        let is_shared = before.is_multiple_of(mel.hop())
            && !mel.inner_frames(length).is_empty()
            && shared[..length] == samples[..length];
        is_shared.then_some(Overlap {
            samples: length,
            frames_before: before / mel.hop(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{AudioNormalisation, AudioPreprocessing, AudioScale};
    use crate::model::golden::golden_samples;

    /// A transform with 24 bands and an FFT of 512 samples at 16 kHz.
    fn mel(hop: usize, scale: AudioScale, normalise: AudioNormalisation) -> LogMel {
        LogMel::new(&AudioPreprocessing {
            rate_hz: 16_000,
            n_fft: 512,
            hop,
            mels: 24,
            min_hz: 50.0,
            max_hz: 7600.0,
            scale,
            normalise,
            min_speech_ms: 0,
        })
    }

    /// Time of a sample at 16 kHz.
    fn at(sample: usize) -> MediaTime {
        MediaTime::from_nanos(sample as i64 * 62_500)
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Sequences of windows with any start, length and content give the same bits as windows
        /// computed alone.
        #[test]
        fn cached_windows_equal_windows_computed_alone(
            windows in prop::collection::vec((0usize..12, 0usize..3, 0usize..9000, 0u8..6), 1..8),
            hop in prop::sample::select(vec![160usize, 200]),
            logarithmic in any::<bool>(),
        ) {
            let mel = if logarithmic {
                mel(hop, AudioScale::Log, AudioNormalisation::Window)
            } else {
                mel(hop, AudioScale::Power, AudioNormalisation::MinMax)
            };
            let (mut cache, mut start) = (MelCache::default(), 0);
            let mut sound = golden_samples(3, 60_000);
            for (frames, odd, length, change) in windows {
                start += frames * hop + odd / 2;
                if change == 0 {
                    sound[start + length / 2] += 0.25;
                }
                let samples: Arc<[f32]> = sound[start..start + length].into();
                let mut made = vec![7.0];
                cache.compute_into(&mel, at(start), samples.clone(), &mut made);
                let (expected, _) = mel.compute(&samples);
                prop_assert_eq!(bits(&made[1..]), bits(&expected));
            }
        }
    }

    #[test]
    fn an_overlapping_window_reuses_cached_frames_and_computes_only_new_ones() {
        let mel = mel(160, AudioScale::Log, AudioNormalisation::Window);
        let sound = golden_samples(5, 64_000);
        let mut cache = MelCache::default();
        let mut window = |start: usize| {
            let samples = sound[start..start + 32_000].into();
            cache.compute_into(&mel, at(start), samples, &mut Vec::new());
            let last = cache.windows.back_mut().unwrap();
            // Zeros mark the cached frames: a computed frame would not be zero.
            last.scaled.fill(0.0);
        };
        window(0);
        window(3200);
        assert_eq!(cache.windows.len(), 2);
        let mut out = Vec::new();
        let overlap = cache.windows[0].overlap(&mel, at(3200), &sound[3200..35_200]);
        assert_eq!(
            overlap.map(|o| (o.samples, o.frames_before)),
            Some((28_800, 20))
        );
        assert!(
            cache.windows[0]
                .overlap(&mel, at(3201), &sound[3201..35_201])
                .is_none()
        );
        cache.compute_into(&mel, at(6400), sound[6400..38_400].into(), &mut out);
        let scaled = &cache.windows.back().unwrap().scaled;
        let taken = scaled.iter().filter(|v| **v == 0.0).count();
        assert_eq!(taken, 24 * mel.inner_frames(28_800).len());
    }
}
