//! Moments on the timeline, and the sources' watermarks.

use crate::clip::{FramedFaces, VoiceActivity, samples_to_nanos};
use crate::speech::WINDOW_SAMPLES;
use crate::time::MediaTime;

/// State and watermark of one source: video, audio or the transcriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Whether the source is expected to deliver.
    pub delivering: bool,
    /// Whether the source has ended for good.
    pub ended: bool,
    /// Time of the newest frame, or end of the newest audio block. For the transcriber: the time up
    /// to which its transcripts are known.
    pub watermark: MediaTime,
    /// Video: shortest distance between two consecutive frames so far, in nanoseconds. `None`
    /// before the second frame, and for other sources.
    pub frame_nanos: Option<i64>,
}

/// A time before every stamp.
pub(super) const NEVER: MediaTime = MediaTime::from_nanos(i64::MIN);

impl Source {
    /// A source without data; `enabled`: whether it is expected to deliver.
    pub fn new(enabled: bool) -> Self {
        Source {
            delivering: enabled,
            ended: !enabled,
            watermark: NEVER,
            frame_nanos: None,
        }
    }
    /// Time up to which all moments of the source are known; [`MediaTime::MAX`] if the source is
    /// not expected to deliver.
    pub fn known_until(&self) -> MediaTime {
        if self.delivering {
            self.watermark
        } else {
            MediaTime::MAX
        }
    }
}

/// A moment of the video stream.
#[derive(Debug)]
pub(super) enum VideoMoment {
    /// A frame with its faces, and [`Source::frame_nanos`] at its arrival.
    Frame(FramedFaces, Option<i64>),
    /// The source ended or was lost; the time is the end of its last frame.
    End(MediaTime),
}

/// A moment of the audio stream.
#[derive(Debug)]
pub(super) enum AudioMoment {
    /// A voice-activity window: the time at which it is due, its rank at that time, and its
    /// activity.
    Window(MediaTime, MomentKind, VoiceActivity),
    /// The source ended or was lost; the time is the end of its last block.
    End(MediaTime),
}

impl VideoMoment {
    /// The time at which the moment is due.
    pub fn time(&self) -> MediaTime {
        match self {
            VideoMoment::Frame(frame, _) => frame.time,
            VideoMoment::End(time) => *time,
        }
    }
}

impl AudioMoment {
    /// A voice-activity window, due at its end. A window that a gap cut short is known only after
    /// the gap. It is due at the end of its full length, which no watermark passes before the
    /// window is known.
    pub fn window(activity: VoiceActivity) -> Self {
        let full = activity
            .span
            .start
            .plus_nanos(samples_to_nanos(WINDOW_SAMPLES as i64));
        AudioMoment::Window(activity.span.end.max(full), MomentKind::Audio, activity)
    }
    /// The time at which the moment is due, and its rank among moments of equal time.
    pub fn time(&self) -> (MediaTime, MomentKind) {
        match self {
            AudioMoment::Window(time, kind, _) => (*time, *kind),
            AudioMoment::End(time) => (*time, MomentKind::AudioEnd),
        }
    }
}

/// The kinds of moments, in the order in which moments of equal time are processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MomentKind {
    Audio,
    Transcript,
    Boundary,
    Video,
    AudioEnd,
}
