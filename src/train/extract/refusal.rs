//! Reasons why an item has no rows. Their texts contain no names, so that equal reasons are counted
//! together.

use std::fmt;

use crate::align::AlignInput;
use crate::causes::one_line;
use crate::clip::{FramedFaces, VadBlock};
use crate::encode::EncodeError;
use crate::session::SessionError;

/// Why an item has no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file is damaged, missing, or cannot be decoded; the text states the cause.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// No subject of the recording has a usable face or voice.
    #[error("{0}")]
    NoSubject(MissingInputs),
    /// The item's interval begins after the end of the recording.
    #[error("its interval lies beyond the recording's end")]
    Beyond,
    /// The item has no modality for which there is an encoder.
    #[error("nothing to encode")]
    NothingToEncode,
    /// A stage or an encoder failed; the text is its error.
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

/// Why a recording has no input for face and voice. `None`: there is no encoder of this modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingInputs {
    pub face: Option<NoFace>,
    pub voice: Option<NoVoice>,
}

/// Why a recording has no usable face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFace {
    /// The recording has no video track.
    NoPictures,
    /// No face was detected in the frames.
    Unseen,
    /// Faces were detected, but all are below the quality limit.
    LowQuality,
    /// Usable faces are visible too briefly for a row.
    TooBrief,
}

/// Why a recording has no usable voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVoice {
    /// The recording has no sound track.
    NoSound,
    /// The sound track is silent.
    Silent,
    /// The sound track is not silent, but contains no speech.
    NoSpeech,
    /// The speech is too short for a row.
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

/// Largest absolute sample value (full scale is 1) of a recording that counts as silent: -60 dB.
const SILENT: f32 = 1e-3;

/// The usable input that was observed in a played recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputCounts {
    /// Whether there was a frame.
    frames: bool,
    /// Whether a face was detected.
    face: bool,
    /// Whether a face had a crop, that is, passed the quality limit.
    usable: bool,
    /// Whether there was a sample of sound.
    samples: bool,
    /// Largest absolute sample value; full scale is 1.
    loudest: f32,
    /// Whether speech was detected.
    speech: bool,
}

impl InputCounts {
    /// Observes a frame's faces or a block of sound, after detection.
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

    /// Whether no frame and no sample of sound was observed.
    pub fn is_blank(&self) -> bool {
        !self.frames && !self.samples
    }

    /// Why the observed input has no rows. `faces`, `voices`: whether there are encoders of this
    /// modality.
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
    fn each_kind_of_missing_input_has_its_own_message() {
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
