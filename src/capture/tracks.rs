//! Selection of the tracks of a source and of the channels of its sound.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Selection of tracks and channels: the configuration's `video.track`, `audio.track` and
/// `audio.channel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackChoice {
    pub video: TrackSelection,
    pub audio: TrackSelection,
    pub channel: ChannelSelection,
}

impl TrackChoice {
    /// Parses the three strings of a validated configuration.
    ///
    /// # Errors
    /// [`UnknownSelection`] for the first string that is not a selection.
    pub fn parse(video: &str, audio: &str, channel: &str) -> Result<TrackChoice, UnknownSelection> {
        Ok(TrackChoice {
            video: video.parse()?,
            audio: audio.parse()?,
            channel: channel.parse()?,
        })
    }
}

/// Selection of one track among those of its kind. `FromStr` and `Display` use the strings of the
/// configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrackSelection {
    /// `auto`: the track is chosen by the container's default flags and by content.
    #[default]
    Auto,
    /// A number: position in the container's order among the tracks of its kind, counted from 1.
    Number(NonZeroU32),
}

/// Selection among the channels of a sound track or microphone. `FromStr` and `Display` use the
/// strings of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelSelection {
    /// `auto`: the mix of all channels, or the best channel for as long as the channels cancel each
    /// other.
    #[default]
    Auto,
    /// `mix`: always the mix of all channels.
    Mix,
    /// A number: only this channel, counted from 1.
    Number(NonZeroU32),
}

/// Error of a string that is no selection of a track or channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` selects nothing")]
pub struct UnknownSelection(pub String);

impl FromStr for TrackSelection {
    type Err = UnknownSelection;

    fn from_str(text: &str) -> Result<Self, UnknownSelection> {
        match text.trim() {
            "auto" => Ok(TrackSelection::Auto),
            number => number
                .parse()
                .map(TrackSelection::Number)
                .map_err(|_| UnknownSelection(text.to_owned())),
        }
    }
}

impl fmt::Display for TrackSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrackSelection::Auto => f.write_str("auto"),
            TrackSelection::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for ChannelSelection {
    type Err = UnknownSelection;

    fn from_str(text: &str) -> Result<Self, UnknownSelection> {
        match text.trim() {
            "auto" => Ok(ChannelSelection::Auto),
            "mix" => Ok(ChannelSelection::Mix),
            number => number
                .parse()
                .map(ChannelSelection::Number)
                .map_err(|_| UnknownSelection(text.to_owned())),
        }
    }
}

impl fmt::Display for ChannelSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelSelection::Auto => f.write_str("auto"),
            ChannelSelection::Mix => f.write_str("mix"),
            ChannelSelection::Number(number) => number.fmt(f),
        }
    }
}

/// Properties of a track that are known before playback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TrackFacts {
    /// Media type of the encoded stream, such as `video/x-h264`; empty if unknown.
    pub media_type: String,
    /// Whether the container flags the track as a default track.
    pub is_default: bool,
    /// Whether the track is a single picture, such as a cover.
    pub is_still: bool,
}

impl TrackFacts {
    /// Whether the format of the track is one of single pictures. Such a track beside another one
    /// is most likely a cover.
    fn is_picture_format(&self) -> bool {
        self.media_type.starts_with("image/")
    }
}

/// The index of the track to play among `tracks` of one kind, which are in the container's order.
/// `None`: there is no track, or none with the selected number.
pub(super) fn select(tracks: &[TrackFacts], selection: TrackSelection) -> Option<usize> {
    match selection {
        TrackSelection::Number(number) => {
            let index = number.get() as usize - 1;
            (index < tracks.len()).then_some(index)
        }
        // The first track wins a tie.
        TrackSelection::Auto => (0..tracks.len()).min_by_key(|index| {
            let track = &tracks[*index];
            (track.is_still, track.is_picture_format(), !track.is_default)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(media_type: &str, is_default: bool) -> TrackFacts {
        TrackFacts {
            media_type: media_type.into(),
            is_default,
            is_still: false,
        }
    }

    #[test]
    fn selections_round_trip_and_invalid_ones_are_refused() {
        for text in ["auto", "1", "12"] {
            assert_eq!(text.parse::<TrackSelection>().unwrap().to_string(), text);
        }
        for text in ["auto", "mix", "2"] {
            assert_eq!(text.parse::<ChannelSelection>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "first", "1.5"] {
            assert!(text.parse::<TrackSelection>().is_err(), "{text}");
            assert!(text.parse::<ChannelSelection>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_track_is_selected_by_number_by_content_and_by_default_flag() {
        let auto = TrackSelection::Auto;
        let number = |number| TrackSelection::Number(NonZeroU32::new(number).unwrap());
        let sounds = [facts("audio/mpeg", false), facts("audio/mpeg", true)];
        assert_eq!(select(&sounds, auto), Some(1));
        assert_eq!(select(&sounds, number(1)), Some(0));
        assert_eq!(select(&sounds, number(3)), None);
        let unmarked = [facts("audio/mpeg", false), facts("audio/x-ac3", false)];
        assert_eq!(select(&unmarked, auto), Some(0));
        // A cover that a writer marked as the default track.
        let cover = [facts("image/jpeg", true), facts("video/x-h264", false)];
        assert_eq!(select(&cover, auto), Some(1));
        assert_eq!(select(&[facts("image/jpeg", true)], auto), Some(0));
        let still = TrackFacts {
            is_still: true,
            ..facts("video/x-h264", true)
        };
        assert_eq!(select(&[still, facts("image/jpeg", false)], auto), Some(1));
        assert_eq!(select(&[], auto), None);
    }
}
