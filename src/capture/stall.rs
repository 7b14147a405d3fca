//! Detection of stalled sources. The stall limit follows the delivery rate of the source.

use crate::time::MediaTime;

/// Shortest stall limit in nanoseconds, for sources at video rates.
const SHORTEST_NANOS: i64 = 1_500_000_000;
/// Longest stall limit in nanoseconds, for cameras with one picture in several seconds. A source
/// with a longer interval is lost, and recovers at each delivery.
const LONGEST_NANOS: i64 = 30_000_000_000;
/// Stall limit in nanoseconds until the rate of the source is known.
const UNKNOWN_NANOS: i64 = 10_000_000_000;
/// The stall limit is this many times the longest recent interval.
const INTERVALS: i64 = 3;
/// Number of intervals that are remembered.
const RECENT: usize = 16;
/// Number of intervals after which the rate of the source is known.
const RATE_KNOWN_AFTER: usize = 3;

/// Detects stalls of one track. It reads no clock: counts and times are arguments.
#[derive(Clone, Debug)]
pub(super) struct StallDetector {
    opened: MediaTime,
    /// Time limit for the first delivery, in nanoseconds after `opened`.
    opening_nanos: i64,
    /// Number of items delivered since the opening.
    delivered: u64,
    /// Time of the last delivery.
    last: MediaTime,
    /// Nanoseconds between recent deliveries, a ring buffer.
    recent: [i64; RECENT],
    /// Number of measured intervals since the opening.
    intervals: usize,
}

impl StallDetector {
    /// A detector for a source that was opened at `opened`. The source may take `opening_nanos`
    /// nanoseconds to its first delivery.
    pub fn new(opened: MediaTime, opening_nanos: i64) -> Self {
        StallDetector {
            opened,
            opening_nanos,
            delivered: 0,
            last: opened,
            recent: [0; RECENT],
            intervals: 0,
        }
    }

    /// Notes that encoded data have arrived that cannot be decoded yet. The first delivery may then
    /// take up to the longest limit.
    pub fn data_arrived(&mut self) {
        self.opening_nanos = self.opening_nanos.max(LONGEST_NANOS);
    }

    /// Records at `now` that `delivered` items have arrived since the opening.
    pub fn observe(&mut self, delivered: u64, now: MediaTime) {
        let new = delivered.saturating_sub(self.delivered);
        if new == 0 {
            return;
        }
        if self.delivered > 0 {
            self.recent[self.intervals % RECENT] = now.nanos_since(self.last) / new as i64;
            self.intervals += 1;
        }
        (self.delivered, self.last) = (delivered, now);
    }

    /// The stall limit: nanoseconds without a delivery after which the source is lost.
    pub fn limit_nanos(&self) -> i64 {
        if self.delivered == 0 {
            return self.opening_nanos;
        }
        if self.intervals < RATE_KNOWN_AFTER {
            return UNKNOWN_NANOS;
        }
        let longest = self.recent.iter().copied().max().unwrap_or(0);
        (longest * INTERVALS).clamp(SHORTEST_NANOS, LONGEST_NANOS)
    }

    /// The reason why the source is lost at `now`; `None` if it is not lost. `what`: name of the
    /// items, such as `pictures`.
    pub fn stalled(&self, what: &str, now: MediaTime) -> Option<String> {
        let limit = self.limit_nanos();
        let seconds = limit as f64 * 1e-9;
        if self.delivered == 0 {
            return (now.nanos_since(self.opened) > limit)
                .then(|| format!("no {what} within {seconds:.0} s of opening"));
        }
        (now.nanos_since(self.last) > limit).then(|| format!("no {what} for {seconds:.1} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: i64 = 10_000_000_000;

    /// Times at which a source with deliveries at the times `millis` becomes lost, checked every 50
    /// ms until `until`. All times are in milliseconds.
    fn losses(millis: &[i64], until: i64) -> Vec<i64> {
        let mut stall = StallDetector::new(MediaTime::ZERO, OPENING);
        let (mut lost, mut was_lost) = (Vec::new(), false);
        for now in (0..=until).step_by(50) {
            let at = MediaTime::from_nanos(now * 1_000_000);
            stall.observe(
                millis.iter().filter(|time| **time <= now).count() as u64,
                at,
            );
            let is_lost = stall.stalled("pictures", at).is_some();
            if is_lost && !was_lost {
                lost.push(now);
            }
            was_lost = is_lost;
        }
        lost
    }

    /// Times of deliveries every `step` milliseconds.
    fn steady(step: i64, from: i64, until: i64) -> Vec<i64> {
        (from..until).step_by(step as usize).collect()
    }

    #[test]
    fn a_source_at_video_rate_is_lost_after_a_second_and_a_half() {
        for step in [20, 33, 100, 400] {
            let seen = losses(&steady(step, 500, 5000), 12_000);
            let last = *steady(step, 500, 5000).last().unwrap();
            assert_eq!(seen.len(), 1, "{step}");
            assert!(
                (1500..=1650).contains(&(seen[0] - last)),
                "{step}: {seen:?}"
            );
        }
    }

    #[test]
    fn the_loss_of_a_slow_source_is_detected_after_three_intervals() {
        for step in [1000, 2000, 5000, 9000] {
            let times = steady(step, 500, 60_000);
            let last = *times.last().unwrap();
            let seen = losses(&times, 120_000);
            assert_eq!(seen.len(), 1, "{step}: {seen:?}");
            let noticed = seen[0] - last;
            let limit = (3 * step).min(30_000);
            assert!((limit..limit + 200).contains(&noticed), "{step}: {noticed}");
        }
    }

    #[test]
    fn a_falling_rate_causes_one_loss_and_old_intervals_expire() {
        let mut times = steady(40, 500, 5000);
        times.extend(steady(2000, 7000, 30_000));
        assert_eq!(losses(&times, 30_000).len(), 1);
        times.extend(steady(40, 30_000, 40_000));
        let seen = losses(&times, 50_000);
        assert!(seen.len() == 2 && seen[1] < 41_700, "{seen:?}");
    }

    #[test]
    fn a_source_without_deliveries_is_lost_after_the_opening_time() {
        assert_eq!(losses(&[], 20_000), [10_050]);
        let mut stall = StallDetector::new(MediaTime::ZERO, OPENING);
        let at = |seconds: i64| MediaTime::from_nanos(seconds * 1_000_000_000);
        assert_eq!(
            stall.stalled("sound", at(11)).as_deref(),
            Some("no sound within 10 s of opening")
        );
        stall.data_arrived();
        assert_eq!(stall.stalled("sound", at(30)), None);
        assert_eq!(
            stall.stalled("sound", at(31)).as_deref(),
            Some("no sound within 30 s of opening")
        );
        stall.observe(1, at(1));
        assert_eq!(stall.stalled("sound", at(11)), None);
        assert_eq!(
            stall.stalled("sound", at(12)).as_deref(),
            Some("no sound for 10.0 s")
        );
    }
}
