//! Conversion of a pipeline's running time to media time, and pacing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{Clock, MediaTime, SystemClock};

/// Maps running time, GStreamer's time since the start of a pipeline, to media time and to the time
/// at which an item is released.
#[derive(Debug)]
pub(super) struct RunningTimeMap {
    /// Added to running time to get the media time, in nanoseconds.
    pub stamp_offset: AtomicI64,
    /// Added to running time to get the release time on the pacing clock, in nanoseconds.
    pub release_offset: AtomicI64,
    /// The clock for pacing; `None`: no pacing.
    pub pacing: Option<Arc<SystemClock>>,
    /// Set when capture is to stop.
    pub stop: Arc<AtomicBool>,
}

impl RunningTimeMap {
    /// The time at which an item with this running time is released, on the pacing clock.
    pub fn release_time(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.release_offset.load(Ordering::Acquire))
    }

    /// The media time of this running time: the stamp of a frame or block.
    pub fn media_time(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.stamp_offset.load(Ordering::Acquire))
    }

    /// Waits until the release time of this running time, if playback is paced. Returns `false` if
    /// capture is to stop.
    pub fn wait_until_release(&self, running_nanos: i64) -> bool {
        if let Some(clock) = &self.pacing {
            let due = self.release_time(running_nanos);
            loop {
                let left = due.nanos_since(clock.now());
                if left <= 0 || self.stop.load(Ordering::Acquire) {
                    break;
                }
                // In steps, so that a stop takes effect soon.
                std::thread::sleep(Duration::from_nanos(left.min(50_000_000) as u64));
            }
        }
        !self.stop.load(Ordering::Acquire)
    }
}
