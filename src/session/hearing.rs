//! Sound in; sound with its voice activity out, to the aligner and, where words are wanted, to the
//! transcriber.

use std::collections::VecDeque;

use crate::align::AlignInput;
use crate::clip::{AudioBlock, VadBlock};
use crate::encode::EncodeError;
use crate::speech::SpeechStage;

#[derive(Debug)]
pub enum HearingInput {
    Sound(AudioBlock),
    /// The source delivers nothing for now.
    Lost,
    Ended,
}

#[derive(Debug)]
pub enum HearingOutput {
    Align(AlignInput),
    Transcribe(TranscriberInput),
}

/// What goes to the transcriber.
#[derive(Clone, Debug)]
pub struct TranscriberInput {
    /// Counts from 0: an item that was dropped on the way leaves a gap. A block or two would not be
    /// missed by their stamps.
    pub number: u64,
    /// `None`: the source delivers nothing for now.
    pub heard: Option<VadBlock>,
}

/// The speech stage and where its output goes.
#[derive(Debug)]
pub struct Hearing {
    stage: SpeechStage,
    transcribes: bool,
    next_number: u64,
    lost: bool,
    out: VecDeque<HearingOutput>,
}

impl Hearing {
    /// `transcribes`: sound goes to a transcriber as well.
    pub fn new(stage: SpeechStage, transcribes: bool) -> Hearing {
        Hearing {
            stage,
            transcribes,
            next_number: 0,
            lost: false,
            out: VecDeque::new(),
        }
    }

    pub fn into_stage(self) -> SpeechStage {
        self.stage
    }

    /// Blocks whose stamps went back.
    pub fn refused(&self) -> u64 {
        self.stage.refused()
    }

    pub fn push(&mut self, input: HearingInput) -> Result<(), EncodeError> {
        match input {
            HearingInput::Sound(block) => {
                self.lost = false;
                let heard = self.stage.push(block)?;
                self.pass_on(heard);
            }
            HearingInput::Lost => {
                if !std::mem::replace(&mut self.lost, true) {
                    self.transcribe(None);
                    self.align(AlignInput::AudioLost);
                }
            }
            HearingInput::Ended => {
                if let Some(heard) = self.stage.finish()? {
                    self.pass_on(heard);
                }
                self.align(AlignInput::AudioEnded);
            }
        }
        Ok(())
    }

    pub fn pop(&mut self) -> Option<HearingOutput> {
        self.out.pop_front()
    }

    fn pass_on(&mut self, heard: VadBlock) {
        if self.transcribes {
            self.transcribe(Some(heard.clone()));
        }
        self.align(AlignInput::VadBlock(heard));
    }

    fn transcribe(&mut self, heard: Option<VadBlock>) {
        if self.transcribes {
            let number = self.next_number;
            self.next_number += 1;
            let input = TranscriberInput { number, heard };
            self.out.push_back(HearingOutput::Transcribe(input));
        }
    }

    fn align(&mut self, input: AlignInput) {
        self.out.push_back(HearingOutput::Align(input));
    }
}
