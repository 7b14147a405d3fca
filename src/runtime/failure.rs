//! Failures of the threads that run a session's stages.

use std::sync::Mutex;

use super::panics::PanicReport;
use crate::causes::one_line;
use crate::encode::EncodeError;
use crate::speech::TranscribeError;

/// Why a stage of a session failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The stage at the other end of a lane, which is named, has ended.
    #[error("the {0} has ended")]
    Gone(&'static str),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
    #[error("{0}")]
    Panicked(PanicReport),
    /// The stage's thread was still running at the time limit of a stop.
    #[error("it did not end in time")]
    Hangs,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A stage and the cause of its failure.
#[derive(Debug, thiserror::Error)]
#[error("stage {stage}")]
pub struct StageFailure {
    /// The name of the stage's thread.
    pub stage: &'static str,
    #[source]
    pub error: StageError,
}

impl StageFailure {
    pub fn new(stage: &'static str, error: impl Into<StageError>) -> StageFailure {
        StageFailure {
            stage,
            error: error.into(),
        }
    }
}

/// Keeps the first failure of any stage. Later failures are consequences of the first and are only
/// logged.
#[derive(Debug, Default)]
pub(super) struct FirstFailure {
    first: Mutex<Option<StageFailure>>,
}

impl FirstFailure {
    /// Logs `failure`, and keeps it if it is the first one.
    pub fn report(&self, failure: StageFailure) {
        tracing::error!(
            stage = failure.stage,
            what = one_line(&failure.error),
            "stage failed"
        );
        let mut first = self.first.lock().expect("failure lock");
        first.get_or_insert(failure);
    }

    /// Whether a stage has failed.
    pub fn has_failed(&self) -> bool {
        self.first.lock().expect("failure lock").is_some()
    }

    /// Returns the first failure and forgets it; `None` if no stage has failed.
    pub fn take(&self) -> Option<StageFailure> {
        self.first.lock().expect("failure lock").take()
    }
}
