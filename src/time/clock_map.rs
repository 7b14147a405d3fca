//! The drift filter from a device clock to media time.

use std::collections::VecDeque;

use super::MediaTime;

/// Length, in nanoseconds, of the window over which the least offset of the readings is taken.
const WINDOW_NANOS: i64 = 10_000_000_000;
/// Largest change of the offset, in parts per million of device time. No crystal drifts as fast.
const SLEW_PPM: i64 = 500;
/// Duration of the warm-up in nanoseconds, during which the offset follows without limit.
const WARM_UP_NANOS: i64 = 1_000_000_000;
/// Delay of a reading beyond the current offset, in nanoseconds, from which the reading is late. If
/// readings stay late for [`LATE_FOR_NANOS`], the device has lost time, and the delay is not
/// jitter.
const LATE_NANOS: i64 = 100_000_000;
/// Duration of late readings, in nanoseconds, after which the offset is corrected at once.
const LATE_FOR_NANOS: i64 = 1_000_000_000;

/// Maps device time (the sample count divided by the rate) to media time.
///
/// Its input are readings: a device time, and the media time at which it was observed. The delay of
/// the observation varies, but is never negative. The least-delayed reading of a window is
/// therefore the best estimate of the offset between the clocks. The offset follows this estimate
/// at a limited rate, and the output is monotonic.
#[derive(Debug, Default)]
pub struct ClockMap {
    /// Readings in the window whose offset is below the offsets of all later readings, as (media
    /// time, offset) in nanoseconds. The offsets ascend.
    lowest: VecDeque<(i64, i64)>,
    /// Offset that is added to device time to get media time, in nanoseconds.
    offset: i64,
    /// Device time of the first reading, in nanoseconds.
    first: Option<i64>,
    /// Device time of the newest reading, in nanoseconds.
    newest: i64,
    /// Start of the current run of late readings in media time, and their least offset, in
    /// nanoseconds.
    late: Option<(i64, i64)>,
    /// The newest result of `place`, in nanoseconds of media time.
    last: i64,
    /// Device time, in nanoseconds, that has not yet been converted to a change of `offset`.
    slew_rest: i64,
}

impl ClockMap {
    /// A map without readings.
    pub fn new() -> Self {
        ClockMap {
            last: i64::MIN,
            ..ClockMap::default()
        }
    }

    /// Adds a reading: the device time `device_nanos` was observed at the media time `seen`.
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

    /// Media time of the device time `device_nanos`; never earlier than a previous result.
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

    /// Worst error after the warm-up, in nanoseconds, for a device clock that is `ppm` parts per
    /// million fast and is read with delays up to `jitter_nanos`.
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
        fn four_hours_of_drift_and_jitter_stay_under_ten_milliseconds(
            ppm in -200i64..=200,
            seed: u64,
        ) {
            let worst = worst_error(ppm, 20_000_000, seed, 4 * 3600);
            prop_assert!(worst < 10_000_000, "{worst} ns at {ppm} ppm");
        }
    }

    #[test]
    fn extreme_drift_stays_under_ten_milliseconds() {
        for ppm in [-200, 200] {
            let worst = worst_error(ppm, 20_000_000, 99, 4 * 3600);
            assert!(worst < 10_000_000, "{worst} ns at {ppm} ppm");
        }
    }

    #[test]
    fn lost_device_time_is_corrected_within_two_seconds() {
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
