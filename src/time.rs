//! Media time, spans, clocks, and the map from a device clock to media time.
//!
//! Every stamp in the program is a [`MediaTime`]: nanoseconds of `CLOCK_MONOTONIC` since the start
//! of the daemon (live), or since the start of the recording (offline). Only this file reads the
//! operating system's clock, and only `capture` creates stamps. Device clocks are converted by
//! [`ClockMap`] and do not leave `capture`.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

mod clock_map;
pub use clock_map::ClockMap;

/// A time on the media timeline, in nanoseconds. Negative for data captured before the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The origin of the media timeline.
    pub const ZERO: MediaTime = MediaTime(0);
    /// Later than every stamp: the watermark of a source that is off or has ended.
    pub const MAX: MediaTime = MediaTime(i64::MAX);

    /// The time `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: i64) -> Self {
        MediaTime(nanos)
    }
    /// The time `millis` milliseconds after the origin.
    pub const fn from_millis(millis: i64) -> Self {
        MediaTime(millis * 1_000_000)
    }
    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> i64 {
        self.0
    }
    /// Seconds since the origin.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 * 1e-9
    }
    /// `self - earlier` in nanoseconds; negative if `earlier` is later. Saturates.
    pub const fn nanos_since(self, earlier: MediaTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
    /// `self - earlier` in milliseconds.
    pub fn millis_since(self, earlier: MediaTime) -> f64 {
        self.nanos_since(earlier) as f64 * 1e-6
    }
    /// `self + nanos`. Saturates.
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        MediaTime(self.0.saturating_add(nanos))
    }
    /// `self + duration`. Saturates.
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
    /// `self - duration`. Saturates.
    pub fn minus(self, duration: Duration) -> Self {
        self.plus_nanos(-i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.secs_f64())
    }
}

/// A half-open interval of media time, `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: MediaTime,
    pub end: MediaTime,
}

impl Span {
    /// The interval from `start` to `end`.
    ///
    /// # Panics
    /// If `end` is before `start`.
    pub fn new(start: MediaTime, end: MediaTime) -> Self {
        assert!(
            start <= end,
            "a span must not end before it starts: {start:?}..{end:?}"
        );
        Span { start, end }
    }
    /// Whether `time` is in the span. The start is, the end is not.
    pub fn contains(&self, time: MediaTime) -> bool {
        self.start <= time && time < self.end
    }
    /// Length in nanoseconds.
    pub fn nanos(&self) -> i64 {
        self.end.nanos_since(self.start)
    }
    /// The part that both spans have in common; `None` if it is empty.
    pub fn intersection(&self, other: &Span) -> Option<Span> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Span { start, end })
    }
}

/// A source of the current media time. Tests and replays implement clocks of their own.
pub trait Clock: Send + Sync {
    /// The current media time.
    fn now(&self) -> MediaTime;
}

/// The clock of live capture: `CLOCK_MONOTONIC`, counted from the construction of this value.
#[derive(Debug)]
pub struct SystemClock {
    origin_nanos: i64,
}

impl SystemClock {
    /// Creates a clock whose media time 0 is now.
    #[expect(clippy::new_without_default, reason = "construction starts the clock")]
    pub fn new() -> Self {
        SystemClock {
            origin_nanos: monotonic_nanos(),
        }
    }
    /// `CLOCK_MONOTONIC` at media time 0, in nanoseconds. `capture` subtracts it from absolute
    /// device stamps, for example GStreamer's base time plus PTS.
    pub fn origin_nanos(&self) -> i64 {
        self.origin_nanos
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MediaTime {
        MediaTime(monotonic_nanos() - self.origin_nanos)
    }
}

/// A clock that is advanced explicitly, for tests and offline replay.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicI64,
}

impl ManualClock {
    /// Advances the clock to `time`; an earlier time has no effect.
    pub fn advance_to(&self, time: MediaTime) {
        self.nanos.fetch_max(time.0, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> MediaTime {
        MediaTime(self.nanos.load(Ordering::Acquire))
    }
}

/// The current value of `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_nanos() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_nanos() -> i64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec * 1_000_000_000 + spent.tv_nsec
}

/// CPU time of all threads of the process, in nanoseconds.
pub fn process_cpu_nanos() -> i64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec * 1_000_000_000 + spent.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_half_open() {
        let span = Span::new(MediaTime::from_millis(10), MediaTime::from_millis(20));
        assert!(span.contains(MediaTime::from_millis(10)));
        assert!(!span.contains(MediaTime::from_millis(20)));
        let touching = Span::new(MediaTime::from_millis(20), MediaTime::from_millis(30));
        assert_eq!(span.intersection(&touching), None);
    }

    #[test]
    fn a_manual_clock_never_goes_back() {
        let clock = ManualClock::default();
        clock.advance_to(MediaTime::from_millis(5));
        clock.advance_to(MediaTime::from_millis(3));
        assert_eq!(clock.now(), MediaTime::from_millis(5));
    }
}
