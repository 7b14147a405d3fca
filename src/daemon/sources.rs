//! Chooses the sources of `expressd run` by configuration, options and present devices, and
//! explains the choice to the user.

use std::path::{Path, PathBuf};

use super::DaemonError;
use super::options::RunOptions;
use crate::assets::locate;
use crate::capture::{
    AudioSpec, DeviceEntry, DeviceKind, Recording, TrackChoice, VideoSpec, devices,
};
use crate::config::Config;
use crate::session::Streams;

/// The recording of the project that `--demonstration` plays if there is neither camera nor
/// microphone.
pub const DEMONSTRATION: &str = "config/demo/demo.mp4";

/// The chosen sources of `expressd run`.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Camera, microphone or both.
    Devices {
        video: VideoSpec,
        audio: AudioSpec,
        /// Reasons for the choice, one line each.
        notes: Vec<String>,
    },
    /// A recording, played as if live.
    Recording {
        file: PathBuf,
        /// Whether it starts again at its end.
        looped: bool,
        streams: Streams,
        /// Reasons for the choice, one line each.
        notes: Vec<String>,
    },
}

impl Choice {
    /// Whether the chosen sources include video, and whether they include audio.
    pub fn streams(&self) -> Streams {
        match self {
            Choice::Devices { video, audio, .. } => Streams {
                video: *video != VideoSpec::None,
                audio: *audio != AudioSpec::None,
            },
            Choice::Recording { streams, .. } => *streams,
        }
    }

    /// The recording that is played; `None` for devices.
    pub fn recording(&self) -> Option<&PathBuf> {
        match self {
            Choice::Devices { .. } => None,
            Choice::Recording { file, .. } => Some(file),
        }
    }

    /// The reasons for the choice, one line each, for the user.
    pub fn explanation(&self) -> &[String] {
        match self {
            Choice::Devices { notes, .. } | Choice::Recording { notes, .. } => notes,
        }
    }
}

/// The configured selection of a source's tracks and of its audio channel.
///
/// # Errors
/// A selection cannot be parsed.
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

/// Chooses the sources: the recording of `--replay`, else the configured devices. `auto` and
/// `default` stand for a present device, or for the first one that appears later.
///
/// # Errors
/// A source's string cannot be parsed, the sources contradict each other, or the recording cannot
/// be opened.
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
    if let Some(what) = conflict(&video, &audio) {
        return Err(DaemonError::Usage(what));
    }
    let found = if video == VideoSpec::Auto || audio == AudioSpec::Default {
        devices()
    } else {
        Vec::new()
    };
    let mut notes = Vec::new();
    match resolve(video, audio, &found, options.demonstration, &mut notes) {
        Some((video, audio)) => Ok(Choice::Devices {
            video,
            audio,
            notes,
        }),
        None => {
            let file = locate(Path::new(DEMONSTRATION));
            notes.push(format!(
                "no device: the demonstration recording {} is replayed in a loop, as if live",
                file.display()
            ));
            recording(config, file, true, notes)
        }
    }
}

/// Resolves `auto` and `default` by the present devices `found`, and adds the reasons to `notes`. A
/// missing device is waited for, because a service may start before the USB bus reports its
/// cameras. With `demonstration`, a missing device is left out instead; `None` if no source is
/// left.
fn resolve(
    mut video: VideoSpec,
    mut audio: AudioSpec,
    found: &[DeviceEntry],
    demonstration: bool,
    notes: &mut Vec<String>,
) -> Option<(VideoSpec, AudioSpec)> {
    if video == VideoSpec::Auto {
        match found.iter().find(|d| d.kind == DeviceKind::Video) {
            Some(camera) => notes.push(format!(
                "camera: {} ({}), the first found",
                camera.name, camera.config
            )),
            None if demonstration => {
                notes.push("no camera found (video.source = \"auto\")".into());
                video = VideoSpec::None;
            }
            None => notes.push(
                "no camera yet (video.source = \"auto\"): the first one that appears is used; \
                 \"none\" runs without video"
                    .into(),
            ),
        }
    } else {
        notes.push(format!("video: {video}"));
    }
    if audio == AudioSpec::Default {
        // Without a sound card, ALSA lists plug-ins (`null`, `jack`, …) as devices: only a default
        // that opens counts.
        let default = AudioSpec::Default.to_string();
        let is_default = |d: &&DeviceEntry| d.kind == DeviceKind::Audio && d.config == default;
        match found.iter().find(is_default) {
            Some(_) => notes.push("microphone: the system's default".into()),
            None if demonstration => {
                notes.push("no microphone found (audio.source = \"default\")".into());
                audio = AudioSpec::None;
            }
            None => notes.push(
                "no microphone yet (audio.source = \"default\"): it is used once it appears; \
                 \"none\" runs without audio"
                    .into(),
            ),
        }
    } else {
        notes.push(format!("audio: {audio}"));
    }
    (video != VideoSpec::None || audio != AudioSpec::None).then_some((video, audio))
}

/// The message why `video` and `audio` can never be captured together; `None` if they can.
pub fn conflict(video: &VideoSpec, audio: &AudioSpec) -> Option<String> {
    match (video, audio) {
        (VideoSpec::None, AudioSpec::None) => {
            let what = "video.source and audio.source are both none: nothing to capture; set one \
                        of them, or use --replay FILE";
            Some(what.into())
        }
        (VideoSpec::Uri(_) | VideoSpec::Gst(_), _) => None,
        (_, AudioSpec::Uri) => Some(format!(
            "audio.source is uri, the sound track of the video's source; video.source is {video}, \
             which has none: only uri:<…> and gst:<…> have one"
        )),
        _ => None,
    }
}

/// The choice to play `file`, which is opened to find its tracks.
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
    fn missing_devices_are_waited_for_except_for_a_demonstration() {
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
            resolve(
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
        // Named devices are not searched.
        let named = (VideoSpec::Test, AudioSpec::None);
        assert_eq!(
            resolve(named.0.clone(), named.1.clone(), &[], true, &mut Vec::new()),
            Some(named)
        );
    }

    #[test]
    fn each_missing_device_is_explained_by_a_note() {
        let notes = |demonstration| {
            let mut notes = Vec::new();
            let _ = resolve(
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
