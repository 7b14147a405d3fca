//! The composition root: builds the stages, gives them threads, watches them, stops and joins them.

mod assembly;
pub mod bench;
pub mod doctor;
mod error;
mod express;
mod faces;
mod found;
mod hearing;
mod logging;
mod offline;
mod outages;
mod pipeline;
mod run;
mod sources;
mod vitals;
mod words;

pub use error::DaemonError;
pub use express::{Constants, Passage};
pub use found::Found;
pub use hearing::ToTranscriber;
pub use logging::start_log;
pub use offline::{Lines, replay};
pub use pipeline::{Emit, Losses, Pipeline, Stages, Tempo};
pub use run::{RunOptions, run};

use crate::capture::{AudioSpec, DeviceKind, VideoSpec, devices};
use crate::config::Config;

/// `expressd check` beyond the configuration's own: what its strings name must make sense. Nothing is opened.
pub fn check(config: &Config) -> Result<(), DaemonError> {
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
    sources::contradiction(&video, &audio).map_or(Ok(()), |what| Err(DaemonError::Usage(what)))
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
            println!("  {:?}  {}", device.config, device.name);
        }
        if none {
            println!("  none found");
        }
    }
}
