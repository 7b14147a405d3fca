//! What a clip of a batch costs, and how many clips a batch may have for that.

/// Weight of the newest batch in the estimate.
const NEWEST: f64 = 0.3;
/// A batch takes at most one part in so many of the time that its most urgent clip has left.
const SHARE: i64 = 2;

/// An estimate of the time that the encoders take for one clip.
#[derive(Debug, Default)]
pub(super) struct ClipCost {
    /// 0: nothing is known yet.
    nanos: f64,
}

impl ClipCost {
    /// A batch of `clips` took `nanos`. Its fixed part counts as the clips' own, so that the
    /// estimate errs to small batches.
    pub fn note(&mut self, clips: usize, nanos: i64) {
        let of_clip = nanos.max(0) as f64 / clips.max(1) as f64;
        if self.nanos == 0.0 {
            self.nanos = of_clip;
        } else {
            self.nanos += NEWEST * (of_clip - self.nanos);
        }
    }

    /// Clips of a batch of which the most urgent one has `left_nanos`: at least that one, and it
    /// alone until a cost is known.
    pub fn most_clips(&self, left_nanos: i64) -> usize {
        if self.nanos == 0.0 {
            return 1;
        }
        let most = (left_nanos.max(0) / SHARE) as f64 / self.nanos;
        (most as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_cost_and_the_time_left() {
        let mut cost = ClipCost::default();
        assert_eq!(cost.most_clips(i64::MAX), 1, "nothing is known");
        cost.note(4, 4_000_000);
        assert_eq!(cost.most_clips(16_000_000), 8);
        assert_eq!(cost.most_clips(1_000), 1);
        assert_eq!(cost.most_clips(-1), 1);
        (0..40).for_each(|_| cost.note(1, 4_000_000));
        assert_eq!(cost.most_clips(16_000_001), 2, "the machine became slower");
    }
}
