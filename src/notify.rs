//! What systemd is told: readiness, a human line, the watchdog, the end. Without systemd (no `$NOTIFY_SOCKET`) nothing is sent.
//!
//! The watchdog is fed by progress, not by life: [`Progress`] allows it only when *every* stage has got on since the last feed. A camera
//! that hangs in its driver, or a stage in an endless loop, thus ends the process within `WatchdogSec=`, and systemd starts it again.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::time::MediaTime;

/// How long a message waits where systemd does not read.
const WAIT: Duration = Duration::from_millis(100);
/// The same for READY=1, without which systemd takes the start for failed.
const READY_WAIT: Duration = Duration::from_secs(1);

/// The line to systemd. Failures to send are logged at debug level and otherwise ignored: a daemon that works should not end for that.
#[derive(Debug, Default)]
pub struct Notify;

impl Notify {
    /// The bundle has passed its self-test, the sources are open, the socket is bound.
    pub fn ready(&self, status: &str) {
        send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }
    /// A human line, shown by `systemctl status`.
    pub fn status(&self, status: &str) {
        send(&[NotifyState::Status(&one_line(status))]);
    }
    /// Starting takes longer (a provider compiles its graphs): systemd waits for `more` from now on.
    pub fn extend_start(&self, more: Duration) {
        send(&[NotifyState::ExtendTimeoutUsec(
            u32::try_from(more.as_micros()).unwrap_or(u32::MAX),
        )]);
    }
    /// Only after [`Progress::feed_due`] said so.
    pub fn feed_watchdog(&self) {
        send(&[NotifyState::Watchdog]);
    }
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

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
        tracing::debug!(%error, "systemd was not told");
    }
}

/// As `sd_notify::notify`, which waits without a limit for a systemd that reads nothing.
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

/// The protocol separates by line feeds: what follows one would be read as an assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// How long systemd waits for `WATCHDOG=1` (`WatchdogSec=`), if it does; to be fed at a third of it.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// A stage's own end of [`Progress`]: beaten whenever the stage has done a piece of work, or has looked and found none to do.
#[derive(Clone, Debug)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    beats: Arc<AtomicU64>,
    seen: u64,
    seen_at: MediaTime,
}

/// Decides when the watchdog may be fed: at most every `interval`, and only if every stage has beaten since the feed before.
/// Pure: time comes as an argument.
#[derive(Debug)]
pub struct Progress {
    interval: Duration,
    fed_at: MediaTime,
    stages: Vec<Stage>,
}

impl Progress {
    /// `interval`: between feeds; a third of systemd's, so that one late beat is no restart.
    pub fn new(interval: Duration, now: MediaTime) -> Progress {
        Progress {
            interval,
            fed_at: now,
            stages: Vec::new(),
        }
    }

    /// A stage that has to get on. Stages that may end (a recording's source) are removed by [`Progress::remove`].
    pub fn add(&mut self, name: &'static str, now: MediaTime) -> Beat {
        let beats = Arc::new(AtomicU64::new(0));
        self.stages.push(Stage {
            name,
            beats: beats.clone(),
            seen: 0,
            seen_at: now,
        });
        Beat(beats)
    }

    /// The stage has ended as it should.
    pub fn remove(&mut self, name: &str) {
        self.stages.retain(|stage| stage.name != name);
    }

    /// Whether the watchdog is to be fed now. To be asked several times per interval.
    pub fn feed_due(&mut self, now: MediaTime) -> bool {
        let since = now.nanos_since(self.fed_at);
        if since < i64::try_from(self.interval.as_nanos()).unwrap_or(i64::MAX) {
            return false;
        }
        // All are looked at before any is marked as seen: a beat is not used up while another stage stands still.
        if self
            .stages
            .iter()
            .any(|stage| stage.beats.load(Ordering::Relaxed) == stage.seen)
        {
            return false;
        }
        for stage in &mut self.stages {
            stage.seen = stage.beats.load(Ordering::Relaxed);
            stage.seen_at = now;
        }
        self.fed_at = now;
        true
    }

    /// The stages that have not beaten since the last feed, with how long ago that was, in milliseconds: why the watchdog starves.
    pub fn stalled(&self, now: MediaTime) -> Vec<(&'static str, f64)> {
        let stalled = self
            .stages
            .iter()
            .filter(|stage| stage.beats.load(Ordering::Relaxed) == stage.seen);
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
    fn fed_once_an_interval_while_all_get_on() {
        let mut progress = Progress::new(SECOND, at(0));
        let beats = [progress.add("faces", at(0)), progress.add("infer", at(0))];
        let mut feeds = Vec::new();
        for ms in (0..10_000).step_by(50) {
            beats.iter().for_each(Beat::beat);
            if progress.feed_due(at(ms)) {
                feeds.push(ms);
            }
        }
        assert_eq!(feeds, (1..10).map(|s| s * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn one_stage_that_stands_still_starves_it_and_is_named() {
        let mut progress = Progress::new(SECOND, at(0));
        let [faces, infer] = ["faces", "infer"].map(|name| progress.add(name, at(0)));
        let mut fed_at = 0;
        for ms in (0..10_000).step_by(50) {
            faces.beat();
            if ms < 3_100 {
                infer.beat();
            }
            if progress.feed_due(at(ms)) {
                fed_at = ms;
            }
        }
        // What infer did until 3.1 s allowed one feed more.
        assert_eq!(fed_at, 4_000);
        let stalled = progress.stalled(at(10_000));
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].0, "infer");
        assert!((stalled[0].1 - 6_000.0).abs() < 1.0);
        // It comes back to life: fed at once.
        infer.beat();
        assert!(progress.feed_due(at(10_050)));
    }

    #[test]
    fn a_stage_that_ended_as_it_should_is_not_waited_for() {
        let mut progress = Progress::new(SECOND, at(0));
        let faces = progress.add("faces", at(0));
        let _source = progress.add("video", at(0));
        faces.beat();
        assert!(!progress.feed_due(at(1_000)));
        progress.remove("video");
        assert!(progress.feed_due(at(1_050)));
    }

    #[test]
    fn a_systemd_that_reads_nothing_holds_nothing_up() {
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
    fn a_status_stays_one_line() {
        assert_eq!(one_line("camera lost\nREADY=1"), "camera lost READY=1");
    }
}
