//! Errors of devices, files and network sources.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::redact_address;
use crate::time::MediaTime;

/// Remedy in the error for a track that delivered nothing.
pub(super) const INSTALL_DECODERS: &str = "install gstreamer1.0-libav and \
    gstreamer1.0-plugins-good, -bad and -ugly for its decoder, or convert it to H.264 and AAC \
    in MP4";

/// Errors of capture. The variants differ in the exit code or in the reaction of the caller.
#[derive(thiserror::Error)]
pub enum CaptureError {
    /// Exit 3: the file does not exist.
    #[error("there is no file {}; check the path", redact_address(&.0.to_string_lossy()))]
    NoSuchFile(PathBuf),
    /// Exit 3 for a configured device; `auto` and `default` wait for a device.
    #[error(
        "there is no {kind} `{}`; `expressd devices` lists the devices",
        redact_address(.name)
    )]
    NoSuchDevice { kind: &'static str, name: String },
    /// Exit 3: the configured device is listed, but cannot be opened.
    #[error(
        "the {kind} `{}` is listed and cannot be opened: {reason}; check that its sound server \
         runs and that this user may connect to it",
        redact_address(.name)
    )]
    DeviceRefuses {
        kind: &'static str,
        name: String,
        reason: String,
    },
    /// Exit 2: the configuration selects a track or a channel that does not exist.
    #[error("{} has no {what}: {remedy}", .path.display())]
    NoSuchTrack {
        path: PathBuf,
        what: String,
        remedy: String,
    },
    /// Exit 1: nothing can be played.
    #[error(
        "{} cannot be played: {reason}; check that it is a complete video, audio or image file",
        .path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    /// Exit 1 after the events of the decoded part are written: the decoder failed.
    #[error(
        "{} cannot be decoded: {reason}; convert it to another format, for example H.264 and AAC \
         in MP4",
        .path.display()
    )]
    Undecodable { path: PathBuf, reason: String },
    /// Exit 1 after the events of the available part are written: the file is truncated.
    #[error(
        "{} is truncated: {}; the available part was played; get the complete file for the rest",
        .path.display(), cut(*.end, *.expected, .reason)
    )]
    Cut {
        path: PathBuf,
        /// End of the last delivered picture or sample.
        end: MediaTime,
        /// End that the container states; `None` if it states none.
        expected: Option<MediaTime>,
        /// Message of the parser, if there was one.
        reason: Option<String>,
    },
    /// Exit 1 after the events of the first recording are written.
    #[error(
        "{} contains a second recording from byte {offset} on, which was not played; split the \
         file there and play both parts",
        .path.display()
    )]
    Appended { path: PathBuf, offset: u64 },
    /// Exit 1 after the events of the available part are written: the file is complete, and a track
    /// delivered nothing or less than its container states.
    #[error("{}: {what}; the rest was played; {remedy}", .path.display())]
    Missing {
        path: PathBuf,
        /// The tracks, and how much each delivered.
        what: String,
        remedy: &'static str,
    },
    /// A live source stopped. Capture reconnects by itself: this is a reason in `status` and not an
    /// exit.
    #[error("{source_name} is lost: {reason}; trying again")]
    Lost { source_name: String, reason: String },
    /// Exit 2 or 1: a requested feature is not available here.
    #[error("{what} is not supported here; {remedy}")]
    Unsupported { what: String, remedy: String },
    /// Exit 1: access was denied.
    #[error("access to {what} is denied; {remedy}")]
    Denied { what: String, remedy: String },
}

/// Text of one track in [`CaptureError::Missing`].
pub(super) fn track_fault(kind: &str, codec: &str, outcome: &str) -> String {
    let codec = if codec.is_empty() { "unnamed" } else { codec };
    format!("its {kind} track (codec {codec}) {outcome}")
}

/// The error if GStreamer's base plugins are not installed.
pub(super) fn missing_base_plugins() -> CaptureError {
    CaptureError::Unsupported {
        what: "decoding media".into(),
        remedy: "install gstreamer1.0-plugins-base".into(),
    }
}

impl CaptureError {
    /// The error for tracks without a decoder. `tracks`: `picture` or `sound`, and the codec.
    pub(super) fn silent_tracks(path: &Path, tracks: &[(&str, String)]) -> CaptureError {
        let tracks = tracks
            .iter()
            .map(|(kind, codec)| track_fault(kind, codec, "delivered nothing"));
        CaptureError::Missing {
            path: path.to_owned(),
            what: tracks.collect::<Vec<_>>().join(" and "),
            remedy: INSTALL_DECODERS,
        }
    }
}

/// The same text as `Display`, because names and paths may be addresses with secrets.
impl fmt::Debug for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaptureError({self})")
    }
}

/// Describes where the delivered media and the file end.
fn cut(end: MediaTime, expected: Option<MediaTime>, reason: &Option<String>) -> String {
    let mut text = match expected {
        Some(expected) => format!(
            "it ends at {:.2} s of {:.2} s",
            end.secs_f64(),
            expected.secs_f64()
        ),
        None => format!("it breaks off at {:.2} s", end.secs_f64()),
    };
    if let Some(reason) = reason {
        text.push_str(&format!(" ({reason})"));
    }
    text
}
