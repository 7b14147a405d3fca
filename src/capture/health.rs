//! How the sources are: state, reason and counters, shared by who captures and who reports.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::event::{SourceState, SourceStatus, Sources};
use crate::time::MediaTime;

/// The two sources and a counter of their changes, so that a `status` can go out at once.
#[derive(Debug, Default)]
pub struct SourceHealth {
    pub video: SourceGauge,
    pub audio: SourceGauge,
    changes: Mutex<u64>,
    changed: Condvar,
}

/// The reason of a source that is off because capture is paused.
const PAUSED: &str = "paused";

/// One source.
#[derive(Debug)]
pub struct SourceGauge {
    status: Mutex<SourceStatus>,
    pub counters: SourceCounters,
}

/// What one source delivered, ever.
#[derive(Debug)]
pub struct SourceCounters {
    /// Frames (video) or blocks (audio).
    pub delivered: AtomicU64,
    /// Samples at 16 kHz (audio).
    pub samples: AtomicU64,
    /// How often the device or our ring lost samples (audio).
    pub xruns: AtomicU64,
    /// Samples that were no usable numbers and were silenced (audio).
    pub silenced: AtomicU64,
    /// Pictures that were dropped because they came too late to be of use (video, live).
    pub too_late: AtomicU64,
    /// Pictures that had no stamp, or a wrong one, and were placed at an assumed rate (video).
    pub assumed_stamps: AtomicU64,
    /// Pictures and pieces of sound that were left out because their stamps lay far ahead of all around.
    pub outliers: AtomicU64,
    /// How often the source was opened again after a loss.
    pub reconnects: AtomicU64,
    /// Stamp of the newest delivery in nanoseconds; `i64::MIN` before the first.
    newest_nanos: AtomicI64,
}

/// Sound lies within -1..1; what decoders overshoot, and devices of a wrong scale, is far below this.
const LOUDEST: f32 = 1e6;

impl Default for SourceGauge {
    fn default() -> Self {
        let status = Mutex::new(SourceStatus {
            state: SourceState::Off,
            reason: None,
            origin_ns: None,
        });
        let zero = || AtomicU64::new(0);
        let counters = SourceCounters {
            delivered: zero(),
            samples: zero(),
            xruns: zero(),
            silenced: zero(),
            too_late: zero(),
            assumed_stamps: zero(),
            outliers: zero(),
            reconnects: zero(),
            newest_nanos: AtomicI64::new(i64::MIN),
        };
        SourceGauge { status, counters }
    }
}

impl SourceCounters {
    /// Stamp of the newest frame, or of the newest block's end.
    pub fn newest(&self) -> Option<MediaTime> {
        let nanos = self.newest_nanos.load(Ordering::Acquire);
        (nanos != i64::MIN).then(|| MediaTime::from_nanos(nanos))
    }

    /// Silences samples that are no numbers, or so large that sums over them may be none, and counts them. Every way in leads through
    /// here: a single one would stay in each filter and in each network with a memory behind it.
    pub(super) fn silence_unusable(&self, samples: &mut [f32]) {
        let mut silenced = 0;
        for sample in samples
            .iter_mut()
            .filter(|sample| sample.is_nan() || sample.abs() > LOUDEST)
        {
            *sample = 0.0;
            silenced += 1;
        }
        self.silenced.fetch_add(silenced, Ordering::Relaxed);
    }

    pub(super) fn count(&self, samples: usize, newest: MediaTime) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        self.newest_nanos.store(newest.nanos(), Ordering::Release);
    }
}

impl SourceGauge {
    pub fn status(&self) -> SourceStatus {
        self.status.lock().expect("health lock").clone()
    }
}

impl SourceHealth {
    /// Both, as `status` carries them.
    pub fn sources(&self) -> Sources {
        Sources {
            video: self.video.status(),
            audio: self.audio.status(),
        }
    }

    /// How many changes of state, reason or origin there were.
    pub fn changes(&self) -> u64 {
        *self.changes.lock().expect("health lock")
    }

    /// Waits until there were more changes than `seen`, at most `timeout`; how many there were.
    pub fn wait_for_change(&self, seen: u64, timeout: Duration) -> u64 {
        let changes = self.changes.lock().expect("health lock");
        *self
            .changed
            .wait_timeout_while(changes, timeout, |now| *now <= seen)
            .expect("health lock")
            .0
    }

    /// Capture is paused: the configured sources (`video`, `audio`) are off, with that reason. Call it
    /// after they are closed, because a source that closes is off without a reason.
    pub fn pause(&self, video: bool, audio: bool) {
        for (gauge, configured) in [(&self.video, video), (&self.audio, audio)] {
            if configured {
                self.set(gauge, SourceState::Off, Some(PAUSED.into()));
            }
        }
    }

    pub(super) fn set(&self, gauge: &SourceGauge, state: SourceState, reason: Option<String>) {
        let mut status = gauge.status.lock().expect("health lock");
        if status.state == state && status.reason == reason {
            return;
        }
        (status.state, status.reason) = (state, reason);
        drop(status);
        self.notify_change();
    }

    pub(super) fn set_origin(&self, gauge: &SourceGauge, origin: Option<MediaTime>) {
        gauge.status.lock().expect("health lock").origin_ns = origin;
        self.notify_change();
    }

    fn notify_change(&self) {
        *self.changes.lock().expect("health lock") += 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_wakes_the_reporter() {
        let health = SourceHealth::default();
        health.set(&health.video, SourceState::Opening, None);
        health.set(&health.video, SourceState::Opening, None);
        assert_eq!(health.changes(), 1);
        health.set(&health.video, SourceState::Lost, Some("gone".into()));
        assert_eq!(health.wait_for_change(1, Duration::ZERO), 2);
        assert_eq!(health.video.status().reason.as_deref(), Some("gone"));
        assert_eq!(health.audio.status().state, SourceState::Off);
    }

    #[test]
    fn what_is_no_usable_number_is_silenced_and_counted_and_the_rest_stays() {
        let counters = SourceGauge::default().counters;
        let mut samples = [
            0.5,
            f32::NAN,
            -1.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            0.0,
        ];
        counters.silence_unusable(&mut samples);
        assert_eq!(samples, [0.5, 0.0, -1.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(counters.silenced.load(Ordering::Relaxed), 4);
    }
}
