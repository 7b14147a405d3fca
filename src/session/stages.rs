//! Opens the stages of a session.

use super::plan::{Plan, Tempo};
use super::speech_detection::SpeechDetection;
use super::transcription::Transcription;
use super::vision::{DetectionPolicy, READ_AHEAD, Vision};
use crate::align::Aligner;
use crate::encode::{EncodeError, Runtime};
use crate::face::Detector;
use crate::speech::{
    SpeechError, SpeechStage, TranscribeError, TranscribeStage, VoiceDetector, WordRule,
    open_transcriber,
};

/// Why the stages of a session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Speech(#[from] SpeechError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
}

/// The stages of a session up to the aligner, opened but not running: frames and sound go in, clips
/// come out.
pub struct Stages {
    /// Face tracking and the face detector; `None` without video.
    pub vision: Option<(Vision, Detector)>,
    /// Voice-activity detection; `None` without audio.
    pub speech: Option<SpeechDetection>,
    /// Transcription of speech; `None` if it is off.
    pub transcription: Option<Transcription>,
    pub aligner: Aligner,
}

impl Stages {
    /// Opens the graphs and the transcriber that `plan` names.
    ///
    /// # Errors
    /// A graph or the transcriber cannot be opened.
    pub fn open(plan: &Plan, runtime: &Runtime) -> Result<Stages, OpenError> {
        let policy = match plan.tempo {
            Tempo::Live => DetectionPolicy::WhenIdle,
            Tempo::Replay => DetectionPolicy::EveryInterval {
                read_ahead: READ_AHEAD,
            },
        };
        let vision = match &plan.face {
            None => None,
            Some(face) => {
                let stage = face.stage(face.open_follower(runtime)?);
                Some((Vision::new(stage, policy), face.open_detector(runtime)?))
            }
        };
        let transcription = open_transcriber(&plan.transcriber)?
            .map(|engine| Transcription::new(TranscribeStage::new(engine, WordRule::default())));
        let speech = match plan.turns {
            None => None,
            Some(rule) => {
                let stage = SpeechStage::new(rule, VoiceDetector::load(runtime)?);
                Some(SpeechDetection::new(stage, transcription.is_some()))
            }
        };
        let mut aligner = Aligner::new(plan.align);
        if transcription.is_some() {
            aligner = aligner.awaiting_transcripts();
        }
        Ok(Stages {
            vision,
            speech,
            transcription,
            aligner,
        })
    }
}
