//! The transcribe stage behind a queue that may drop: a missing item is no gap in the sound, and
//! words must not be spliced over it.

use super::hearing::TranscriberInput;
use crate::clip::Transcript;
use crate::speech::{TranscribeError, TranscribeStage};
use crate::time::MediaTime;

pub struct Transcription {
    stage: TranscribeStage,
    /// The number of the next item if none was dropped.
    next_number: u64,
}

impl Transcription {
    pub fn new(stage: TranscribeStage) -> Transcription {
        Transcription {
            stage,
            next_number: 0,
        }
    }

    pub fn into_stage(self) -> TranscribeStage {
        self.stage
    }

    /// The transcripts that are known by the end of `input`.
    pub fn push(&mut self, input: TranscriberInput) -> Result<Vec<Transcript>, TranscribeError> {
        let TranscriberInput { number, heard } = input;
        let mut transcripts = Vec::new();
        if number != self.next_number || heard.is_none() {
            transcripts = self.stage.interrupt()?;
        }
        self.next_number = number + 1;
        if let Some(heard) = heard {
            transcripts.extend(self.stage.push(&heard)?);
        }
        Ok(transcripts)
    }

    /// The sound has ended: what is still to be said.
    pub fn finish(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        self.stage.finish()
    }

    /// A turn goes on that is skipped, because some of it was dropped.
    pub fn is_skipping(&self) -> bool {
        self.stage.is_skipping()
    }

    /// All transcripts up to this time have been given.
    pub fn known_until(&self) -> Option<MediaTime> {
        self.stage.known_until()
    }
}
