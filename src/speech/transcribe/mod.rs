//! Transcription of speech turns.
//!
//! A [`Transcriber`] recognises one utterance at a time. [`TranscribeStage`] segments the audio
//! into utterances by voice activity, filters the recognised words by [`WordRule`], and places them
//! on the timeline. The words are never logged.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::list;

mod pocketsphinx;
#[cfg(any(feature = "sherpa", test))]
mod sherpa;
mod stage;

pub use pocketsphinx::PocketSphinx;
#[cfg(feature = "sherpa")]
pub use sherpa::Sherpa;
pub use stage::{TranscribeStage, WordRule};

/// Failure to open or run a transcriber.
#[derive(Debug, thiserror::Error)]
pub enum TranscribeError {
    #[error(
        "{what} was not found; looked at {}; run `{command}`, or set [speech] transcriber = \
         \"none\"",
        list(.looked_at)
    )]
    NotSetUp {
        what: &'static str,
        looked_at: Vec<PathBuf>,
        command: &'static str,
    },
    #[error(
        "this expressd was built without {what}; build it with `{command}`, or set [speech] \
         transcriber = \"none\""
    )]
    NotBuilt {
        what: &'static str,
        command: &'static str,
    },
    #[error(
        "{} cannot be used ({problem}); {remedy}, or set [speech] transcriber = \"none\"",
        path.display()
    )]
    Unusable {
        path: PathBuf,
        problem: String,
        remedy: &'static str,
    },
    #[error(
        "the transcriber failed to {0}; set [speech] transcriber = \"none\" to run without \
         transcription"
    )]
    Failed(&'static str),
}

/// A recognised word, before it is filtered. `Debug` hides the text.
#[derive(Clone, PartialEq)]
pub struct WordHypothesis {
    pub text: String,
    /// Range of the word's samples in the utterance, at 16 kHz.
    pub samples: Range<usize>,
    /// Posterior probability of the word, 0 to 1; `None` if it is not available (yet).
    pub confidence: Option<f32>,
}

impl fmt::Debug for WordHypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WordHypothesis({:?}, {:?})",
            self.samples, self.confidence
        )
    }
}

/// A streaming speech recogniser without a thread of its own. An utterance is one call of
/// [`begin`](Transcriber::begin), calls of [`feed`](Transcriber::feed) and
/// [`partial`](Transcriber::partial), then one call of [`finish`](Transcriber::finish). Every
/// method fails if the recogniser does.
pub trait Transcriber: Send {
    /// Starts a new utterance.
    fn begin(&mut self) -> Result<(), TranscribeError>;
    /// Adds the next samples of the utterance: mono at
    /// [`SAMPLE_RATE_HZ`](crate::clip::SAMPLE_RATE_HZ), from -1 to 1.
    fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError>;
    /// Returns the words recognised so far, each of which may still change.
    fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError>;
    /// Ends the utterance and returns its words.
    fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError>;
}

/// The transcriber that `[speech] transcriber` selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TranscriberChoice {
    /// No transcription.
    #[default]
    None,
    PocketSphinx,
    /// A streaming model for sherpa-onnx, by its folder.
    Sherpa(PathBuf),
}

impl TranscriberChoice {
    /// The permitted values, for error messages.
    pub const PERMITTED: &str =
        "\"none\", \"pocketsphinx\" or \"sherpa:<folder of a streaming model>\"";

    /// Parses the configured value `text`; `None` if the value is not permitted.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "none" => Some(TranscriberChoice::None),
            None if text == "pocketsphinx" => Some(TranscriberChoice::PocketSphinx),
            Some(("sherpa", folder)) if !folder.trim().is_empty() => {
                Some(TranscriberChoice::Sherpa(folder.into()))
            }
            _ => None,
        }
    }

    /// Replaces the model folder, if the choice has one, by the result of `locate`.
    pub fn located(self, locate: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            TranscriberChoice::Sherpa(folder) => TranscriberChoice::Sherpa(locate(&folder)),
            other => other,
        }
    }
}

/// Formats the choice as the configuration writes it.
impl fmt::Display for TranscriberChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TranscriberChoice::None => f.write_str("none"),
            TranscriberChoice::PocketSphinx => f.write_str("pocketsphinx"),
            TranscriberChoice::Sherpa(folder) => write!(f, "sherpa:{}", folder.display()),
        }
    }
}

/// Opens the selected transcriber and its model; `None` for [`TranscriberChoice::None`].
///
/// # Errors
/// The transcriber or its model is missing, unusable, or not part of this build.
pub fn open_transcriber(
    choice: &TranscriberChoice,
) -> Result<Option<Box<dyn Transcriber>>, TranscribeError> {
    Ok(match choice {
        TranscriberChoice::None => None,
        TranscriberChoice::PocketSphinx => Some(Box::new(PocketSphinx::open()?)),
        TranscriberChoice::Sherpa(folder) => Some(open_sherpa(folder)?),
    })
}

#[cfg(feature = "sherpa")]
fn open_sherpa(folder: &Path) -> Result<Box<dyn Transcriber>, TranscribeError> {
    Ok(Box::new(Sherpa::open(folder)?))
}

#[cfg(not(feature = "sherpa"))]
fn open_sherpa(_: &Path) -> Result<Box<dyn Transcriber>, TranscribeError> {
    Err(TranscribeError::NotBuilt {
        what: "sherpa-onnx",
        command: "make build FEATURES=sherpa",
    })
}

#[cfg(test)]
mod tests;
