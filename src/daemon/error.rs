//! The errors of `expressd`'s commands and their exit codes (`src/architecture.md`, "The command
//! line").

use std::path::PathBuf;

use crate::capture::CaptureError;
use crate::config::ConfigFaults;
use crate::encode::EncodeError;
use crate::hub::SinksError;
use crate::hub::out_file::OutFileError;
use crate::model::BundleError;
use crate::runtime::StageFailure;
use crate::serve::ServeError;
use crate::session::OpenError;
use crate::speech::{SpeechError, TranscribeError};

/// An error that ends a command of `expressd`.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Speech(#[from] SpeechError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("a stage of the daemon failed; start expressd again (systemd restarts the service)")]
    Stage(#[from] StageFailure),
    #[error(
        "{} could not be written completely; the events before the error are in it; free disk \
         space and run again",
        .path.display()
    )]
    Jsonl {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    OutFile(#[from] OutFileError),
    #[error(transparent)]
    Sinks(#[from] SinksError),
    #[error("{0}")]
    Usage(String),
    #[error("{failed} of {all} recordings could not be played to their end")]
    SomeRecordings { failed: usize, all: usize },
    /// `doctor` found this many faults with which the daemon cannot run; exit code 1.
    #[error("doctor: {0} failures")]
    Failures(usize),
    /// `doctor` found this many faults with which the daemon can run; exit code 5.
    #[error("doctor: no failures, {0} warnings")]
    Warnings(usize),
}

impl From<OpenError> for DaemonError {
    fn from(error: OpenError) -> DaemonError {
        match error {
            OpenError::Encode(error) => error.into(),
            OpenError::Speech(error) => error.into(),
            OpenError::Transcribe(error) => error.into(),
        }
    }
}

impl DaemonError {
    /// The exit code of the process. 1: failed while running. 2: wrong arguments or configuration.
    /// 3: no such file or local device. 4: bundle refused. 5: warnings of `doctor` only.
    pub fn exit_code(&self) -> u8 {
        match self {
            DaemonError::Config(_)
            | DaemonError::Usage(_)
            | DaemonError::OutFile(OutFileError::IsInput(_))
            | DaemonError::Sinks(SinksError::OutFile(OutFileError::IsInput(_))) => 2,
            DaemonError::Serve(ServeError::NotLoopback(_)) => 2,
            DaemonError::Capture(
                CaptureError::NoSuchFile(_)
                | CaptureError::NoSuchDevice { .. }
                | CaptureError::DeviceRefuses { .. },
            ) => 3,
            DaemonError::Capture(
                CaptureError::Unsupported { .. } | CaptureError::NoSuchTrack { .. },
            ) => 2,
            DaemonError::Transcribe(
                TranscribeError::NotSetUp { .. }
                | TranscribeError::NotBuilt { .. }
                | TranscribeError::Unusable { .. },
            ) => 3,
            DaemonError::Bundle(_) | DaemonError::Encode(EncodeError::WrongHash { .. }) => 4,
            DaemonError::Warnings(_) => 5,
            _ => 1,
        }
    }

    /// The error message and its causes, one on each line, for standard error.
    pub fn report(&self) -> String {
        let mut text = format!("expressd: {self}");
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!("\n  because: {cause}"));
            source = cause.source();
        }
        text
    }
}
