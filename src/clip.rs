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

/// Id of a tracked person, stable within a session. `s<n>` on the wire; `voice` stands for speech
/// without a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectId {
    Face(u32),
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
    /// No source delivers it.
    NoSource,
    /// The subject has no face in the window.
    NoFace,
    /// No face in the window passes the quality gate.
    LowQuality,
    NoSpeech,
    /// The voice is attributed to another subject.
    NotOwner,
    /// Transcription is off, or there is no word in the window.
    NoTranscript,
    /// The bundle has no encoder for it.
    NoEncoder,
    /// Its encoding would have delayed the other modalities (live text only).
    Late,
    /// The encoder failed, or returned a number that is not finite.
    ModelFault,
}

/// One aligned window of all modalities for one subject.
#[derive(Clone, Debug)]
pub struct Clip {
    pub subject: SubjectId,
    pub span: Span,
    /// At most one face per slot of the manifest's face rate, oldest first; each has a crop.
    pub faces: Vec<Arc<Face>>,
    /// Number of slots within the subject's presence without a usable face.
    pub faces_missing: u32,
    /// Why the clip has no faces; `None` if it has some.
    pub face_absence: Option<Absence>,
    /// The voice, or why it is absent.
    pub voice: Result<ClipVoice, Absence>,
    /// The text, or why it is absent.
    pub text: Result<ClipText, Absence>,
    /// Stamp of the newest audio minus that of the newest video, in nanoseconds; `None` unless both
    /// modalities are present.
    pub skew_nanos: Option<i64>,
    /// Time of output by the aligner, on the clock that drives it.
    pub aligned_at: MediaTime,
}

impl Clip {
    /// The modalities that the clip contains.
    pub fn presence(&self) -> Presence {
        PerModality {
            face: !self.faces.is_empty(),
            voice: self.voice.is_ok(),
            text: self.text.is_ok(),
        }
    }
    /// Time of the newest evidence of any modality.
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
    /// One score per label of the manifest, 0..1; they sum to 1 for a single-label task.
    pub scores: Vec<f32>,
    /// Index of the highest score.
    pub top: usize,
    /// Calibrated probability that `top` is correct, 0..1.
    pub confidence: f32,
    /// Whether the confidence is below the bundle's threshold, so that the recogniser abstains.
    pub abstain: bool,
    /// The modalities that the head used.
    pub used: Presence,
    /// The reason for each modality that was not used.
    pub absence: PerModality<Option<Absence>>,
}
