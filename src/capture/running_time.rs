//! Position of a pass of a pipeline on the daemon's timeline, and its pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{Clock, MediaTime, SystemClock};

/// Conversion of a pipeline's running time to media time and to release time.
#[derive(Debug)]
pub(super) struct RunningTimeMap {
    /// Added to running time to get the stamp, nanoseconds.
    pub stamp_offset: AtomicI64,
    /// Added to running time to get the release time, nanoseconds.
    pub release_offset: AtomicI64,
    /// The clock for pacing; `None`: no pacing.
    pub pacing: Option<Arc<SystemClock>>,
    pub stop: Arc<AtomicBool>,
}

impl RunningTimeMap {
    /// The release time.
    pub fn release_time(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.release_offset.load(Ordering::Acquire))
    }

    /// Media time of this running time: the stamp of a frame or chunk.
    pub fn media_time(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.stamp_offset.load(Ordering::Acquire))
    }

    /// Waits for the release time of `running_nanos`. `false` when capture is to stop.
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
