//! Transcription of sound that arrives through a lane, which may drop blocks. A dropped block is
//! not silence, so no transcribed word may span it.

use super::speech_detection::TranscriberInput;
use crate::clip::Transcript;
use crate::speech::{TranscribeError, TranscribeStage};
use crate::time::MediaTime;

/// The transcription stage. If a block of sound was dropped within a turn, the rest of the turn is
/// not transcribed.
pub struct Transcription {
    stage: TranscribeStage,
    /// Expected number of the next input; another number means that inputs were dropped.
    next_number: u64,
}

impl Transcription {
    pub fn new(stage: TranscribeStage) -> Transcription {
        Transcription {
            stage,
            next_number: 0,
        }
    }

    /// Returns the stage with the open transcriber, for the next recording.
    pub fn into_stage(self) -> TranscribeStage {
        self.stage
    }

    /// Transcribes `input`, and returns the transcripts that are complete by its end.
    ///
    /// # Errors
    /// The transcriber fails.
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

    /// Ends the sound, and returns the remaining transcripts.
    ///
    /// # Errors
    /// The transcriber fails.
    pub fn finish(&mut self) -> Result<Vec<Transcript>, TranscribeError> {
        self.stage.finish()
    }

    /// Whether the rest of the current turn is skipped, because a block of its sound was dropped.
    pub fn is_skipping(&self) -> bool {
        self.stage.is_skipping()
    }

    /// Time up to which all transcripts have been returned; `None` if nothing was transcribed yet.
    pub fn known_until(&self) -> Option<MediaTime> {
        self.stage.known_until()
    }
}
