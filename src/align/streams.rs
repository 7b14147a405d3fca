//! Settings, inputs and outputs of the aligner.

use crate::clip::{
    Clip, FramedFaces, OwnedTranscript, SpeechTurn, SubjectChange, Transcript, VadBlock,
};
use crate::time::MediaTime;

/// Clip geometry and the enabled sources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlignSettings {
    /// Length of a clip, in nanoseconds.
    pub length_nanos: i64,
    /// Distance between the ends of consecutive clips, in nanoseconds.
    pub hop_nanos: i64,
    /// Face slots per second.
    pub face_rate_hz: f64,
    /// Least speech of a clip with a voice, in nanoseconds.
    pub min_speech_nanos: i64,
    /// Longest wait for a source after a boundary, in nanoseconds. `None`: without limit (offline).
    pub lateness_nanos: Option<i64>,
    /// Whether there is a video source.
    pub video: bool,
    /// Whether there is an audio source.
    pub audio: bool,
}

/// An input of the aligner.
#[derive(Clone, Debug)]
pub enum AlignInput {
    Faces(FramedFaces),
    VadBlock(VadBlock),
    /// The source has ended; waiting data is flushed.
    FacesEnded,
    AudioEnded,
    /// The source is lost: as an end, but its next item resumes it.
    FacesLost,
    AudioLost,
    Transcript(Transcript),
    /// Offline: watermark of the transcriber.
    TranscriptsUntil(MediaTime),
    TranscriptsEnded,
}

impl AlignInput {
    /// Whether a lane must never drop the input. Only audio, and frames without a subject change,
    /// may be dropped.
    pub fn is_control(&self) -> bool {
        match self {
            AlignInput::Faces(faces) => !faces.changes.is_empty(),
            AlignInput::VadBlock(_) => false,
            _ => true,
        }
    }
}

/// An output of the aligner.
#[derive(Clone, Debug)]
pub enum Aligned {
    Subject(SubjectChange),
    Speech(SpeechTurn),
    Transcript(OwnedTranscript),
    Clip(Clip),
}

/// The source to read next, for a caller that can choose, so that neither source runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextInput {
    Faces,
    VadBlock,
    /// Both sources have ended.
    Ended,
}
