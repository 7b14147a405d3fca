//! Opens recordings, and converts errors to reasons why an item has no rows.

use std::path::Path;

use super::refusal::Refusal;
use crate::capture::{CaptureError, Recording, TrackChoice};
use crate::causes::one_line;
use crate::config::Config;

/// The tracks and channels that the configuration selects. Fails if the configuration is invalid.
pub fn choice(config: &Config) -> Result<TrackChoice, Refusal> {
    TrackChoice::parse(
        &config.video_track,
        &config.audio_track,
        &config.audio_channel,
    )
    .map_err(|error| Refusal::Stage(error.to_string()))
}

/// Opens the recording `path` with the selected tracks; the error states why the item has no rows.
pub fn open(path: &Path, choice: TrackChoice) -> Result<Recording, Refusal> {
    Recording::open_with(path, choice).map_err(refusal)
}

/// The reason why an item has no rows, from the error of its recording. It has no paths, so that
/// equal reasons are counted together.
pub fn refusal(error: CaptureError) -> Refusal {
    Refusal::Unreadable(match error {
        CaptureError::NoSuchFile(_) => "there is no such file".into(),
        CaptureError::Denied { .. } => "access is denied".into(),
        CaptureError::Unreadable { reason, .. } | CaptureError::Undecodable { reason, .. } => {
            reason
        }
        CaptureError::NoSuchTrack { what, remedy, .. } => format!("it has no {what}: {remedy}"),
        CaptureError::Unsupported { .. } => "a decoder is missing".into(),
        CaptureError::Missing { what, .. } => what,
        other => one_line(&other),
    })
}
