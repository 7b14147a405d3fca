//! Where on the daemon's timeline a pass of a pipeline lies, and its pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{Clock, MediaTime, SystemClock};

/// How a pipeline's running time becomes media time, and when a buffer may go.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Added to running time to get the stamp.
    pub stamp_offset: AtomicI64,
    /// Added to running time to get the hour of release on `clock`.
    pub release_offset: AtomicI64,
    /// `None`: everything goes at once.
    pub pacing: Option<Arc<SystemClock>>,
    pub stop: Arc<AtomicBool>,
}

impl Timeline {
    /// The hour of release.
    pub fn due(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.release_offset.load(Ordering::Acquire))
    }

    pub fn place(&self, running_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(running_nanos + self.stamp_offset.load(Ordering::Acquire))
    }

    /// Waits for the hour of `running_nanos`. `false` when capture is to stop.
    pub fn wait(&self, running_nanos: i64) -> bool {
        if let Some(clock) = &self.pacing {
            let due = self.due(running_nanos);
            loop {
                let left = due.nanos_since(clock.now());
                if left <= 0 || self.stop.load(Ordering::Acquire) {
                    break;
                }
                // In steps, so that a stop is heard.
                std::thread::sleep(Duration::from_nanos(left.min(50_000_000) as u64));
            }
        }
        !self.stop.load(Ordering::Acquire)
    }
}
