//! `expressd run`: the service that captures, recognises and publishes.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::DaemonError;
use super::assembly::{assemble, open_bundle, serve_settings};
use super::live_sources::LiveSources;
use super::options::RunOptions;
use super::server_state::DaemonState;
use super::sources::{choose, track_choice};
use super::supervisor::{Signals, Supervisor};
use crate::capture::SourceHealth;
use crate::config::Config;
use crate::encode::Runtime;
use crate::event::{Event, SourceState};
use crate::hub::{Ring, Sinks};
use crate::notify::{Notify, Progress, watchdog_interval};
use crate::output::print_line;
use crate::runtime::{
    Control, Emit, IsLost, Losses, Pipeline, StageError, StageFailure, TranscriptInbox,
};
use crate::serve::{self, Metrics};
use crate::session::{ClientTranscripts, Tempo};
use crate::time::{Clock, SystemClock};

/// Interval of the check that all stages make progress, if there is no systemd watchdog. `/readyz`
/// reports the result.
const WITHOUT_WATCHDOG: Duration = Duration::from_secs(1);
/// How long the stages may take to finish their current work when the daemon stops.
const DRAIN: Duration = Duration::from_millis(1200);

/// Runs the daemon until SIGTERM or SIGINT, the end of a recording that is not looped, or a
/// failure.
///
/// # Errors
/// The daemon cannot start, a stage fails, or an output loses events.
pub fn run(config: &Config, options: &RunOptions) -> Result<(), DaemonError> {
    let (control, commands) = Control::new();
    let signals = Signals::install(control);
    let choice = choose(config, options)?;
    // Before anything is printed, because a standard output for events must hold nothing else.
    let sinks = Sinks::open(&config.publish, choice.recording())?;
    for line in choice.explanation() {
        print_line(&format!("expressd: {line}"));
    }
    raise_file_limit();
    let runtime = Runtime::load()?;
    let bundle = open_bundle(config, &runtime)?;
    let clock = Arc::new(SystemClock::new());
    let health = Arc::new(SourceHealth::default());
    let ring = Arc::new(Ring::default());
    let metrics = Arc::new(Metrics::new());
    let streams = choice.streams();
    let server_state = Arc::new(DaemonState::new(
        config,
        &bundle,
        streams,
        clock.clone(),
        health.clone(),
        metrics.clone(),
        runtime.clone(),
    ));
    print_line(&format!(
        "expressd: bundle {} ({}), provider {} (requested {})",
        bundle.manifest.name,
        &bundle.manifest.score_fingerprint()[..12],
        bundle.provider().name(),
        config.inference.provider.name()
    ));
    let window_ms = bundle.manifest.window.length_ms;
    let mut assembly = assemble(config, &runtime, bundle, streams, Tempo::Live)?;
    for lane in assembly.lanes.counters() {
        metrics.watch_lane(lane);
    }
    let outputs = std::mem::take(&mut assembly.lanes.outputs);
    let transcripts = ClientTranscripts::new(
        i64::from(window_ms) * 1_000_000,
        assembly.stages.transcription.is_some(),
    );
    let transcripts = Arc::new(TranscriptInbox::new(
        transcripts,
        assembly.lanes.transcripts(),
    ));
    let server = serve::start(serve_settings(config), ring.clone(), server_state.clone())?;
    print_line(&format!(
        "expressd: events at ws://{}/v1/events",
        server.addr()
    ));
    let counted = metrics.clone();
    let sinks = sinks.follow(&ring, move |sink, lost| counted.dropped(sink, lost))?;
    let losses = Losses {
        video: lost(&health, |health| health.video.status().state),
        audio: lost(&health, |health| health.audio.status().state),
    };
    let mut progress = Progress::new(
        watchdog_interval().map_or(WITHOUT_WATCHDOG, |interval| interval / 3),
        clock.now(),
    );
    let emit = publish(ring.clone(), metrics, transcripts.clone());
    let pipeline = Pipeline::spawn(
        assembly,
        Tempo::Live,
        clock.clone(),
        losses,
        &mut progress,
        emit,
    );
    server_state.collect_from(&pipeline);
    server_state.take_transcripts(transcripts);
    let tracks = track_choice(config)?;
    let mut sources = LiveSources::open(choice, tracks, clock.clone(), health.clone(), outputs)?;
    let mut supervisor = Supervisor {
        ring: &ring,
        server_state: &server_state,
        health: &health,
        clock: &clock,
        sources: &mut sources,
        commands: &commands,
        signals: &signals,
    };
    supervisor.run(&pipeline, progress, &server);
    Notify.stopping();
    let played = sources.finish();
    let failure = drain(pipeline, &*clock);
    server.stop();
    ring.close();
    let written = sinks.finish();
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    played?;
    Ok(written?)
}

/// A function that returns whether a source currently delivers nothing, because it is lost, paused
/// or ended. `state` selects the source.
fn lost(health: &Arc<SourceHealth>, state: fn(&SourceHealth) -> SourceState) -> IsLost {
    let health = health.clone();
    Box::new(move || matches!(state(&health), SourceState::Lost | SourceState::Off))
}

/// A function that publishes events in the ring and counts them. It also passes subject changes to
/// the inbox of client transcripts, which checks that a subject is present.
fn publish(ring: Arc<Ring>, metrics: Arc<Metrics>, transcripts: Arc<TranscriptInbox>) -> Emit {
    Box::new(move |event, _| {
        if let Event::Subject(change) = &event {
            transcripts.note(change);
        }
        let event = Arc::new(event);
        ring.publish(event.clone());
        metrics.published(&event);
    })
}

/// Raises the process's limit of open files to the maximum, because each client needs one.
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

/// Waits at most [`DRAIN`] for the end of the stages. Returns the first failure; a stage that still
/// runs is one.
fn drain(pipeline: Pipeline, clock: &dyn Clock) -> Option<StageFailure> {
    pipeline.drop_backlog();
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
