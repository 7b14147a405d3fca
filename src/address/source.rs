//! Parses the values of the keys `video.source` and `audio.source`.

use std::fmt;
use std::str::FromStr;

use super::{Address, redact, redact_address};

/// The video source, parsed from the configuration's `video.source`. `Display` and `Debug` write it
/// without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum VideoSpec {
    /// `auto`: the first camera.
    Auto,
    /// `none`: no video.
    None,
    /// `test`: a moving test picture.
    Test,
    /// `v4l2:<device>`: a camera of Video4Linux by its device path or its path in `/dev/v4l/by-id`.
    V4l2(String),
    /// `pipewire` or `pipewire:<node>`; `None`: PipeWire's default node.
    Pipewire(Option<String>),
    /// `uri:<path or address>`: a recording by its file path, or a stream by its `http`, `rtsp` or
    /// `file` address.
    Uri(Address),
    /// `gst:<bin description>`: a GStreamer bin with raw, encoded or muxed media on its unlinked
    /// source pads, including pads that appear later. The first track of each kind is used.
    Gst(Address),
}

/// The audio source, parsed from the configuration's `audio.source`. `Display` and `Debug` write it
/// without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum AudioSpec {
    /// `default`: the host's default microphone.
    Default,
    /// A microphone's id or name, as `expressd devices` prints it.
    Device(String),
    /// `uri`: the sound track of the video source.
    Uri,
    /// `none`: no sound.
    None,
}

/// The error for an invalid value of `video.source`; it holds the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a video source; permitted is {permitted}", permitted = VideoSpec::PERMITTED)]
pub struct UnknownVideo(pub Address);

/// The error for an invalid value of `audio.source`: only an empty text is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an empty string is not an audio source; permitted is {}",
    AudioSpec::PERMITTED
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
        match (scheme, rest) {
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
            VideoSpec::V4l2(device) => write!(f, "v4l2:{}", redact_address(device)),
            VideoSpec::Pipewire(None) => f.write_str("pipewire"),
            VideoSpec::Pipewire(Some(node)) => write!(f, "pipewire:{}", redact_address(node)),
            VideoSpec::Uri(uri) => write!(f, "uri:{uri}"),
            VideoSpec::Gst(description) => write!(f, "gst:{description}"),
        }
    }
}

impl AudioSpec {
    /// Description of the permitted values of `audio.source`, for error messages.
    pub const PERMITTED: &str = "\"default\", \"uri\" (the sound of the video's source), \
        \"none\", or a device as `expressd devices` lists it";
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
            AudioSpec::Device(device) => f.write_str(&redact_address(device)),
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
    /// Description of the permitted values of `video.source`, for error messages.
    pub const PERMITTED: &str = "\"auto\", \"v4l2:<device>\", \"pipewire\" or \
        \"pipewire:<node>\", \"uri:<file, http or rtsp>\", \"gst:<bin>\", \"test\" or \"none\"";

    /// Redacts `text`, a library's message about this source: removes the secrets of the source.
    pub fn redact_in(&self, text: &str) -> String {
        match self {
            VideoSpec::Uri(address) | VideoSpec::Gst(address) => address.redact_in(text),
            _ => redact(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_sources_parse_and_display_as_the_same_text() {
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
    fn invalid_sources_are_refused() {
        for text in [
            "",
            "webcam",
            "v4l2",
            "v4l2:",
            "uri:",
            "gst: ",
            " auto",
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
}
