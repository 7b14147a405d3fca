//! The reason why an item gives no row, worded so that equal reasons are counted together.

use std::fmt;

use crate::align::AlignInput;
use crate::causes::one_line;
use crate::clip::{FramedFaces, VadBlock};
use crate::encode::EncodeError;
use crate::session::SessionError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file is broken, is not there, or is nothing that can be decoded.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// It was played; no subject has usable face or voice data.
    #[error("{0}")]
    NoSubject(Lacks),
    /// The item's interval begins after the recording's end.
    #[error("its interval lies beyond the recording's end")]
    Beyond,
    /// It has no modality that these encoders take.
    #[error("nothing to encode")]
    NothingToEncode,
    /// A fault of ours.
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

/// The unmet requirement of a recording; `None`: the encoders do not need this modality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacks {
    pub face: Option<NoFace>,
    pub voice: Option<NoVoice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFace {
    /// The recording has no picture.
    NoPictures,
    /// Frames without a face.
    Unseen,
    /// Faces of too low quality only.
    LowQuality,
    /// A good face, for too short a time.
    TooBrief,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVoice {
    /// The recording has no sound track.
    NoSound,
    /// The sound track is silent.
    Silent,
    /// Sound without speech.
    NoSpeech,
    /// Speech, for too short a time.
    TooLittle,
}

impl fmt::Display for Lacks {
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

/// Counts of a played recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Witness {
    frames: bool,
    face: bool,
    usable: bool,
    samples: bool,
    loudest: f32,
    speech: bool,
}

impl Witness {
    /// A frame or a block of sound, after its stage.
    pub fn observe(&mut self, input: &AlignInput) {
        match input {
            AlignInput::Faces(faces) => self.see(faces),
            AlignInput::VadBlock(block) => self.count_sound(block),
            _ => {}
        }
    }

    fn see(&mut self, faces: &FramedFaces) {
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

    /// The unmet requirements of a recording without rows, for encoders of faces and of voices.
    pub fn lacks(&self, faces: bool, voices: bool) -> Lacks {
        let face = match self {
            Witness { usable: true, .. } => NoFace::TooBrief,
            Witness { face: true, .. } => NoFace::LowQuality,
            Witness { frames: true, .. } => NoFace::Unseen,
            _ => NoFace::NoPictures,
        };
        let voice = match self {
            Witness { speech: true, .. } => NoVoice::TooLittle,
            Witness { samples: false, .. } => NoVoice::NoSound,
            Witness { loudest, .. } if *loudest <= SILENT => NoVoice::Silent,
            _ => NoVoice::NoSpeech,
        };
        Lacks {
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
        let said = |witness: Witness, faces, voices| {
            Refusal::NoSubject(witness.lacks(faces, voices)).to_string()
        };
        let nothing = Witness::default();
        assert_eq!(said(nothing, true, true), "no pictures and no sound");
        let silent = Witness {
            frames: true,
            samples: true,
            loudest: 0.0005,
            ..nothing
        };
        assert_eq!(said(silent, true, true), "no face and silent");
        assert_eq!(said(silent, true, false), "no face");
        assert_eq!(said(silent, false, true), "silent");
        let noisy = Witness {
            face: true,
            loudest: 0.1,
            ..silent
        };
        assert_eq!(said(noisy, true, true), "no face good enough and no speech");
        assert_eq!(
            said(
                Witness {
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
