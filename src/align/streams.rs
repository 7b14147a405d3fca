//! Settings, inputs and outputs of the aligner.

use crate::clip::{
    Clip, FramedFaces, OwnedTranscript, SpeechTurn, SubjectChange, Transcript, VadBlock,
};
use crate::time::MediaTime;

/// Settings of the aligner: length and distance of clips, and the enabled sources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlignSettings {
    /// Length of a clip, in nanoseconds.
    pub length_nanos: i64,
    /// Distance between the ends of consecutive clips, in nanoseconds.
    pub hop_nanos: i64,
    /// Slots per second. A clip has at most one face per slot.
    pub face_rate_hz: f64,
    /// Least duration of speech, in nanoseconds, in a clip that has a voice.
    pub min_speech_nanos: i64,
    /// Longest wait for the data of a source after a boundary, in nanoseconds. `None`: unlimited
    /// (offline).
    pub lateness_nanos: Option<i64>,
    /// Whether there is a video source.
    pub video: bool,
    /// Whether there is an audio source.
    pub audio: bool,
}

/// An input of the aligner.
#[derive(Clone, Debug)]
pub enum AlignInput {
    /// A video frame with its faces and its changes of subjects.
    Faces(FramedFaces),
    /// An audio block with its voice-activity windows.
    VadBlock(VadBlock),
    /// The video source has ended. Its waiting frames are processed.
    FacesEnded,
    /// The audio source has ended. Its waiting blocks are processed.
    AudioEnded,
    /// The video source is lost. Its waiting frames are processed; a later frame resumes it.
    FacesLost,
    /// The audio source is lost. Its waiting blocks are processed; a later block resumes it.
    AudioLost,
    /// A transcript, from the daemon's transcriber or from a client.
    Transcript(Transcript),
    /// Offline: the time up to which all transcripts of the transcriber have been pushed.
    TranscriptsUntil(MediaTime),
    /// The transcriber has ended.
    TranscriptsEnded,
}

impl AlignInput {
    /// Whether a full lane must keep the input. Only audio, and frames without a subject change,
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

/// The source to read next. A caller that can choose reads it, so that neither source runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextInput {
    /// The video source.
    Faces,
    /// The audio source.
    VadBlock,
    /// Both sources have ended.
    Ended,
}
