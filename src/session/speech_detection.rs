//! Voice-activity detection on the sound, and the routing of its output to the aligner and, with
//! transcription, to the transcriber.

use std::collections::VecDeque;

use crate::align::AlignInput;
use crate::clip::{AudioBlock, VadBlock};
use crate::encode::EncodeError;
use crate::speech::SpeechStage;

/// An input of [`SpeechDetection`].
#[derive(Debug)]
pub enum SpeechInput {
    Sound(AudioBlock),
    /// The audio source currently delivers nothing.
    Lost,
    Ended,
}

/// An output of [`SpeechDetection`].
#[derive(Debug)]
pub enum SpeechOutput {
    Align(AlignInput),
    Transcribe(TranscriberInput),
}

/// An input of the transcriber.
#[derive(Clone, Debug)]
pub struct TranscriberInput {
    /// Sequence number from 0, so that a dropped item leaves a gap. Stamps alone would not show one
    /// or two missing blocks.
    pub number: u64,
    /// The sound with voice activity; `None`: the source currently delivers nothing.
    pub vad: Option<VadBlock>,
}

/// The speech stage and the routing of its output.
#[derive(Debug)]
pub struct SpeechDetection {
    stage: SpeechStage,
    transcribes: bool,
    next_number: u64,
    lost: bool,
    out: VecDeque<SpeechOutput>,
}

impl SpeechDetection {
    /// `transcribes`: whether the sound also goes to a transcriber.
    pub fn new(stage: SpeechStage, transcribes: bool) -> SpeechDetection {
        SpeechDetection {
            stage,
            transcribes,
            next_number: 0,
            lost: false,
            out: VecDeque::new(),
        }
    }

    /// Returns the speech stage, for the next recording.
    pub fn into_stage(self) -> SpeechStage {
        self.stage
    }

    /// Number of dropped blocks whose stamps went back.
    pub fn refused(&self) -> u64 {
        self.stage.refused()
    }

    /// Processes the next input. Results are available from [`Self::pop`].
    pub fn push(&mut self, input: SpeechInput) -> Result<(), EncodeError> {
        match input {
            SpeechInput::Sound(block) => {
                self.lost = false;
                let vad = self.stage.push(block)?;
                self.pass_on(vad);
            }
            SpeechInput::Lost => {
                if !std::mem::replace(&mut self.lost, true) {
                    self.transcribe(None);
                    self.align(AlignInput::AudioLost);
                }
            }
            SpeechInput::Ended => {
                if let Some(vad) = self.stage.finish()? {
                    self.pass_on(vad);
                }
                self.align(AlignInput::AudioEnded);
            }
        }
        Ok(())
    }

    /// The next output; `None` if there is none yet.
    pub fn pop(&mut self) -> Option<SpeechOutput> {
        self.out.pop_front()
    }

    fn pass_on(&mut self, vad: VadBlock) {
        if self.transcribes {
            self.transcribe(Some(vad.clone()));
        }
        self.align(AlignInput::VadBlock(vad));
    }

    fn transcribe(&mut self, vad: Option<VadBlock>) {
        if self.transcribes {
            let number = self.next_number;
            self.next_number += 1;
            let input = TranscriberInput { number, vad };
            self.out.push_back(SpeechOutput::Transcribe(input));
        }
    }

    fn align(&mut self, input: AlignInput) {
        self.out.push_back(SpeechOutput::Align(input));
    }
}
