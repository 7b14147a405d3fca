//! Voice-activity detection, speech turns and transcription.
//!
//! [`VoiceDetector`] runs Silero VAD on windows of 32 ms. [`Turns`] thresholds its probabilities
//! and finds the turns. [`SpeechStage`] cuts blocks of any length into windows and places the
//! decisions on the timeline. [`TranscribeStage`] feeds the turns to a [`Transcriber`] and places
//! its words on the timeline. [`TranscriptAdmission`] checks the transcripts of clients.

use std::path::{Path, PathBuf};

use crate::assets;
use crate::encode::EncodeError;

mod admission;
mod silero;
mod stage;
mod transcribe;
mod turns;

pub use admission::{AHEAD_NANOS, AdmissionError, TranscriptAdmission, TranscriptSpan};
pub use silero::{VoiceDetector, WINDOW_SAMPLES};
pub use stage::SpeechStage;
#[cfg(feature = "sherpa")]
pub use transcribe::Sherpa;
pub use transcribe::{
    PocketSphinx, TranscribeError, TranscribeStage, Transcriber, TranscriberChoice, WordHypothesis,
    WordRule, open_transcriber,
};
pub use turns::{TurnRule, Turns};

/// Largest distance between a block's stamp and the end of the previous block that still counts as
/// continuous, in nanoseconds: device clocks are slewed, and callbacks jitter. A larger distance is
/// a gap, or a stamp that went back, which is a fault of the source.
pub const SLIP_NANOS: i64 = 20_000_000;

/// The paths as text, separated by commas.
fn list(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// Failure to load the voice-activity graph.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    #[error(
        "the voice activity graph was not found; looked at {}; run `make setup`, or name it in \
         $EXPRESSD_VAD",
        list(.looked_at)
    )]
    NoGraph { looked_at: Vec<PathBuf> },
    #[error(
        "the voice activity graph {} cannot be read; run `make setup`, or name another in \
         $EXPRESSD_VAD",
        path.display()
    )]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the voice activity graph {} cannot be used; run `make setup`, or name another in \
         $EXPRESSD_VAD",
        path.display()
    )]
    Unusable { path: PathBuf, source: EncodeError },
}

/// File name of the voice-activity graph in the wheel of Silero VAD. Of the wheel's variants it is
/// the fastest per window (0.13 ms; `silero_vad.onnx` takes 0.18 ms), with bit-identical outputs.
/// It lacks the branches for sound at 8 kHz, which the daemon never uses.
pub const VAD_FILE: &str = "silero_vad_16k_sequence.onnx";

/// Path of the voice-activity graph: `$EXPRESSD_VAD`; otherwise beside the program
/// (`../lib/expressd/`); otherwise where `make setup` puts it (`.deps/silero_vad/` in the working
/// directory or the project).
///
/// # Errors
/// [`SpeechError::NoGraph`] with the paths that were tried.
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
