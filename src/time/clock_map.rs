//! The drift filter: from a device's own clock to media time.

use super::MediaTime;

/// Placeholder until the capture work lands.
#[derive(Debug, Default)]
pub struct ClockMap;

impl ClockMap {
    pub fn place(&self, device_nanos: i64) -> MediaTime {
        MediaTime::from_nanos(device_nanos)
    }
}
