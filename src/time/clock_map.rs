//! The drift filter: from a device's own clock to media time.

use std::collections::VecDeque;

use super::MediaTime;

/// Over how long the least-delayed reading wins.
const WINDOW_NANOS: i64 = 10_000_000_000;
/// How fast the offset follows, in parts per million of the device's time: more than any crystal drifts.
const SLEW_PPM: i64 = 500;
/// During the first second the offset follows at once.
const WARM_UP_NANOS: i64 = 1_000_000_000;
/// Readings this much late, for [`LATE_FOR_NANOS`] without exception, are no jitter: the device lost that time.
const LATE_NANOS: i64 = 100_000_000;
const LATE_FOR_NANOS: i64 = 1_000_000_000;

/// Places moments of a device's clock (samples counted, divided by the rate) on the one timeline.
///
/// It is fed with readings: a device's moment, and media time when that was seen, which is late by a delay that varies but is never
/// negative. So the least-delayed reading of a window tells most about the offset between the clocks; what it says is followed slowly,
/// and what comes out never goes back.
#[derive(Debug, Default)]
pub struct ClockMap {
    /// Readings of the window whose offset is below all later ones: (media time, offset), offsets rising.
    lowest: VecDeque<(i64, i64)>,
    offset: i64,
    /// The first and the newest reading's device time.
    first: Option<i64>,
    newest: i64,
    /// Since when all readings are far too late, and the least of their offsets.
    late: Option<(i64, i64)>,
    last: i64,
    slew_rest: i64,
}

impl ClockMap {
    pub fn new() -> Self {
        ClockMap {
            last: i64::MIN,
            ..ClockMap::default()
        }
    }

    /// What the device calls `device_nanos` was seen at `seen`.
    pub fn observe(&mut self, device_nanos: i64, seen: MediaTime) {
        let (now, offset) = (seen.nanos(), seen.nanos() - device_nanos);
        let first = *self.first.get_or_insert(device_nanos);
        while self
            .lowest
            .back()
            .is_some_and(|(_, other)| *other >= offset)
        {
            self.lowest.pop_back();
        }
        self.lowest.push_back((now, offset));
        while self
            .lowest
            .front()
            .is_some_and(|(then, _)| now - then > WINDOW_NANOS)
        {
            self.lowest.pop_front();
        }
        let target = self.lowest.front().expect("just pushed").1;
        if device_nanos - first < WARM_UP_NANOS {
            (self.offset, self.newest) = (target, device_nanos);
            return;
        }
        if offset > self.offset + LATE_NANOS {
            let (since, least) = self
                .late
                .map_or((now, offset), |(since, least)| (since, least.min(offset)));
            self.late = Some((since, least));
            if now - since >= LATE_FOR_NANOS {
                self.lowest = VecDeque::from([(now, least)]);
                (self.offset, self.newest, self.late) = (least, device_nanos, None);
                return;
            }
        } else {
            self.late = None;
        }
        let passed = (device_nanos - self.newest).max(0) + self.slew_rest;
        let most = passed * SLEW_PPM / 1_000_000;
        self.slew_rest = passed - most * 1_000_000 / SLEW_PPM;
        self.offset += (target - self.offset).clamp(-most, most);
        self.newest = self.newest.max(device_nanos);
    }

    /// Media time of `device_nanos`; never before what was placed earlier.
    pub fn place(&mut self, device_nanos: i64) -> MediaTime {
        self.last = self.last.max(device_nanos.saturating_add(self.offset));
        MediaTime::from_nanos(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK_NANOS: i64 = 20_000_000;

    /// A device whose clock is `ppm` fast, read with delays up to `jitter_nanos`: the worst error after warm-up, in nanoseconds.
    fn worst_error(ppm: i64, jitter_nanos: i64, seed: u64, seconds: i64) -> i64 {
        let (mut map, mut state, mut worst, mut last) = (ClockMap::new(), seed | 1, 0, i64::MIN);
        let start = 7_000_000_000;
        for block in 0..seconds * 1_000_000_000 / BLOCK_NANOS {
            let truth = start + block * BLOCK_NANOS;
            let device = block * BLOCK_NANOS + block * BLOCK_NANOS / 1_000_000 * ppm;
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let delay = (state % (jitter_nanos as u64 + 1)) as i64;
            map.observe(device, MediaTime::from_nanos(truth + delay));
            let placed = map.place(device).nanos();
            assert!(placed >= last, "went back from {last} to {placed}");
            last = placed;
            if block * BLOCK_NANOS > WARM_UP_NANOS {
                worst = worst.max((placed - truth).abs());
            }
        }
        worst
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn four_hours_of_drift_and_jitter_stay_under_ten_milliseconds(ppm in -200i64..=200, seed: u64) {
            let worst = worst_error(ppm, 20_000_000, seed, 4 * 3600);
            prop_assert!(worst < 10_000_000, "{worst} ns at {ppm} ppm");
        }
    }

    #[test]
    fn the_extremes_of_drift_hold_too() {
        for ppm in [-200, 200] {
            let worst = worst_error(ppm, 20_000_000, 99, 4 * 3600);
            assert!(worst < 10_000_000, "{worst} ns at {ppm} ppm");
        }
    }

    #[test]
    fn time_that_the_device_lost_is_made_up_within_two_seconds() {
        let mut map = ClockMap::new();
        let lost = 350_000_000;
        for block in 0..500i64 {
            let device = block * BLOCK_NANOS;
            let truth = device + if block >= 200 { lost } else { 0 };
            map.observe(device, MediaTime::from_nanos(truth));
            let error = map.place(device).nanos() - truth;
            if !(200..=300).contains(&block) {
                assert!(error.abs() < 1_000_000, "block {block}: {error} ns");
            }
        }
    }
}
