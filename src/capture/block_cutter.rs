//! Cutting of decoded sound into blocks of one size. Buffers are joined by their stamps into one
//! continuous count of samples.

use std::sync::Arc;

use crate::clip::{SAMPLE_RATE_HZ, samples_to_nanos};

/// Number of samples in one block: 20 ms.
pub(super) const BLOCK_SAMPLES: usize = SAMPLE_RATE_HZ as usize / 50;

/// Largest difference between a stamp and the count of samples, in samples (40 ms), that is treated
/// as rounding or jitter. A larger difference is a gap and is kept.
const JOIN_SAMPLES: i64 = SAMPLE_RATE_HZ as i64 * 40 / 1000;

/// Cuts samples into blocks. Block boundaries depend on the sound alone, not on how the container
/// packed it.
#[derive(Debug, Default)]
pub(super) struct BlockCutter {
    /// Position of the first pending sample, in samples at 16 kHz since time 0; `None` before the
    /// first buffer.
    start: Option<i64>,
    pending: Vec<f32>,
}

/// A block: the position of its first sample, in samples at 16 kHz since time 0, and its samples.
pub(super) type CutBlock = (i64, Arc<[f32]>);

impl BlockCutter {
    /// Adds mono samples at 16 kHz that begin at `nanos`, and passes complete blocks to `emit`.
    /// `emit` returns whether to continue; `push` returns `false` if it did not.
    pub fn push(
        &mut self,
        nanos: i64,
        samples: &[f32],
        mut emit: impl FnMut(CutBlock) -> bool,
    ) -> bool {
        let stamped = position(nanos);
        let expected = self.start.map(|start| start + self.pending.len() as i64);
        let mut samples = samples;
        match expected {
            None => self.start = Some(stamped),
            Some(expected) if (stamped - expected).abs() <= JOIN_SAMPLES => {}
            Some(expected) if stamped > expected => {
                if !self.flush(&mut emit) {
                    return false;
                }
                self.start = Some(stamped);
            }
            // Samples that overlap earlier ones were delivered before: time never goes back.
            Some(expected) => {
                samples = &samples[samples.len().min((expected - stamped) as usize)..]
            }
        }
        self.pending.extend_from_slice(samples);
        let whole = self.pending.len() / BLOCK_SAMPLES * BLOCK_SAMPLES;
        let start = self.start.expect("set above");
        for (index, block) in self.pending[..whole].chunks(BLOCK_SAMPLES).enumerate() {
            if !emit((start + (index * BLOCK_SAMPLES) as i64, block.into())) {
                return false;
            }
        }
        self.pending.drain(..whole);
        self.start = Some(start + whole as i64);
        true
    }

    /// Passes the remaining samples to `emit` as a shorter block. Returns `false` if `emit` did.
    pub fn flush(&mut self, mut emit: impl FnMut(CutBlock) -> bool) -> bool {
        match self.start {
            Some(start) if !self.pending.is_empty() => {
                self.start = Some(start + self.pending.len() as i64);
                emit((start, std::mem::take(&mut self.pending).into()))
            }
            _ => true,
        }
    }
}

/// Index of the sample at 16 kHz that is nearest to `nanos` nanoseconds.
fn position(nanos: i64) -> i64 {
    let sample = samples_to_nanos(1);
    (nanos + sample / 2).div_euclid(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cuts a ramp that is packed by `sizes`, with stamps jittered by `jitter` nanoseconds. Returns
    /// the positions and samples of the blocks.
    fn cut(sizes: &[usize], jitter: &[i64]) -> Vec<(i64, Vec<f32>)> {
        let (mut cutter, mut out, mut at) = (BlockCutter::default(), Vec::new(), 0i64);
        for (index, size) in sizes.iter().enumerate() {
            let samples: Vec<f32> = (at..at + *size as i64).map(|n| n as f32).collect();
            let offset = if index == 0 {
                0
            } else {
                jitter[index % jitter.len()]
            };
            cutter.push(samples_to_nanos(at) + offset, &samples, |(start, block)| {
                out.push((start, block.to_vec()));
                true
            });
            at += *size as i64;
        }
        cutter.flush(|(start, block)| {
            out.push((start, block.to_vec()));
            true
        });
        out
    }

    proptest! {
        /// The blocks do not depend on how a container packs the sound.
        #[test]
        fn blocks_do_not_depend_on_packing(
            sizes in prop::collection::vec(1usize..3000, 1..20),
            jitter in prop::collection::vec(-20_000_000i64..20_000_000, 1..5),
        ) {
            let total = sizes.iter().sum::<usize>();
            prop_assert_eq!(cut(&sizes, &jitter), cut(&[total], &[0]));
        }
    }

    #[test]
    fn gaps_are_kept_and_overlaps_are_delivered_once() {
        let (mut cutter, mut out) = (BlockCutter::default(), Vec::new());
        let mut push = |cutter: &mut BlockCutter, millis: i64, samples: usize| {
            cutter.push(millis * 1_000_000, &vec![0.5; samples], |(start, block)| {
                out.push((start, block.len()));
                true
            });
        };
        push(&mut cutter, 0, 400);
        push(&mut cutter, 1000, 320);
        push(&mut cutter, 900, 1760);
        assert_eq!(out, [(0, 320), (320, 80), (16_000, 320)]);
    }
}
