//! The composition root: builds the stages, gives them threads, watches them, stops and joins them.

mod assembly;
pub mod bench;
pub mod doctor;
mod error;
mod express;
mod faces;
mod failure;
mod found;
mod hearing;
mod logging;
mod offline;
mod outages;
mod panics;
mod pipeline;
mod run;
mod sources;
mod vitals;
mod words;

pub use error::DaemonError;
pub use express::{Constants, Passage};
pub use failure::{StageError, StageFailure};
pub use found::Found;
pub use hearing::ToTranscriber;
pub use logging::start_log;
pub use offline::{Lines, replay};
pub use panics::{PanicReport, report_panics};
pub use pipeline::{Emit, Losses, Pipeline, Stages, Tempo};
pub use run::{RunOptions, run};

use crate::capture::{AudioSpec, DeviceKind, VideoSpec, devices};
use crate::config::Config;

/// `expressd check` beyond the configuration's own: what its strings name must make sense. Nothing is opened.
pub fn check(config: &Config) -> Result<(), DaemonError> {
    let (video, audio) = specs(config)?;
    sources::contradiction(&video, &audio).map_or(Ok(()), |what| Err(DaemonError::Usage(what)))
}

/// The sources that the configuration names.
fn specs(config: &Config) -> Result<(VideoSpec, AudioSpec), DaemonError> {
    let usage =
        |key: &str, error: &dyn std::fmt::Display| DaemonError::Usage(format!("{key}: {error}"));
    let video = config
        .video
        .expose()
        .parse::<VideoSpec>()
        .map_err(|e| usage("video.source", &e))?;
    let audio = config
        .audio
        .expose()
        .parse::<AudioSpec>()
        .map_err(|e| usage("audio.source", &e))?;
    Ok((video, audio))
}

/// `expressd devices`.
pub fn print_devices(json: bool) {
    let found = devices();
    if json {
        println!(
            "{}",
            serde_json::to_string(&found).expect("device entries serialise")
        );
        return;
    }
    for (kind, title, key) in [
        (DeviceKind::Video, "cameras", "[video] source"),
        (DeviceKind::Audio, "microphones", "[audio] source"),
    ] {
        println!("{title} ({key} = …):");
        let mut none = true;
        for device in found.iter().filter(|d| d.kind == kind) {
            none = false;
            let problem = device.problem.as_ref();
            let problem = problem.map(|problem| format!("  (cannot be opened now: {problem})"));
            println!(
                "  {:?}  {}{}",
                device.config,
                device.name,
                problem.unwrap_or_default()
            );
        }
        if none {
            println!("  none found");
        }
    }
}
