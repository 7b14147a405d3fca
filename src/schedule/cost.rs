//! Estimated cost of a clip, and the batch size that follows from it.

/// Weight of the newest batch in the moving average.
const NEWEST_WEIGHT: f64 = 0.3;
/// A batch may take at most `1 / BATCH_TIME_DIVISOR` of the time that is left to the most urgent
/// clip of the batch.
const BATCH_TIME_DIVISOR: i64 = 2;

/// Moving average of the encoders' time per clip.
#[derive(Debug, Default)]
pub(super) struct ClipCost {
    /// Time per clip in nanoseconds; 0 before the first measured batch.
    nanos: f64,
}

impl ClipCost {
    /// Adds the measurement that a batch of `clips` clips took `nanos` nanoseconds. The fixed cost
    /// of a batch is counted as cost of its clips, so the estimate errs towards small batches.
    pub fn note(&mut self, clips: usize, nanos: i64) {
        let per_clip = nanos.max(0) as f64 / clips.max(1) as f64;
        if self.nanos == 0.0 {
            self.nanos = per_clip;
        } else {
            self.nanos += NEWEST_WEIGHT * (per_clip - self.nanos);
        }
    }

    /// Largest number of clips in a batch whose most urgent clip has `left_nanos` nanoseconds left.
    /// At least 1, and exactly 1 before the first measured batch.
    pub fn most_clips(&self, left_nanos: i64) -> usize {
        if self.nanos == 0.0 {
            return 1;
        }
        let most = (left_nanos.max(0) / BATCH_TIME_DIVISOR) as f64 / self.nanos;
        (most as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_cost_and_the_time_left() {
        let mut cost = ClipCost::default();
        assert_eq!(cost.most_clips(i64::MAX), 1, "no batch measured");
        cost.note(4, 4_000_000);
        assert_eq!(cost.most_clips(16_000_000), 8);
        assert_eq!(cost.most_clips(1_000), 1);
        assert_eq!(cost.most_clips(-1), 1);
        (0..40).for_each(|_| cost.note(1, 4_000_000));
        assert_eq!(
            cost.most_clips(16_000_001),
            2,
            "the estimate follows slower batches"
        );
    }
}
