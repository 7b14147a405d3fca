//! Opens the bundle, the stages and the lanes by the configuration, without starting a thread.

use super::DaemonError;
use crate::assets::locate;
use crate::config::Config;
use crate::encode::Runtime;
use crate::model::Bundle;
use crate::recognize::Recognizer;
use crate::runtime::{Assembly, Lanes, StageFailure};
use crate::schedule::Schedule;
use crate::serve::ServeSettings;
use crate::session::{EventBuilder, Plan, Stages, Streams, Tempo};

/// Opens the configured bundle. Checks the hashes of its files and its fingerprint, and replays its
/// goldens.
///
/// # Errors
/// The bundle cannot be read, or a check fails.
pub fn open_bundle(config: &Config, runtime: &Runtime) -> Result<Bundle, DaemonError> {
    Ok(Bundle::open(
        runtime,
        &locate(&config.inference.bundle),
        config.inference.provider,
        config.inference.threads,
    )?)
}

/// Opens the stages of a session and creates the lanes between them.
///
/// # Errors
/// A graph or the transcriber cannot be opened.
pub fn assemble(
    config: &Config,
    runtime: &Runtime,
    bundle: Bundle,
    streams: Streams,
    tempo: Tempo,
) -> Result<Assembly, DaemonError> {
    let plan = Plan::new(config, &bundle.manifest, streams, tempo);
    let events = EventBuilder::new(config, &bundle);
    let stages = Stages::open(&plan, runtime)?;
    let lanes = Lanes::new(&stages, tempo);
    let recognizer = match tempo {
        Tempo::Live => Recognizer::live(bundle, plan.budget)
            .map_err(|error| StageFailure::new("text", error))?,
        Tempo::Replay => Recognizer::new(bundle),
    };
    Ok(Assembly {
        stages,
        lanes,
        schedule: Schedule::new(plan.queue),
        recognizer,
        events,
    })
}

/// The settings of the server by the configuration, with the default limits of
/// `src/event/protocol.md`.
pub fn serve_settings(config: &Config) -> ServeSettings {
    ServeSettings {
        listen: config.serve.listen.clone(),
        hosts: config.serve.hosts.clone(),
        allow_origins: config.serve.allow_origins.clone(),
        max_clients: config.serve.max_clients,
        ..ServeSettings::default()
    }
}
