//! State, reason and counters of the sources, shared by capture and status reports.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::event::{SourceState, SourceStatus, Sources};
use crate::time::MediaTime;

/// State and counters of the video source and of the audio source. A reader can wait for a change,
/// to send a `status` event at once.
#[derive(Debug, Default)]
pub struct SourceHealth {
    pub video: SourceGauge,
    pub audio: SourceGauge,
    changes: Mutex<u64>,
    changed: Condvar,
}

/// Reason in the status of a source that is off because capture is paused.
const PAUSED: &str = "paused";

/// The state and the counters of one source.
#[derive(Debug)]
pub struct SourceGauge {
    status: Mutex<SourceStatus>,
    pub counters: SourceCounters,
}

/// Counters of one source since the start of the program.
#[derive(Debug)]
pub struct SourceCounters {
    /// Frames (video) or blocks (audio).
    pub delivered: AtomicU64,
    /// Samples at 16 kHz (audio).
    pub samples: AtomicU64,
    /// Losses of samples by the device or our ring buffer (audio).
    pub xruns: AtomicU64,
    /// Samples that were not finite or too large, and were silenced (audio).
    pub silenced: AtomicU64,
    /// Pictures that were dropped because they were too late (video, live).
    pub too_late: AtomicU64,
    /// Pictures without a stamp, or with a wrong one, that were stamped at an assumed rate (video).
    pub assumed_stamps: AtomicU64,
    /// Pictures and blocks of sound that were dropped because their stamps were far ahead of their
    /// neighbours.
    pub outliers: AtomicU64,
    /// How often the source was opened again after a loss.
    pub reconnects: AtomicU64,
    /// Stamp of the newest delivery in nanoseconds; `i64::MIN` before the first.
    newest_nanos: AtomicI64,
}

/// Largest usable absolute value of a sample. Sound lies within -1 to 1; overshoot of decoders, and
/// devices with a wrong scale, stay far below the limit.
const MAX_AMPLITUDE: f32 = 1e6;

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
    /// Stamp of the newest frame, or end of the newest audio block; `None` before the first one.
    pub fn newest(&self) -> Option<MediaTime> {
        let nanos = self.newest_nanos.load(Ordering::Acquire);
        (nanos != i64::MIN).then(|| MediaTime::from_nanos(nanos))
    }

    /// Silences and counts samples that are not finite, or so large that sums over them could
    /// overflow. All sound passes here, because a single such sample would persist in every filter
    /// and recurrent network after it.
    pub(super) fn silence_unusable(&self, samples: &mut [f32]) {
        let mut silenced = 0;
        for sample in samples
            .iter_mut()
            .filter(|sample| sample.is_nan() || sample.abs() > MAX_AMPLITUDE)
        {
            *sample = 0.0;
            silenced += 1;
        }
        self.silenced.fetch_add(silenced, Ordering::Relaxed);
    }

    /// Counts one delivered frame or block. `samples`: its samples of sound. `newest`: stamp of the
    /// frame, or end of the block.
    pub(super) fn count(&self, samples: usize, newest: MediaTime) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        self.newest_nanos.store(newest.nanos(), Ordering::Release);
    }
}

impl SourceGauge {
    /// The current state of the source and its reason.
    pub fn status(&self) -> SourceStatus {
        self.status.lock().expect("health lock").clone()
    }
}

impl SourceHealth {
    /// Both sources, for the `status` event.
    pub fn sources(&self) -> Sources {
        Sources {
            video: self.video.status(),
            audio: self.audio.status(),
        }
    }

    /// Number of changes of the state, reason or origin of a source so far.
    pub fn changes(&self) -> u64 {
        *self.changes.lock().expect("health lock")
    }

    /// Waits at most `timeout` until the number of changes exceeds `seen`. Returns the number of
    /// changes.
    pub fn wait_for_change(&self, seen: u64, timeout: Duration) -> u64 {
        let changes = self.changes.lock().expect("health lock");
        *self
            .changed
            .wait_timeout_while(changes, timeout, |now| *now <= seen)
            .expect("health lock")
            .0
    }

    /// Marks the configured sources (`video`, `audio`) as off because capture is paused. Must be
    /// called after the sources are closed: closing sets the state without a reason.
    pub fn pause(&self, video: bool, audio: bool) {
        for (gauge, configured) in [(&self.video, video), (&self.audio, audio)] {
            if configured {
                self.set(gauge, SourceState::Off, Some(PAUSED.into()));
            }
        }
    }

    /// Sets the state of a source and its reason, and notifies waiting readers if the state or the
    /// reason changed.
    pub(super) fn set(&self, gauge: &SourceGauge, state: SourceState, reason: Option<String>) {
        let mut status = gauge.status.lock().expect("health lock");
        if status.state == state && status.reason == reason {
            return;
        }
        (status.state, status.reason) = (state, reason);
        drop(status);
        self.notify_change();
    }

    /// Sets the media time at which the current pass over a recording starts (`None`: no
    /// recording), and notifies waiting readers.
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
    fn unusable_samples_are_silenced_and_counted() {
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
