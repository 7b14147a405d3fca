//! Which sources are used, and why.

use std::path::{Path, PathBuf};

use super::DaemonError;
use super::options::RunOptions;
use crate::capture::{
    AudioSpec, DeviceEntry, DeviceKind, Recording, TrackChoice, VideoSpec, devices,
};
use crate::config::{Config, locate};
use crate::session::Streams;

/// The project's own recording: what `--demonstration` plays where there is no camera and no microphone.
pub const DEMONSTRATION: &str = "config/demo/demo.mp4";

/// What to capture.
#[derive(Clone, Debug)]
pub enum Choice {
    Devices {
        video: VideoSpec,
        audio: AudioSpec,
        notes: Vec<String>,
    },
    Recording {
        file: PathBuf,
        looped: bool,
        streams: Streams,
        notes: Vec<String>,
    },
}

impl Choice {
    pub fn streams(&self) -> Streams {
        match self {
            Choice::Devices { video, audio, .. } => Streams {
                video: *video != VideoSpec::None,
                audio: *audio != AudioSpec::None,
            },
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

/// The tracks and channels that the configuration selects.
pub fn track_choice(config: &Config) -> Result<TrackChoice, DaemonError> {
    TrackChoice::parse(
        &config.video_track,
        &config.audio_track,
        &config.audio_channel,
    )
    .map_err(|error| {
        DaemonError::Usage(format!(
            "video.track, audio.track or audio.channel: {error}"
        ))
    })
}

/// `--replay` before devices; `auto` and `default` are whatever is there, or comes to be.
pub fn choose(config: &Config, options: &RunOptions) -> Result<Choice, DaemonError> {
    if let Some(file) = &options.replay {
        let note = format!(
            "replaying {} as if live{}",
            file.display(),
            if options.looped { ", in a loop" } else { "" }
        );
        return recording(config, file.clone(), options.looped, vec![note]);
    }
    let video: VideoSpec = config
        .video
        .expose()
        .parse()
        .map_err(|error| DaemonError::Usage(format!("video.source: {error}")))?;
    let audio: AudioSpec = config
        .audio
        .expose()
        .parse()
        .map_err(|error| DaemonError::Usage(format!("audio.source: {error}")))?;
    if let Some(what) = contradiction(&video, &audio) {
        return Err(DaemonError::Usage(what));
    }
    let found = if video == VideoSpec::Auto || audio == AudioSpec::Default {
        devices()
    } else {
        Vec::new()
    };
    let mut notes = Vec::new();
    match settle(video, audio, &found, options.demonstration, &mut notes) {
        Some((video, audio)) => Ok(Choice::Devices {
            video,
            audio,
            notes,
        }),
        None => {
            let file = locate(Path::new(DEMONSTRATION));
            notes.push(format!(
                "so replaying the demonstration recording {} in a loop, as if live",
                file.display()
            ));
            recording(config, file, true, notes)
        }
    }
}

/// What is captured where `found` is what there is just now. What is not there is waited for: a service starts before the USB bus has told
/// of its cameras. Whoever asks for a demonstration wants to see something at once: then it is left out, and `None` is nothing at all.
fn settle(
    mut video: VideoSpec,
    mut audio: AudioSpec,
    found: &[DeviceEntry],
    demonstration: bool,
    notes: &mut Vec<String>,
) -> Option<(VideoSpec, AudioSpec)> {
    if video == VideoSpec::Auto {
        match found.iter().find(|d| d.kind == DeviceKind::Video) {
            Some(camera) => notes.push(format!("camera: {} ({}), the first found", camera.name, camera.config)),
            None if demonstration => {
                notes.push("no camera found (video.source = \"auto\")".into());
                video = VideoSpec::None;
            }
            None => notes.push("no camera yet (video.source = \"auto\"): the first to appear is taken; \"none\" does without".into()),
        }
    } else {
        notes.push(format!("video: {video}"));
    }
    if audio == AudioSpec::Default {
        // ALSA lists plug-ins (`null`, `jack`, …) as devices where there is no sound card at all: only a default that opens counts.
        match found.iter().find(|d| d.kind == DeviceKind::Audio && d.config == AudioSpec::Default.to_string()) {
            Some(_) => notes.push("microphone: the system's default".into()),
            None if demonstration => {
                notes.push("no microphone found (audio.source = \"default\")".into());
                audio = AudioSpec::None;
            }
            None => notes.push("no microphone yet (audio.source = \"default\"): it is taken when there is one; \"none\" does without".into()),
        }
    } else {
        notes.push(format!("audio: {audio}"));
    }
    (video != VideoSpec::None || audio != AudioSpec::None).then_some((video, audio))
}

/// Why these two sources cannot be captured, whatever devices there are.
pub fn contradiction(video: &VideoSpec, audio: &AudioSpec) -> Option<String> {
    match (video, audio) {
        (VideoSpec::None, AudioSpec::None) => {
            Some("video.source and audio.source are both none: nothing to capture; set one of them, or use --replay FILE".into())
        }
        (VideoSpec::Uri(_) | VideoSpec::Gst(_), _) => None,
        (_, AudioSpec::Uri) => Some(format!(
            "audio.source is uri, the sound track of the video's source; video.source is {video}, which has none: only uri:<…> and gst:<…> have one"
        )),
        _ => None,
    }
}

fn recording(
    config: &Config,
    file: PathBuf,
    looped: bool,
    notes: Vec<String>,
) -> Result<Choice, DaemonError> {
    let opened = Recording::open_with(&file, track_choice(config)?)?;
    let streams = Streams {
        video: opened.has_video(),
        audio: opened.has_audio(),
    };
    Ok(Choice::Recording {
        file,
        looped,
        streams,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_waited_for_unless_a_demonstration_is_asked_for() {
        let entry = |kind, config: &str| DeviceEntry {
            kind,
            name: "a device".into(),
            config: config.into(),
            problem: None,
        };
        let (camera, microphone) = (
            entry(DeviceKind::Video, "v4l2:/dev/video0"),
            entry(DeviceKind::Audio, "default"),
        );
        let both = [camera.clone(), microphone.clone()];
        let settled = |found: &[DeviceEntry], demonstration| {
            settle(
                VideoSpec::Auto,
                AudioSpec::Default,
                found,
                demonstration,
                &mut Vec::new(),
            )
        };
        let all = Some((VideoSpec::Auto, AudioSpec::Default));
        for found in [&[][..], &both[..1], &both[1..], &both[..]] {
            assert_eq!(settled(found, false), all, "{found:?}");
        }
        assert_eq!(settled(&both, true), all);
        assert_eq!(
            settled(&[camera], true),
            Some((VideoSpec::Auto, AudioSpec::None))
        );
        assert_eq!(
            settled(&[microphone], true),
            Some((VideoSpec::None, AudioSpec::Default))
        );
        assert_eq!(settled(&[], true), None);
        // What was named is not looked for here.
        let named = (VideoSpec::Test, AudioSpec::None);
        assert_eq!(
            settle(named.0.clone(), named.1.clone(), &[], true, &mut Vec::new()),
            Some(named)
        );
    }

    #[test]
    fn every_decision_is_told() {
        let notes = |demonstration| {
            let mut notes = Vec::new();
            let _ = settle(
                VideoSpec::Auto,
                AudioSpec::Default,
                &[],
                demonstration,
                &mut notes,
            );
            notes
        };
        assert!(
            notes(false).iter().all(|note| note.contains("yet")),
            "{:?}",
            notes(false)
        );
        assert!(
            notes(true).iter().all(|note| note.contains("found")),
            "{:?}",
            notes(true)
        );
        assert_eq!((notes(false).len(), notes(true).len()), (2, 2));
    }
}
