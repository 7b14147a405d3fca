//! Voice-activity detection on the sound. Its output goes to the aligner and, if transcription is
//! on, to the transcriber.

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
    /// No sound follows.
    Ended,
}

/// An output of [`SpeechDetection`], by its receiver.
#[derive(Debug)]
pub enum SpeechOutput {
    /// An input for the aligner.
    Align(AlignInput),
    /// An input for the transcriber.
    Transcribe(TranscriberInput),
}

/// An input of the transcriber: a block of sound, or a notice that the source is lost.
#[derive(Clone, Debug)]
pub struct TranscriberInput {
    /// Sequence number from 0, so that an input that a lane drops leaves a gap. Stamps alone would
    /// not show one or two missing blocks.
    pub number: u64,
    /// A block of sound with its voice activity; `None`: the audio source currently delivers
    /// nothing.
    pub vad: Option<VadBlock>,
}

/// The stage of voice-activity detection. It sends each block to the aligner and, if transcription
/// is on, to the transcriber.
#[derive(Debug)]
pub struct SpeechDetection {
    stage: SpeechStage,
    transcribes: bool,
    /// Number of the next [`TranscriberInput`].
    next_number: u64,
    /// Whether a loss of the source was reported and no sound has arrived since.
    lost: bool,
    out: VecDeque<SpeechOutput>,
}

impl SpeechDetection {
    /// With `transcribes`, the sound also goes to the transcriber.
    pub fn new(stage: SpeechStage, transcribes: bool) -> SpeechDetection {
        SpeechDetection {
            stage,
            transcribes,
            next_number: 0,
            lost: false,
            out: VecDeque::new(),
        }
    }

    /// Returns the stage with its open graph, for the next recording.
    pub fn into_stage(self) -> SpeechStage {
        self.stage
    }

    /// Number of audio blocks that were dropped because their stamps went back.
    pub fn refused(&self) -> u64 {
        self.stage.refused()
    }

    /// Processes the next input; then [`Self::pop`] returns the results.
    ///
    /// # Errors
    /// The network for voice-activity detection fails.
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
