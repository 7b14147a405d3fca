//! The supervisor: what the main thread does while the stages run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::live_sources::LiveSources;
use super::server_state::DaemonState;
use crate::capture::SourceHealth;
use crate::event::Event;
use crate::hub::Ring;
use crate::notify::{Notify, Progress};
use crate::runtime::{
    Command, CommandError, CommandResult, Commands, Control, Outage, Outages, Pipeline,
};
use crate::serve::{Server, ServerState};
use crate::time::{Clock, SystemClock};

/// Interval at which the supervisor does its work.
const ROUND: Duration = Duration::from_millis(50);
/// Interval of `status` events while nothing changes (`src/event/protocol.md`).
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two `status` events; changes within it are published together.
const STATUS_GAP: Duration = Duration::from_millis(250);
/// Longest time that READY=1 waits for the sources, because a network source may take longer.
const OPENING: Duration = Duration::from_secs(10);
/// `/readyz` fails if a stage makes no progress for this long.
const STALLED: Duration = Duration::from_secs(5);

/// Flags that the signal handlers set.
pub(super) struct Signals {
    /// SIGTERM or SIGINT arrived: the daemon ends.
    pub stop: Arc<AtomicBool>,
    /// SIGUSR1 arrived: capture pauses.
    pause: Arc<AtomicBool>,
    /// SIGUSR2 arrived: capture resumes.
    resume: Arc<AtomicBool>,
    control: Control,
}

impl Signals {
    /// Installs the signal handlers. A second SIGTERM or SIGINT ends the process immediately.
    pub fn install(control: Control) -> Signals {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
        let signals = Signals {
            stop: Arc::default(),
            pause: Arc::default(),
            resume: Arc::default(),
            control,
        };
        for signal in [SIGTERM, SIGINT] {
            let stop = &signals.stop;
            let _ = signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone());
            let _ = signal_hook::flag::register(signal, stop.clone());
        }
        let _ = signal_hook::flag::register(SIGUSR1, signals.pause.clone());
        let _ = signal_hook::flag::register(SIGUSR2, signals.resume.clone());
        signals
    }

    /// Sends a command to the session for each SIGUSR1 or SIGUSR2 that has arrived.
    fn send(&self) {
        for (flag, command) in [
            (&self.pause, Command::Pause),
            (&self.resume, Command::Resume),
        ] {
            if flag.swap(false, Ordering::AcqRel)
                && let Err(error) = self.control.send(command)
            {
                tracing::warn!(?command, %error, "command not sent");
            }
        }
    }
}

/// Executes `command`: pauses or resumes capture.
fn execute(
    command: Command,
    sources: &mut LiveSources,
    server_state: &DaemonState,
) -> CommandResult {
    match command {
        Command::Pause => sources.pause(),
        Command::Resume => sources
            .resume()
            .map_err(|error| CommandError::Failed(crate::causes::one_line(&error)))?,
    }
    server_state.set_paused(command == Command::Pause);
    tracing::info!(
        "capture {}",
        if command == Command::Pause {
            "paused"
        } else {
            "resumed"
        }
    );
    Ok(())
}

/// The main thread's work while the stages run: it publishes the status, notifies systemd, executes
/// commands, and stops when a stage fails.
pub(super) struct Supervisor<'a> {
    pub ring: &'a Ring,
    pub server_state: &'a DaemonState,
    pub health: &'a SourceHealth,
    pub clock: &'a SystemClock,
    pub sources: &'a mut LiveSources,
    pub commands: &'a Commands,
    pub signals: &'a Signals,
}

impl Supervisor<'_> {
    /// Runs until SIGTERM or SIGINT, the failure of a stage, or the end of all stages.
    pub fn run(&mut self, pipeline: &Pipeline, mut progress: Progress, server: &Server) {
        let started = self.clock.now();
        let (mut ready, mut changes, mut next_status, mut heartbeats) = (false, 0, started, 0);
        let (mut has_changed, mut status_due) = (false, started);
        let mut outages = Outages::default();
        let serving = progress.add("serve", started);
        while !self.signals.stop.load(Ordering::Acquire) {
            // A failure is returned after all stages have ended.
            if pipeline.has_failed() || pipeline.has_ended() {
                return;
            }
            self.sources.end_with_recording();
            self.signals.send();
            let Supervisor {
                sources,
                server_state,
                ..
            } = self;
            self.commands
                .execute_all(|command| execute(command, sources, server_state));
            let seen = self.health.wait_for_change(changes, ROUND);
            let now = self.clock.now();
            for outage in outages.update(&self.health.sources(), now) {
                match outage {
                    Outage::Began { .. } => tracing::warn!("{outage}"),
                    Outage::Ended { .. } => tracing::info!("{outage}"),
                }
            }
            has_changed |= seen != changes;
            changes = seen;
            if (has_changed && now >= status_due) || now >= next_status {
                has_changed = false;
                status_due = now.plus(STATUS_GAP);
                next_status = now.plus(STATUS_EVERY);
                self.publish_status();
            }
            let opening = now.nanos_since(started) < OPENING.as_nanos() as i64;
            if !ready && (self.server_state.sources_deliver() || !opening) {
                ready = true;
                self.server_state.set_opened();
                Notify.ready(&self.server_state.line());
                self.publish_status();
                tracing::info!("ready: {}", self.server_state.line());
            }
            if server.heartbeats() != heartbeats {
                heartbeats = server.heartbeats();
                serving.send();
            }
            pipeline.ended().for_each(|stage| progress.remove(stage));
            if progress.feed_due(now) {
                Notify.feed_watchdog();
            }
            let stalled = progress.stalled(now);
            self.server_state.set_stalled(
                stalled
                    .into_iter()
                    .find(|(_, ms)| *ms > STALLED.as_millis() as f64)
                    .map(|(stage, _)| stage),
            );
        }
    }

    fn publish_status(&self) {
        self.ring.publish(Event::Status(self.server_state.status()));
        Notify.status(&self.server_state.line());
    }
}
