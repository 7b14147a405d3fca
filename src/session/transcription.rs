//! Transcription behind a lane that may drop items. A dropped item is not silence: no word may span
//! it.

use super::speech_detection::TranscriberInput;
use crate::clip::Transcript;
use crate::speech::{TranscribeError, TranscribeStage};
use crate::time::MediaTime;

/// The transcribe stage, which skips turns with dropped items.
pub struct Transcription {
    stage: TranscribeStage,
    /// Expected number of the next item; another number means that items were dropped.
    next_number: u64,
}

impl Transcription {
    pub fn new(stage: TranscribeStage) -> Transcription {
        Transcription {
            stage,
            next_number: 0,
        }
    }

    /// Returns the transcribe stage, for the next recording.
    pub fn into_stage(self) -> TranscribeStage {
        self.stage
    }

    /// The transcripts that are known by the end of `input`.
    pub fn push(&mut self, input: TranscriberInput) -> Result<Vec<Transcript>, TranscribeError> {
        let TranscriberInput { number, vad } = input;
        let mut transcripts = Vec::new();
        if number != self.next_number || vad.is_none() {
            transcripts = self.stage.interrupt()?;
        }
        self.next_number = number + 1;
        if let Some(vad) = vad {
            transcripts.extend(self.stage.push(&vad)?);
        }
        Ok(transcripts)
    }

    /// The remaining transcripts, after the end of the sound.
    pub fn finish(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        self.stage.finish()
    }

    /// Whether the current turn is skipped, because an item of it was dropped.
    pub fn is_skipping(&self) -> bool {
        self.stage.is_skipping()
    }

    /// Time up to which all transcripts have been returned.
    pub fn known_until(&self) -> Option<MediaTime> {
        self.stage.known_until()
    }
}
