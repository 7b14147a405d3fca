//! Audio, its voice activity and speech turns.

use std::sync::Arc;

use super::SubjectId;
use crate::time::{MediaTime, Span};

/// Sample rate, in Hz, of all audio after `capture`: mono, samples from -1 to 1.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// A block of captured sound: mono samples at [`SAMPLE_RATE_HZ`].
#[derive(Clone, Debug)]
pub struct AudioBlock {
    /// Capture time of the first sample.
    pub time: MediaTime,
    /// Mono samples at [`SAMPLE_RATE_HZ`].
    pub samples: Arc<[f32]>,
}

impl AudioBlock {
    /// The time from the first sample to the end of the last one.
    pub fn span(&self) -> Span {
        Span::new(
            self.time,
            self.time
                .plus_nanos(samples_to_nanos(self.samples.len() as i64)),
        )
    }
}

/// Duration of `samples` samples at [`SAMPLE_RATE_HZ`], in nanoseconds. It is exact: one sample
/// lasts 62,500 ns.
pub const fn samples_to_nanos(samples: i64) -> i64 {
    samples * (1_000_000_000 / SAMPLE_RATE_HZ as i64)
}

/// The decision of voice-activity detection on one window of audio (32 ms with Silero).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoiceActivity {
    /// The time that the window covers.
    pub span: Span,
    /// Probability of speech in the window, 0 to 1.
    pub probability: f32,
    /// Whether the window is speech: whether `probability` exceeds a threshold with hysteresis.
    pub speech: bool,
    /// Start of the turn that is open at the end of this window; `None` outside turns. The decision
    /// is causal: a turn opens after its minimum length, so that `turn` may lie before `span`.
    pub turn: Option<MediaTime>,
}

/// The start or the end of a speech turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeechTurn {
    /// Start of the turn.
    pub start: MediaTime,
    /// End of the turn; `None` where this value reports the start.
    pub end: Option<MediaTime>,
    /// The subject to which the turn is attributed; `None` if the speaker is unknown.
    pub owner: Option<SubjectId>,
}

/// The output of the speech stage for one block: its samples and voice activity. The end of the
/// block is the aligner's audio watermark.
#[derive(Clone, Debug)]
pub struct VadBlock {
    pub block: AudioBlock,
    /// Windows that this block completes, oldest first. The first one may begin in an earlier
    /// block.
    pub activity: Vec<VoiceActivity>,
}

/// The voice in a clip's window.
#[derive(Clone, Debug)]
pub struct ClipVoice {
    /// The samples of the clip's span at [`SAMPLE_RATE_HZ`]. Samples that were not captured are
    /// zero.
    pub samples: Arc<[f32]>,
    /// Share of the window that is speech, 0 to 1.
    pub speech: f32,
    /// Total duration within the span that was not captured, in nanoseconds.
    pub missing_nanos: i64,
    /// Probability that the voice belongs to the clip's subject, 0 to 1.
    pub owner_confidence: f32,
    /// End of the newest captured sample.
    pub newest: MediaTime,
}
