//! `expressd run`: the daemon itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::assembly::{assemble, open_bundle, serve_settings};
use super::outages::{Outage, Outages};
use super::pipeline::{Emit, IsLost, Losses, Pipeline, Tempo};
use super::sources::{Choice, choose, track_choice};
use super::vitals::DaemonVitals;
use super::words::Intake;
use super::{DaemonError, PanicReport, StageError, StageFailure, panics};
use crate::capture::{
    CaptureError, LiveCapture, Outputs, Pace, Recording, SourceBoard, TrackChoice, open_live_with,
};
use crate::config::Config;
use crate::encode::Runtime;
use crate::event::{Event, SourceState};
use crate::hub::{Ring, Sinks};
use crate::notify::{Notify, Progress, watchdog_interval};
use crate::output::say;
use crate::serve::{self, Metrics, Server, Vitals};
use crate::time::{Clock, SystemClock};

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Play this recording as if live, instead of camera and microphone.
    pub replay: Option<PathBuf>,
    /// Begin it again at its end.
    pub looped: bool,
    /// Where there is neither camera nor microphone, play the demonstration instead of waiting for them.
    pub demonstration: bool,
}

/// How often the main thread looks around.
const ROUND: Duration = Duration::from_millis(50);
/// How often `status` goes out when nothing changes (`src/event/protocol.md`).
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// The least time between two of them: changes in between are published together.
const STATUS_GAP: Duration = Duration::from_millis(250);
/// Sources that have not delivered by then do not hold back READY=1: a network source may come later.
const OPENING: Duration = Duration::from_secs(10);
/// Feeding is due so often where systemd does not watch: `/readyz` asks for progress all the same.
const WITHOUT_WATCHDOG: Duration = Duration::from_secs(1);
/// A stage that has not moved for so long makes `/readyz` red.
const STALLED: Duration = Duration::from_secs(5);
/// What the stages get to finish what is in their hands.
const DRAIN: Duration = Duration::from_millis(1200);

/// Runs until a signal, the end of a recording that is not looped, or a failure.
pub fn run(config: &Config, options: &RunOptions) -> Result<(), DaemonError> {
    let stop = stop_on_signals();
    let choice = choose(config, options)?;
    // First, so that a standard output that is to hold events holds nothing else.
    let sinks = Sinks::open(&config.publish, choice.recording())?;
    for line in choice.explanation() {
        say(&format!("expressd: {line}"));
    }
    raise_file_limit();
    let runtime = Runtime::load()?;
    let bundle = open_bundle(config, &runtime)?;
    let clock = Arc::new(SystemClock::new());
    let board = Arc::new(SourceBoard::default());
    let ring = Arc::new(Ring::default());
    let metrics = Arc::new(Metrics::new());
    let streams = choice.streams();
    let vitals = Arc::new(DaemonVitals::new(
        config,
        &bundle,
        streams,
        clock.clone(),
        board.clone(),
        metrics.clone(),
        runtime.clone(),
    ));
    say(&format!(
        "expressd: bundle {} ({}), provider {} (asked for {})",
        bundle.manifest.name,
        &bundle.manifest.fingerprint[..12],
        bundle.provider().name(),
        config.inference.provider.name()
    ));
    let window_ms = bundle.manifest.window.length_ms;
    let assembly = assemble(config, &runtime, bundle, streams, Tempo::Live)?;
    let transcribes = assembly.stages.transcriber.is_some();
    for lane in assembly.lanes {
        metrics.watch_lane(lane);
    }
    let server = serve::start(serve_settings(config), ring.clone(), vitals.clone())?;
    say(&format!(
        "expressd: events at ws://{}/v1/events",
        server.addr()
    ));
    let counted = metrics.clone();
    let sinks = sinks.follow(&ring, move |sink, lost| counted.dropped(sink, lost))?;
    let losses = Losses {
        video: lost(&board, |board| board.video.status().state),
        audio: lost(&board, |board| board.audio.status().state),
    };
    let mut progress = Progress::new(
        watchdog_interval().map_or(WITHOUT_WATCHDOG, |interval| interval / 3),
        clock.now(),
    );
    let intake = Arc::new(OnceLock::new());
    let emit = publish(ring.clone(), metrics, vitals.clone(), intake.clone());
    let pipeline = Pipeline::spawn(
        assembly.stages,
        Tempo::Live,
        clock.clone(),
        losses,
        &mut progress,
        emit,
    );
    vitals.watch(&pipeline);
    let words = Arc::new(Intake::new(
        i64::from(window_ms) * 1_000_000,
        transcribes,
        pipeline.words(),
    ));
    vitals.take_words(intake.get_or_init(|| words).clone());
    let tracks = track_choice(config)?;
    let playing = Playing::start(choice, tracks, &clock, assembly.outputs, &board, &stop)?;
    let rounds = Rounds {
        ring: &ring,
        vitals: &vitals,
        board: &board,
        clock: &clock,
    };
    let outcome = rounds.until_done(&pipeline, progress, &server, &stop);
    stop.store(true, Ordering::Release);
    Notify.stopping();
    let played = playing.finish();
    let failure = drain(pipeline, &*clock);
    server.stop();
    ring.close();
    let written = sinks.finish();
    outcome?;
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    played?;
    Ok(written?)
}

fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // A second signal ends the process at once.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone());
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    stop
}

fn lost(board: &Arc<SourceBoard>, state: fn(&SourceBoard) -> SourceState) -> IsLost {
    let board = board.clone();
    Box::new(move || state(&board) == SourceState::Lost)
}

fn publish(
    ring: Arc<Ring>,
    metrics: Arc<Metrics>,
    vitals: Arc<DaemonVitals>,
    intake: Arc<OnceLock<Arc<Intake>>>,
) -> Emit {
    Box::new(move |event, _| {
        if let Event::Subject(change) = &event {
            if let (Some(into), Some(intake)) = (change.into, intake.get()) {
                intake.note_merge(change.subject, into);
            }
            vitals.note_subject(change);
        }
        let event = Arc::new(event);
        ring.publish(event.clone());
        metrics.published(&event);
    })
}

/// What delivers: devices that heal themselves, or a recording on a thread of its own.
enum Playing {
    Live(LiveCapture),
    Recording(JoinHandle<Result<Result<(), CaptureError>, PanicReport>>),
}

impl Playing {
    fn start(
        choice: Choice,
        tracks: TrackChoice,
        clock: &Arc<SystemClock>,
        outputs: Outputs,
        board: &Arc<SourceBoard>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Playing, DaemonError> {
        match choice {
            Choice::Devices { video, audio, .. } => Ok(Playing::Live(open_live_with(
                &video,
                &audio,
                tracks,
                clock.clone(),
                outputs,
                board.clone(),
            )?)),
            Choice::Recording { file, looped, .. } => {
                let recording = Recording::open_with(&file, tracks)?;
                let (pace, board, stop) = (
                    Pace::Live {
                        clock: clock.clone(),
                        looped,
                    },
                    board.clone(),
                    stop.clone(),
                );
                let work = move || {
                    panics::catch(|| recording.play(pace, outputs, board, stop).map(|_| ()))
                };
                Ok(Playing::Recording(
                    std::thread::Builder::new()
                        .name("recording".into())
                        .spawn(work)
                        .expect("the system gives threads"),
                ))
            }
        }
    }

    fn finish(self) -> Result<(), DaemonError> {
        match self {
            Playing::Live(capture) => {
                capture.stop();
                Ok(())
            }
            Playing::Recording(thread) => match thread.join().expect("panics are caught there") {
                Ok(result) => Ok(result?),
                Err(panic) => {
                    Err(StageFailure::new("recording", StageError::Panicked(panic)).into())
                }
            },
        }
    }
}

/// As many files as the system lets us have: every client is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .is_err()
    {
        tracing::debug!("the limit of open files stays at {:?}", limit.current);
    }
}

/// The main thread's rounds: status, systemd, failures, the end.
struct Rounds<'a> {
    ring: &'a Ring,
    vitals: &'a DaemonVitals,
    board: &'a SourceBoard,
    clock: &'a SystemClock,
}

impl Rounds<'_> {
    fn until_done(
        &self,
        pipeline: &Pipeline,
        mut progress: Progress,
        server: &Server,
        stop: &AtomicBool,
    ) -> Result<(), DaemonError> {
        let started = self.clock.now();
        let (mut ready, mut changes, mut next_status, mut beats) = (false, 0, started, 0);
        let (mut has_changed, mut status_due) = (false, started);
        let mut outages = Outages::default();
        let serving = progress.add("serve", started);
        while !stop.load(Ordering::Acquire) {
            // A failure is returned after all stages have ended.
            if pipeline.has_failed() || pipeline.has_ended() {
                return Ok(());
            }
            let seen = self.board.wait_for_change(changes, ROUND);
            let now = self.clock.now();
            for outage in outages.look(&self.board.sources(), now) {
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
            if !ready && (self.vitals.sources_deliver() || !opening) {
                ready = true;
                self.vitals.set_opened();
                Notify.ready(&self.vitals.line());
                self.publish_status();
                tracing::info!("ready: {}", self.vitals.line());
            }
            if server.beats() != beats {
                beats = server.beats();
                serving.beat();
            }
            pipeline.ended().for_each(|stage| progress.remove(stage));
            if progress.feed_due(now) {
                Notify.feed_watchdog();
            }
            let stalled = progress.stalled(now);
            self.vitals.set_stalled(
                stalled
                    .into_iter()
                    .find(|(_, ms)| *ms > STALLED.as_millis() as f64)
                    .map(|(stage, _)| stage),
            );
        }
        Ok(())
    }

    fn publish_status(&self) {
        self.ring.publish(Event::Status(self.vitals.status()));
        Notify.status(&self.vitals.line());
    }
}

fn drain(pipeline: Pipeline, clock: &dyn Clock) -> Option<StageFailure> {
    pipeline.hurry();
    let until = clock.now().plus(DRAIN);
    while !pipeline.has_ended() && clock.now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    if pipeline.has_ended() {
        pipeline.join()
    } else {
        let hanging = pipeline.running().next().unwrap_or("unknown");
        let failure = pipeline.take_failure();
        failure.or_else(|| Some(StageFailure::new(hanging, StageError::Hangs)))
    }
}
