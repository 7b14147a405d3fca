//! Resampling from a microphone's rate to 16 kHz, with the time of each sample.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler};

use crate::clip::SAMPLE_RATE_HZ;

/// Resamples mono sound of a device to 16 kHz, in pieces of about 10 ms.
pub(super) struct ToSpeechRate {
    rate_hz: u32,
    /// `None` for a device at 16 kHz.
    fft: Option<Fft<f32>>,
    pending: Vec<f32>,
    /// Index of the first sample in `pending`, counted by the device at its own rate.
    start: i64,
    out: Vec<f32>,
}

impl ToSpeechRate {
    /// A resampler for sound at `rate_hz`.
    ///
    /// # Errors
    /// The rate cannot be converted; the error is the reason as text.
    pub fn new(rate_hz: u32) -> Result<Self, String> {
        let fft = if rate_hz == SAMPLE_RATE_HZ {
            None
        } else {
            let chunk = (rate_hz / 100).max(1) as usize;
            Some(
                Fft::new(
                    rate_hz as usize,
                    SAMPLE_RATE_HZ as usize,
                    chunk,
                    1,
                    FixedSync::Both,
                )
                .map_err(|error| error.to_string())?,
            )
        };
        Ok(ToSpeechRate {
            rate_hz,
            fft,
            pending: Vec::new(),
            start: 0,
            out: Vec::new(),
        })
    }

    /// Discards the pending samples. The next sample has the index `position` in the device's
    /// count.
    pub fn restart(&mut self, position: i64) {
        self.pending.clear();
        self.start = position;
        if let Some(fft) = &mut self.fft {
            fft.reset();
        }
    }

    /// Adds mono samples at the device's rate. Complete pieces at 16 kHz go to `emit`, with the
    /// device time of their first sample in nanoseconds.
    pub fn push(&mut self, samples: &[f32], mut emit: impl FnMut(i64, &[f32])) {
        self.pending.extend_from_slice(samples);
        let piece = self
            .fft
            .as_ref()
            .map_or(SAMPLE_RATE_HZ as usize / 100, Resampler::input_frames_next);
        let mut used = 0;
        while self.pending.len() - used >= piece {
            let input = &self.pending[used..used + piece];
            let begins = nanos(self.start + used as i64, self.rate_hz);
            match &mut self.fft {
                None => emit(begins, input),
                Some(fft) => {
                    self.out.resize(fft.output_frames_next(), 0.0);
                    let frames = self.out.len();
                    let from = InterleavedSlice::new(input, 1, piece).expect("sized to fit");
                    let mut into =
                        InterleavedSlice::new_mut(&mut self.out, 1, frames).expect("sized to fit");
                    fft.process_into_buffer(&from, &mut into, None)
                        .expect("sized to fit");
                    // The delay is rounded to whole input samples, because the centre of the filter
                    // is one.
                    let delay = fft.output_delay() as i64 * i64::from(self.rate_hz)
                        / i64::from(SAMPLE_RATE_HZ);
                    emit(begins - nanos(delay, self.rate_hz), &self.out);
                }
            }
            used += piece;
        }
        self.pending.drain(..used);
        self.start += used as i64;
    }
}

/// Time of the sample with the index `position` at `rate_hz`, in nanoseconds.
pub(super) fn nanos(position: i64, rate_hz: u32) -> i64 {
    (i128::from(position) * 1_000_000_000 / i128::from(rate_hz)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 440 Hz tone at every rate is resampled to the same tone, with correct sample times.
    #[test]
    fn a_tone_keeps_pitch_level_and_timing() {
        let tone = |seconds: f64| (seconds * 440.0 * std::f64::consts::TAU).sin();
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000] {
            let mut resampler = ToSpeechRate::new(rate).unwrap();
            // The device has already counted one second of samples.
            resampler.restart(i64::from(rate));
            let input: Vec<f32> = (0..2 * rate)
                .map(|n| tone(f64::from(n) / f64::from(rate)) as f32)
                .collect();
            let (mut worst, mut count) = (0.0f64, 0);
            for block in input.chunks(137) {
                resampler.push(block, |begins, samples| {
                    for (index, sample) in samples.iter().enumerate() {
                        let seconds = (begins - 1_000_000_000) as f64 * 1e-9 + index as f64 / 16e3;
                        if seconds > 0.1 {
                            worst = worst.max((tone(seconds) - f64::from(*sample)).abs());
                        }
                        count += 1;
                    }
                });
            }
            assert!(worst < 0.01, "{rate} Hz: off by {worst}");
            assert!(
                (f64::from(count) / 32_000.0 - 1.0).abs() < 0.03,
                "{rate} Hz: {count} samples"
            );
        }
    }
}
