//! Voice activity: what of the sound is speech, and where turns of speech begin and end.
//!
//! [`VoiceDetector`] runs Silero VAD on 32 ms of sound at a time; [`Turns`] makes verdicts of its probabilities; [`SpeechStage`] cuts blocks of
//! any length into its windows and puts the verdicts on the timeline. [`TranscribeStage`] has a [`Transcriber`] listen to the turns and puts its
//! words on the timeline; a [`TranscriptAdmission`] does that for words from outside.

use std::path::{Path, PathBuf};

use crate::assets;
use crate::encode::EncodeError;

mod admission;
mod silero;
mod stage;
mod transcribe;
mod turns;

pub use admission::{AHEAD_NANOS, Refused, TranscriptAdmission, TranscriptSpan};
pub use silero::{VoiceDetector, WINDOW_SAMPLES};
pub use stage::SpeechStage;
#[cfg(feature = "sherpa")]
pub use transcribe::Sherpa;
pub use transcribe::{
    Guess, PocketSphinx, TranscribeError, TranscribeStage, Transcriber, TranscriberChoice,
    WordRule, open_transcriber,
};
pub use turns::{TurnRule, Turns};

/// How far a block's stamp may be off the end of the block before it and still continue it: device clocks are slewed, callbacks jitter.
/// Beyond it sound is missing (or the stamp went back, which no source may do).
pub const SLIP_NANOS: i64 = 20_000_000;

#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    #[error("the voice activity graph was not found; looked at {}; run `make setup`, or name it in $EXPRESSD_VAD", .looked_at.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoGraph { looked_at: Vec<PathBuf> },
    #[error("the voice activity graph {} cannot be read; run `make setup`, or name another in $EXPRESSD_VAD", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the voice activity graph {} cannot be used; run `make setup`, or name another in $EXPRESSD_VAD", path.display())]
    Unusable { path: PathBuf, source: EncodeError },
}

/// The file of the wheel that is used. Of its variants this one is the fastest a window (0.13 ms against 0.18 ms of `silero_vad.onnx`), answers
/// the same to the last bit, and has no branches for the 8 kHz that we never have.
pub const VAD_FILE: &str = "silero_vad_16k_sequence.onnx";

/// Where the voice activity graph is: `$EXPRESSD_VAD`, else beside the program (`../lib/expressd/`), else where `make setup` puts it
/// (`.deps/silero_vad/` in the working directory or the project's).
pub fn vad_path() -> Result<PathBuf, SpeechError> {
    let candidates: Vec<PathBuf> = match std::env::var_os("EXPRESSD_VAD") {
        Some(path) => vec![path.into()],
        None => assets::candidates(
            &Path::new("lib/expressd").join(VAD_FILE),
            &[Path::new(".deps/silero_vad").join(VAD_FILE)],
        ),
    };
    match candidates.iter().find(|p| p.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(SpeechError::NoGraph {
            looked_at: candidates,
        }),
    }
}

#[cfg(test)]
mod tests;
