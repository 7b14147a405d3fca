//! The data that travels between the stages: frame, block, face, clip, recognition.
//!
//! These types carry data and no behaviour beyond accessors. Large data is behind an [`Arc`], so
//! that a picture is decoded once and a crop is cut once.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::modality::{PerModality, Presence};
use crate::time::{MediaTime, Span};

mod audio;
mod face;
mod picture;
mod transcript;

pub use audio::{
    AudioBlock, ClipVoice, SAMPLE_RATE_HZ, SpeechTurn, VadBlock, VoiceActivity, samples_to_nanos,
};
pub use face::{Crop, Face, FramedFaces, Landmarks, Rect, SubjectChange, SubjectPhase, face_slot};
pub use picture::{ColorMatrix, Colorimetry, Picture, Plane, VideoFrame};
pub use transcript::{ClipText, OwnedTranscript, Transcript, TranscriptSource, Word};

/// Id of a tracked person or of the off-camera voice, stable within a session. It is serialised as
/// `s<n>` or `voice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectId {
    /// A tracked person, by number: `s<n>`.
    Face(u32),
    /// Speech without a visible face: `voice`.
    Voice,
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectId::Face(n) => write!(f, "s{n}"),
            SubjectId::Voice => f.write_str("voice"),
        }
    }
}

impl Serialize for SubjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The reason for the absence of a modality from a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// No source delivers data of the modality.
    NoSource,
    /// The subject has no face in the window.
    NoFace,
    /// No face in the window passes the quality gate.
    LowQuality,
    /// There is too little speech in the window.
    NoSpeech,
    /// The voice is attributed to another subject.
    NotOwner,
    /// Transcription is off, or there is no word in the window.
    NoTranscript,
    /// The bundle has no encoder for the modality.
    NoEncoder,
    /// Encoding the modality would have delayed the others (live text only).
    Late,
    /// The encoder failed, or returned a number that is not finite.
    ModelFault,
}

/// One aligned window of all modalities for one subject.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The person, or the off-camera voice.
    pub subject: SubjectId,
    /// The window, limited to the time since the subject appeared.
    pub span: Span,
    /// At most one face per slot of the manifest's face rate, oldest first; each has a crop.
    pub faces: Vec<Arc<Face>>,
    /// Number of slots within the subject's presence without a usable face.
    pub faces_missing: u32,
    /// The reason why the clip has no faces; `None` if it has some.
    pub face_absence: Option<Absence>,
    /// The voice, or the reason for its absence.
    pub voice: Result<ClipVoice, Absence>,
    /// The text, or the reason for its absence.
    pub text: Result<ClipText, Absence>,
    /// Time of the newest sound in the clip minus the time of its newest face, in nanoseconds;
    /// `None` unless the clip contains both.
    pub skew_nanos: Option<i64>,
    /// Time at which the aligner returned the clip, on the clock that drives the aligner.
    pub aligned_at: MediaTime,
}

impl Clip {
    /// Which modalities the clip contains.
    pub fn presence(&self) -> Presence {
        PerModality {
            face: !self.faces.is_empty(),
            voice: self.voice.is_ok(),
            text: self.text.is_ok(),
        }
    }
    /// Time of the newest evidence of any modality; `None` if the clip has no evidence.
    pub fn newest(&self) -> Option<MediaTime> {
        let face = self.faces.last().map(|f| f.time);
        let voice = self.voice.as_ref().ok().map(|v| v.newest);
        face.max(voice)
            .max(self.text.as_ref().ok().map(|t| t.newest))
    }
}

/// The recognition result of one clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The primary head's scores, one per label of the manifest, in its order, 0 to 1. They sum to
    /// 1 for a single-label task.
    pub scores: Vec<f32>,
    /// Index of the highest score in `scores`.
    pub top: usize,
    /// Calibrated probability that `top` is correct, 0 to 1.
    pub confidence: f32,
    /// Whether the confidence is below the bundle's threshold, so that the recogniser abstains.
    pub abstain: bool,
    /// The answer of each further head of the manifest, in its order: one score per label, or one
    /// number per name. `None`: the head had no evidence, its output was not finite, or it
    /// abstains.
    pub further: Vec<Option<Vec<f32>>>,
    /// Which modalities the head used.
    pub used: Presence,
    /// For each modality that was not used, the reason; `None` for a used one.
    pub absence: PerModality<Option<Absence>>,
}
