//! Reasons why an item has no rows, worded so that equal reasons are counted together.

use std::fmt;

use crate::align::AlignInput;
use crate::causes::one_line;
use crate::clip::{FramedFaces, VadBlock};
use crate::encode::EncodeError;
use crate::session::SessionError;

/// The reason why an item has no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file is damaged, missing, or cannot be decoded.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// No subject of the recording has usable face or voice data.
    #[error("{0}")]
    NoSubject(MissingInputs),
    /// The item's interval begins after the end of the recording.
    #[error("its interval lies beyond the recording's end")]
    Beyond,
    /// The item has no modality that the encoders take.
    #[error("nothing to encode")]
    NothingToEncode,
    /// A stage failed.
    #[error("failed: {0}")]
    Stage(String),
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Refusal {
        Refusal::Stage(one_line(&error))
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Refusal {
        Refusal::Stage(one_line(&error))
    }
}

/// The reasons why a recording has no input for a modality; `None`: the encoders do not take this
/// modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingInputs {
    pub face: Option<NoFace>,
    pub voice: Option<NoVoice>,
}

/// Why a recording has no usable face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFace {
    /// The recording has no picture.
    NoPictures,
    /// No face was detected in the frames.
    Unseen,
    /// All faces are below the quality gate.
    LowQuality,
    /// Usable faces are visible for too short a time.
    TooBrief,
}

/// Why a recording has no usable voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVoice {
    /// The recording has no sound track.
    NoSound,
    /// The sound track is silent.
    Silent,
    /// The sound contains no speech.
    NoSpeech,
    /// The speech is too short.
    TooLittle,
}

impl fmt::Display for MissingInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let face = self.face.map(|face| match face {
            NoFace::NoPictures => "no pictures",
            NoFace::Unseen => "no face",
            NoFace::LowQuality => "no face good enough",
            NoFace::TooBrief => "a face too briefly seen",
        });
        let voice = self.voice.map(|voice| match voice {
            NoVoice::NoSound => "no sound",
            NoVoice::Silent => "silent",
            NoVoice::NoSpeech => "no speech",
            NoVoice::TooLittle => "too little speech",
        });
        match (face, voice) {
            (Some(face), Some(voice)) => write!(f, "{face} and {voice}"),
            (Some(one), None) | (None, Some(one)) => f.write_str(one),
            (None, None) => f.write_str("nothing was looked for"),
        }
    }
}

/// Loudest sample (full scale is 1) up to which a recording is silent: -60 dB.
const SILENT: f32 = 1e-3;

/// Counts of usable input in a played recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputCounts {
    frames: bool,
    face: bool,
    usable: bool,
    samples: bool,
    loudest: f32,
    speech: bool,
}

impl InputCounts {
    /// Counts a frame or a block of sound, after its stage.
    pub fn observe(&mut self, input: &AlignInput) {
        match input {
            AlignInput::Faces(faces) => self.count_faces(faces),
            AlignInput::VadBlock(block) => self.count_sound(block),
            _ => {}
        }
    }

    fn count_faces(&mut self, faces: &FramedFaces) {
        self.frames = true;
        self.face |= !faces.faces.is_empty();
        self.usable |= faces.faces.iter().any(|face| face.crop.is_some());
    }

    fn count_sound(&mut self, block: &VadBlock) {
        self.samples |= !block.block.samples.is_empty();
        self.loudest = block
            .block
            .samples
            .iter()
            .fold(self.loudest, |loudest, s| loudest.max(s.abs()));
        self.speech |= block.activity.iter().any(|activity| activity.speech);
    }

    /// Whether no frame and no sound was observed.
    pub fn is_blank(&self) -> bool {
        !self.frames && !self.samples
    }

    /// The reasons why the recording has no rows. `faces`, `voices`: whether there are encoders of
    /// these modalities.
    pub fn missing_inputs(&self, faces: bool, voices: bool) -> MissingInputs {
        let face = match self {
            InputCounts { usable: true, .. } => NoFace::TooBrief,
            InputCounts { face: true, .. } => NoFace::LowQuality,
            InputCounts { frames: true, .. } => NoFace::Unseen,
            _ => NoFace::NoPictures,
        };
        let voice = match self {
            InputCounts { speech: true, .. } => NoVoice::TooLittle,
            InputCounts { samples: false, .. } => NoVoice::NoSound,
            InputCounts { loudest, .. } if *loudest <= SILENT => NoVoice::Silent,
            _ => NoVoice::NoSpeech,
        };
        MissingInputs {
            face: faces.then_some(face),
            voice: voices.then_some(voice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmet_requirements_are_distinguished() {
        let message = |counts: InputCounts, faces, voices| {
            Refusal::NoSubject(counts.missing_inputs(faces, voices)).to_string()
        };
        let nothing = InputCounts::default();
        assert_eq!(message(nothing, true, true), "no pictures and no sound");
        let silent = InputCounts {
            frames: true,
            samples: true,
            loudest: 0.0005,
            ..nothing
        };
        assert_eq!(message(silent, true, true), "no face and silent");
        assert_eq!(message(silent, true, false), "no face");
        assert_eq!(message(silent, false, true), "silent");
        let noisy = InputCounts {
            face: true,
            loudest: 0.1,
            ..silent
        };
        assert_eq!(
            message(noisy, true, true),
            "no face good enough and no speech"
        );
        assert_eq!(
            message(
                InputCounts {
                    usable: true,
                    speech: true,
                    ..noisy
                },
                true,
                true
            ),
            "a face too briefly seen and too little speech"
        );
    }
}
