//! Which sources are used, and why.

use std::path::{Path, PathBuf};

use super::DaemonError;
use super::assembly::Streams;
use super::run::RunOptions;
use crate::capture::{AudioSpec, DeviceKind, Recording, VideoSpec, devices};
use crate::config::{Config, locate};

/// The project's own recording: what plays where there is no camera and no microphone.
pub const DEMONSTRATION: &str = "config/demo/demo.mp4";

/// What to capture.
#[derive(Clone, Debug)]
pub enum Choice {
    Devices { video: VideoSpec, audio: AudioSpec, notes: Vec<String> },
    Recording { file: PathBuf, looped: bool, streams: Streams, notes: Vec<String> },
}

impl Choice {
    pub fn streams(&self) -> Streams {
        match self {
            Choice::Devices { video, audio, .. } => Streams { video: *video != VideoSpec::None, audio: *audio != AudioSpec::None },
            Choice::Recording { streams, .. } => *streams,
        }
    }

    /// The recording that is played.
    pub fn recording(&self) -> Option<&PathBuf> {
        match self {
            Choice::Devices { .. } => None,
            Choice::Recording { file, .. } => Some(file),
        }
    }

    /// One line per decision, for the person who started it.
    pub fn explanation(&self) -> &[String] {
        match self {
            Choice::Devices { notes, .. } | Choice::Recording { notes, .. } => notes,
        }
    }
}

/// `--replay` before devices; `auto` and `default` are what is there; nothing there at all is the demonstration.
pub fn choose(config: &Config, options: &RunOptions) -> Result<Choice, DaemonError> {
    if let Some(file) = &options.replay {
        let note = format!("replaying {} as if live{}", file.display(), if options.looped { ", in a loop" } else { "" });
        return recording(file.clone(), options.looped, vec![note]);
    }
    let mut video: VideoSpec = config.video.parse().map_err(|error| DaemonError::Usage(format!("video.source: {error}")))?;
    let mut audio: AudioSpec = config.audio.parse().map_err(|error| DaemonError::Usage(format!("audio.source: {error}")))?;
    if let Some(what) = contradiction(&video, &audio) {
        return Err(DaemonError::Usage(what));
    }
    let mut notes = Vec::new();
    let (auto, default) = (video == VideoSpec::Auto, audio == AudioSpec::Default);
    if auto || default {
        let found = devices();
        if auto {
            match found.iter().find(|d| d.kind == DeviceKind::Video) {
                Some(camera) => notes.push(format!("camera: {} ({}), the first found", camera.name, camera.config)),
                None => {
                    notes.push("no camera found (video.source = \"auto\")".into());
                    video = VideoSpec::None;
                }
            }
        }
        if default {
            // ALSA lists plug-ins (`null`, `jack`, …) as devices where there is no sound card at all: only a default that opens counts.
            match found.iter().find(|d| d.kind == DeviceKind::Audio && d.config == AudioSpec::Default.to_string()) {
                Some(_) => notes.push("microphone: the system's default".into()),
                None => {
                    notes.push("no microphone found (audio.source = \"default\")".into());
                    audio = AudioSpec::None;
                }
            }
        }
    }
    let nothing = video == VideoSpec::None && matches!(audio, AudioSpec::None | AudioSpec::Uri);
    if nothing && (auto || default) {
        let file = locate(Path::new(DEMONSTRATION));
        notes.push(format!("so replaying the demonstration recording {} in a loop, as if live", file.display()));
        return recording(file, true, notes);
    }
    if !auto {
        notes.push(format!("video: {video}"));
    }
    if !default {
        notes.push(format!("audio: {audio}"));
    }
    Ok(Choice::Devices { video, audio, notes })
}

/// Why these two sources cannot be captured, whatever devices there are.
pub fn contradiction(video: &VideoSpec, audio: &AudioSpec) -> Option<String> {
    match (video, audio) {
        (VideoSpec::None, AudioSpec::None) => {
            Some("video.source and audio.source are both none: nothing to capture; set one of them, or use --replay FILE".into())
        }
        (VideoSpec::Auto | VideoSpec::Uri(_) | VideoSpec::Gst(_), _) => None,
        (_, AudioSpec::Uri) => Some(format!(
            "audio.source is uri, the sound track of the video's source; video.source is {video}, which has none: only uri:<…> and gst:<…> have one"
        )),
        _ => None,
    }
}

fn recording(file: PathBuf, looped: bool, notes: Vec<String>) -> Result<Choice, DaemonError> {
    let opened = Recording::open(&file)?;
    let streams = Streams { video: opened.has_video(), audio: opened.has_audio() };
    Ok(Choice::Recording { file, looped, streams, notes })
}
