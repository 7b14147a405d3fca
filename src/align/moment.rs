//! What happens on the timeline, and up to where each source has told it.

use crate::clip::{FramedFaces, VoiceActivity, samples_to_nanos};
use crate::speech::WINDOW_SAMPLES;
use crate::time::MediaTime;

/// One source's place on the timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub delivering: bool,
    pub ended: bool,
    pub watermark: MediaTime,
    /// The shortest time between two frames so far.
    pub frame_nanos: Option<i64>,
}

pub(super) const NEVER: MediaTime = MediaTime::from_nanos(i64::MIN);

impl Source {
    pub fn new(enabled: bool) -> Self {
        Source {
            delivering: enabled,
            ended: !enabled,
            watermark: NEVER,
            frame_nanos: None,
        }
    }
    /// Up to where everything is known.
    pub fn known_until(&self) -> MediaTime {
        if self.delivering {
            self.watermark
        } else {
            MediaTime::MAX
        }
    }
}

#[derive(Debug)]
pub(super) enum VideoMoment {
    Frame(FramedFaces, Option<i64>),
    /// The source stops here.
    End(MediaTime),
}

#[derive(Debug)]
pub(super) enum AudioMoment {
    Verdict(MediaTime, Kind, VoiceActivity),
    /// The source stops here.
    End(MediaTime),
}

impl VideoMoment {
    pub fn time(&self) -> MediaTime {
        match self {
            VideoMoment::Frame(frame, _) => frame.time,
            VideoMoment::End(time) => *time,
        }
    }
}

impl AudioMoment {
    /// The verdict is due at the end of its window. One that a gap cut short is known only after the gap; by its full length it is past the end
    /// of what was captured, where no watermark can be before it is known.
    pub fn verdict(activity: VoiceActivity) -> Self {
        let full = activity
            .span
            .start
            .plus_nanos(samples_to_nanos(WINDOW_SAMPLES as i64));
        AudioMoment::Verdict(activity.span.end.max(full), Kind::Audio, activity)
    }
    pub fn time(&self) -> (MediaTime, Kind) {
        match self {
            AudioMoment::Verdict(time, kind, _) => (*time, *kind),
            AudioMoment::End(time) => (*time, Kind::AudioEnd),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Audio,
    Words,
    Boundary,
    Video,
    AudioEnd,
}
