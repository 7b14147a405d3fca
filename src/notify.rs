//! Sends notifications to systemd: readiness, a status line, the watchdog and the end. Without
//! systemd (no `$NOTIFY_SOCKET`) nothing is sent.
//!
//! The watchdog is fed only while *every* stage makes progress ([`Progress`]). If a camera hangs in
//! its driver or a stage loops forever, systemd therefore restarts the process within
//! `WatchdogSec=`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::time::MediaTime;

/// Time limit for sending a message, in case systemd does not read.
const WAIT: Duration = Duration::from_millis(100);
/// Time limit for sending READY=1. It is longer, because systemd considers the start failed without
/// this message.
const READY_WAIT: Duration = Duration::from_secs(1);

/// Sends notifications to systemd. A failure is logged at debug level and otherwise ignored, so
/// that it does not end a working daemon.
#[derive(Debug, Default)]
pub struct Notify;

impl Notify {
    /// Sends READY=1 and a status line. To be called when the bundle has passed its self-test, the
    /// sources are open and the socket is bound.
    pub fn ready(&self, status: &str) {
        send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }
    /// Sends a status line for `systemctl status`.
    pub fn status(&self, status: &str) {
        send(&[NotifyState::Status(&one_line(status))]);
    }
    /// Extends systemd's start timeout to `more` from now, for example while an execution provider
    /// compiles its graphs.
    pub fn extend_start(&self, more: Duration) {
        send(&[NotifyState::ExtendTimeoutUsec(
            u32::try_from(more.as_micros()).unwrap_or(u32::MAX),
        )]);
    }
    /// Sends WATCHDOG=1. To be called only if [`Progress::feed_due`] returns true.
    pub fn feed_watchdog(&self) {
        send(&[NotifyState::Watchdog]);
    }
    /// Sends STOPPING=1: the program is ending.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

/// Sends the messages in one datagram, if systemd has given a socket.
fn send(states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let limit = if states.iter().any(|s| matches!(s, NotifyState::Ready)) {
        READY_WAIT
    } else {
        WAIT
    };
    if let Err(error) = send_to(&socket, states, limit) {
        tracing::debug!(%error, "the notification to systemd failed");
    }
}

/// Does the same as `sd_notify::notify`, but with a time limit in case systemd does not read.
fn send_to(socket: &OsStr, states: &[NotifyState<'_>], limit: Duration) -> io::Result<()> {
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(limit))?;
    match socket.as_encoded_bytes() {
        [b'@', name @ ..] => sender.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => sender.connect(socket)?,
    }
    sender.send(message.as_bytes()).map(|_| ())
}

/// Replaces line feeds by spaces, because the protocol separates assignments by line feeds.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The watchdog interval of systemd (`WatchdogSec=`); `None` if the watchdog is off.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// A stage's handle to report progress to [`Progress`]. The stage sends a heartbeat after each
/// piece of work and after each check that finds no work.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// Sends a heartbeat.
    pub fn send(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stage that must make progress.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    /// Number of heartbeats so far.
    heartbeats: Arc<AtomicU64>,
    /// Value of `heartbeats` at the last feed.
    seen: u64,
    /// Time of the last feed.
    seen_at: MediaTime,
}

/// Decides when the watchdog may be fed: at most once in each `interval`, and only if every stage
/// has sent a heartbeat since the previous feed. It uses no clock: the time is an argument.
#[derive(Debug)]
pub struct Progress {
    interval: Duration,
    fed_at: MediaTime,
    stages: Vec<Stage>,
}

impl Progress {
    /// Creates a state without stages. `interval` is the time between feeds: a third of systemd's
    /// interval, so that one late heartbeat does not cause a restart.
    pub fn new(interval: Duration, now: MediaTime) -> Progress {
        Progress {
            interval,
            fed_at: now,
            stages: Vec::new(),
        }
    }

    /// Adds a stage that must make progress from `now` on; returns its handle. [`Progress::remove`]
    /// removes a stage that ends, such as the source of a recording.
    pub fn add(&mut self, name: &'static str, now: MediaTime) -> Heartbeat {
        let heartbeats = Arc::new(AtomicU64::new(0));
        self.stages.push(Stage {
            name,
            heartbeats: heartbeats.clone(),
            seen: 0,
            seen_at: now,
        });
        Heartbeat(heartbeats)
    }

    /// Removes a stage that has ended normally.
    pub fn remove(&mut self, name: &str) {
        self.stages.retain(|stage| stage.name != name);
    }

    /// Whether the watchdog is to be fed now. If true, the feed counts as sent. To be called
    /// several times per interval.
    pub fn feed_due(&mut self, now: MediaTime) -> bool {
        let since = now.nanos_since(self.fed_at);
        if since < i64::try_from(self.interval.as_nanos()).unwrap_or(i64::MAX) {
            return false;
        }
        // All stages are checked before any is updated, so that no heartbeat is lost while another
        // stage is stalled.
        if self
            .stages
            .iter()
            .any(|stage| stage.heartbeats.load(Ordering::Relaxed) == stage.seen)
        {
            return false;
        }
        for stage in &mut self.stages {
            stage.seen = stage.heartbeats.load(Ordering::Relaxed);
            stage.seen_at = now;
        }
        self.fed_at = now;
        true
    }

    /// The stages that prevent a feed, as (name, milliseconds since the last feed): those without a
    /// heartbeat since then.
    pub fn stalled(&self, now: MediaTime) -> Vec<(&'static str, f64)> {
        let stalled = self
            .stages
            .iter()
            .filter(|stage| stage.heartbeats.load(Ordering::Relaxed) == stage.seen);
        stalled
            .map(|stage| (stage.name, now.millis_since(stage.seen_at)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    #[test]
    fn the_watchdog_is_fed_once_an_interval_while_all_stages_progress() {
        let mut progress = Progress::new(SECOND, at(0));
        let heartbeats = [progress.add("faces", at(0)), progress.add("infer", at(0))];
        let mut feeds = Vec::new();
        for ms in (0..10_000).step_by(50) {
            heartbeats.iter().for_each(Heartbeat::send);
            if progress.feed_due(at(ms)) {
                feeds.push(ms);
            }
        }
        assert_eq!(feeds, (1..10).map(|s| s * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_stalled_stage_prevents_feeds_and_is_named() {
        let mut progress = Progress::new(SECOND, at(0));
        let [faces, infer] = ["faces", "infer"].map(|name| progress.add(name, at(0)));
        let mut fed_at = 0;
        for ms in (0..10_000).step_by(50) {
            faces.send();
            if ms < 3_100 {
                infer.send();
            }
            if progress.feed_due(at(ms)) {
                fed_at = ms;
            }
        }
        // The heartbeats of "infer" until 3.1 s permit one more feed.
        assert_eq!(fed_at, 4_000);
        let stalled = progress.stalled(at(10_000));
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].0, "infer");
        assert!((stalled[0].1 - 6_000.0).abs() < 1.0);
        // After a heartbeat of "infer" the feed is permitted at once.
        infer.send();
        assert!(progress.feed_due(at(10_050)));
    }

    #[test]
    fn a_removed_stage_is_not_required() {
        let mut progress = Progress::new(SECOND, at(0));
        let faces = progress.add("faces", at(0));
        let _source = progress.add("video", at(0));
        faces.send();
        assert!(!progress.feed_due(at(1_000)));
        progress.remove("video");
        assert!(progress.feed_due(at(1_050)));
    }

    #[test]
    fn a_systemd_that_does_not_read_does_not_block_the_sender() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _systemd = UnixDatagram::bind(&path).unwrap();
        let began = crate::time::monotonic_nanos();
        let mut taken = 0;
        let full = loop {
            let sent = send_to(path.as_os_str(), &[NotifyState::Watchdog], WAIT);
            match sent {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 100_000);
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let nanos = crate::time::monotonic_nanos() - began;
        assert!(nanos >= WAIT.as_nanos() as i64 && taken > 0, "{taken}");
    }

    #[test]
    fn line_feeds_in_a_status_become_spaces() {
        assert_eq!(one_line("camera lost\nREADY=1"), "camera lost READY=1");
    }
}
