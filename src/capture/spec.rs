//! What to capture, as the configuration writes it: `[capture] video = "…"`, `audio = "…"`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::{self, Address};

/// Where pictures come from. Reads the configuration's strings; `Display` and `Debug` write them without
/// their secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum VideoSpec {
    /// `auto`: the first webcam.
    Auto,
    /// `none`: no pictures.
    None,
    /// `test`: a moving test picture.
    Test,
    /// `v4l2:<device or by-id path>`.
    V4l2(String),
    /// `pipewire` or `pipewire:<node>`.
    Pipewire(Option<String>),
    /// `uri:<file path, or http, rtsp, file address>`.
    Uri(Address),
    /// `gst:<bin description>`: raw, encoded or muxed media on the bin's free source pads, also on those that appear late. The
    /// first track of each kind is taken.
    Gst(Address),
}

/// Where sound comes from. Shown as [`VideoSpec`] is.
#[derive(Clone, PartialEq, Eq)]
pub enum AudioSpec {
    /// `default`: the host's default microphone.
    Default,
    /// A microphone's id or name, as `expressd devices` prints it.
    Device(String),
    /// `uri`: the sound track of the video's source.
    Uri,
    /// `none`: no sound.
    None,
}

/// A `video` string that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no video source; write auto, v4l2:<device>, pipewire, pipewire:<node>, uri:<file, http or rtsp address>, gst:<bin description>, test or none"
)]
pub struct UnknownVideo(pub Address);

/// An `audio` string that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an empty string names no audio source; write default, uri, none, or a name that `expressd devices` prints"
)]
pub struct UnknownAudio;

impl FromStr for VideoSpec {
    type Err = UnknownVideo;

    fn from_str(text: &str) -> Result<Self, UnknownVideo> {
        let unknown = || UnknownVideo(text.into());
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) => (scheme, Some(rest.trim())),
            None => (text, None),
        };
        match (scheme.trim(), rest) {
            ("auto", None) => Ok(VideoSpec::Auto),
            ("none", None) => Ok(VideoSpec::None),
            ("test", None) => Ok(VideoSpec::Test),
            ("pipewire", None) => Ok(VideoSpec::Pipewire(None)),
            (_, None | Some("")) => Err(unknown()),
            ("pipewire", Some(node)) => Ok(VideoSpec::Pipewire(Some(node.to_owned()))),
            ("v4l2", Some(device)) => Ok(VideoSpec::V4l2(device.to_owned())),
            ("uri", Some(uri)) => Ok(VideoSpec::Uri(uri.into())),
            ("gst", Some(description)) => Ok(VideoSpec::Gst(description.into())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for VideoSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VideoSpec::Auto => f.write_str("auto"),
            VideoSpec::None => f.write_str("none"),
            VideoSpec::Test => f.write_str("test"),
            VideoSpec::V4l2(device) => write!(f, "v4l2:{}", address::shown(device)),
            VideoSpec::Pipewire(None) => f.write_str("pipewire"),
            VideoSpec::Pipewire(Some(node)) => write!(f, "pipewire:{}", address::shown(node)),
            VideoSpec::Uri(uri) => write!(f, "uri:{uri}"),
            VideoSpec::Gst(description) => write!(f, "gst:{description}"),
        }
    }
}

impl FromStr for AudioSpec {
    type Err = UnknownAudio;

    fn from_str(text: &str) -> Result<Self, UnknownAudio> {
        match text.trim() {
            "" => Err(UnknownAudio),
            "default" => Ok(AudioSpec::Default),
            "uri" => Ok(AudioSpec::Uri),
            "none" => Ok(AudioSpec::None),
            device => Ok(AudioSpec::Device(device.to_owned())),
        }
    }
}

impl fmt::Display for AudioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AudioSpec::Default => f.write_str("default"),
            AudioSpec::Device(device) => f.write_str(&address::shown(device)),
            AudioSpec::Uri => f.write_str("uri"),
            AudioSpec::None => f.write_str("none"),
        }
    }
}

impl fmt::Debug for VideoSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VideoSpec({self})")
    }
}

impl fmt::Debug for AudioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AudioSpec({self})")
    }
}

impl VideoSpec {
    /// `text` of a library about this source, without the source's secrets.
    pub(super) fn hide_in(&self, text: &str) -> String {
        match self {
            VideoSpec::Uri(address) | VideoSpec::Gst(address) => address.hide_in(text),
            _ => address::redact(text),
        }
    }
}

/// The file behind a `uri:` that is one: a bare path or a `file:` address. `None` for network addresses.
pub(super) fn local_file(uri: &str) -> Option<PathBuf> {
    if uri.starts_with("file:") {
        return gstreamer::glib::filename_from_uri(uri)
            .ok()
            .map(|(path, _)| path);
    }
    match uri.split_once("://") {
        Some((scheme, _))
            if scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) =>
        {
            None
        }
        _ => Some(PathBuf::from(uri)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_reads_back_what_it_writes() {
        for text in [
            "auto",
            "none",
            "test",
            "v4l2:/dev/v4l/by-id/usb-x-index0",
            "pipewire",
            "pipewire:42",
            "uri:rtsp://10.0.0.2:554/a",
            "uri:/a b.mp4",
            "gst:videotestsrc ! identity",
        ] {
            assert_eq!(text.parse::<VideoSpec>().unwrap().to_string(), text);
        }
        for text in ["default", "uri", "none", "alsa:hw:CARD=C920,DEV=0"] {
            assert_eq!(text.parse::<AudioSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "webcam",
            "v4l2",
            "v4l2:",
            "uri:",
            "gst: ",
            "auto:1",
            "http://x/y",
        ] {
            assert_eq!(
                text.parse::<VideoSpec>(),
                Err(UnknownVideo(text.into())),
                "{text}"
            );
        }
        assert_eq!(" ".parse::<AudioSpec>(), Err(UnknownAudio));
    }

    #[test]
    fn local_files_are_told_from_addresses() {
        assert_eq!(local_file("a/b.mp4"), Some("a/b.mp4".into()));
        assert_eq!(local_file("file:///a%20b.mp4"), Some("/a b.mp4".into()));
        assert_eq!(local_file("rtsp://10.0.0.2/x"), None);
        assert_eq!(local_file("https://host/x.mp4"), None);
    }
}
