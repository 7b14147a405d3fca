//! Timing of all live sources: the interval of checks, and the pause before a source is opened
//! again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Pause before the first attempt to open a lost source again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Interval at which a running source is checked.
pub(super) const WATCH_STEP: Duration = Duration::from_millis(50);

/// Sleeps for `length`, in steps, so that a stop takes effect soon. Returns `false` if capture is
/// to stop.
pub(super) fn pause(length: Duration, stop: &AtomicBool) -> bool {
    let mut left = length;
    while !left.is_zero() && !stop.load(Ordering::Acquire) {
        let step = left.min(WATCH_STEP);
        std::thread::sleep(step);
        left -= step;
    }
    !stop.load(Ordering::Acquire)
}
