//! Failures of stages.

use std::sync::Mutex;

use super::panics::PanicReport;
use crate::causes::one_line;
use crate::encode::EncodeError;
use crate::speech::TranscribeError;

/// Why a stage failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The stage at the other end of a lane has ended.
    #[error("the {0} has ended")]
    Gone(&'static str),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
    #[error("{0}")]
    Panicked(PanicReport),
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

/// The first failure of any stage. Later ones are its consequences and are not kept.
#[derive(Debug, Default)]
pub(super) struct FirstFailure {
    first: Mutex<Option<StageFailure>>,
}

impl FirstFailure {
    /// Keeps the failure if it is the first one.
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

    /// The first failure, which is removed.
    pub fn take(&self) -> Option<StageFailure> {
        self.first.lock().expect("failure lock").take()
    }
}
