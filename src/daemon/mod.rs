//! The commands of `expressd` (`run`, `replay`, `check`, `devices`, `doctor`). They connect
//! sources, a session and outputs.

mod assembly;
pub mod doctor;
mod error;
mod live_sources;
mod logging;
mod offline;
mod options;
mod run;
mod server_state;
mod sources;
mod supervisor;

pub use assembly::{assemble, open_bundle, serve_settings};
pub use error::DaemonError;
pub use logging::start_log;
pub use offline::{Lines, Prepared, prepare, replay};
pub use options::RunOptions;
pub use run::run;
pub use server_state::DaemonState;
pub use sources::{DEMONSTRATION, track_choice};

use crate::capture::{AudioSpec, DeviceKind, VideoSpec, devices};
use crate::config::Config;

/// Checks the configured sources, for `expressd check`: their strings must parse, and both sources
/// must be usable together. Opens no device.
///
/// # Errors
/// A string cannot be parsed, or the sources contradict each other.
pub fn check(config: &Config) -> Result<(), DaemonError> {
    let (video, audio) = specs(config)?;
    sources::conflict(&video, &audio).map_or(Ok(()), |what| Err(DaemonError::Usage(what)))
}

/// Parses the configured video and audio sources.
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

/// Prints the cameras and microphones for `expressd devices`, as text or, with `json`, as one line
/// of JSON.
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
