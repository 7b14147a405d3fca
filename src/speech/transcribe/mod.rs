//! Words out of turns of speech.
//!
//! A [`Transcriber`] hears one utterance after the other and guesses words; [`TranscribeStage`] cuts the utterances out of the sound by voice
//! activity, believes the guesses or not ([`WordRule`]), and puts the words on the timeline. What people say is logged nowhere.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

mod pocketsphinx;
#[cfg(any(feature = "sherpa", test))]
mod sherpa;
mod stage;

pub use pocketsphinx::PocketSphinx;
#[cfg(feature = "sherpa")]
pub use sherpa::Sherpa;
pub use stage::{TranscribeStage, WordRule};

#[derive(Debug, thiserror::Error)]
pub enum TranscribeError {
    #[error("{what} was not found; looked at {}; run `{command}`, or set [speech] transcriber = \"none\"", .looked_at.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotSetUp {
        what: &'static str,
        looked_at: Vec<PathBuf>,
        command: &'static str,
    },
    #[error(
        "this expressd was built without {what}; build it with `{command}`, or set [speech] transcriber = \"none\""
    )]
    NotBuilt {
        what: &'static str,
        command: &'static str,
    },
    #[error("{} cannot be used ({problem}); {remedy}, or set [speech] transcriber = \"none\"", path.display())]
    Unusable {
        path: PathBuf,
        problem: String,
        remedy: &'static str,
    },
    #[error(
        "the transcriber failed to {0}; set [speech] transcriber = \"none\" to go on without words"
    )]
    Failed(&'static str),
}

/// A word that a transcriber believes to have heard. `Debug` hides it.
#[derive(Clone, PartialEq)]
pub struct Guess {
    pub text: String,
    /// Where it is, in samples since the utterance's first.
    pub samples: Range<usize>,
    /// Posterior probability, 0..1; `None` where there is none (yet).
    pub confidence: Option<f32>,
}

impl fmt::Debug for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guess({:?}, {:?})", self.samples, self.confidence)
    }
}

/// Listens to one utterance at a time: [`begin`](Transcriber::begin), then [`hear`](Transcriber::hear) with
/// [`partial`](Transcriber::partial) in between, then [`finish`](Transcriber::finish). Owns no thread.
pub trait Transcriber: Send {
    /// A new utterance begins.
    fn begin(&mut self) -> Result<(), TranscribeError>;
    /// The next samples, mono at [`SAMPLE_RATE_HZ`](crate::clip::SAMPLE_RATE_HZ), in -1..1.
    fn hear(&mut self, samples: &[f32]) -> Result<(), TranscribeError>;
    /// What it believes so far. May all change.
    fn partial(&mut self) -> Result<Vec<Guess>, TranscribeError>;
    /// The utterance is over: what it believes in the end.
    fn finish(&mut self) -> Result<Vec<Guess>, TranscribeError>;
}

/// Which transcriber: `[speech] transcriber`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TranscriberChoice {
    #[default]
    None,
    PocketSphinx,
    /// A streaming model of sherpa-onnx, by its folder.
    Sherpa(PathBuf),
}

impl TranscriberChoice {
    /// What may be written.
    pub const PERMITTED: &str =
        "\"none\", \"pocketsphinx\" or \"sherpa:<folder of a streaming model>\"";

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

    /// With the folder, if there is one, found as `locate` finds it.
    pub fn located(self, locate: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            TranscriberChoice::Sherpa(folder) => TranscriberChoice::Sherpa(locate(&folder)),
            other => other,
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for TranscriberChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TranscriberChoice::None => f.write_str("none"),
            TranscriberChoice::PocketSphinx => f.write_str("pocketsphinx"),
            TranscriberChoice::Sherpa(folder) => write!(f, "sherpa:{}", folder.display()),
        }
    }
}

/// Opens the transcriber and its model; `None` where none is wanted.
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
