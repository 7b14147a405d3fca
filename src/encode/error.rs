//! The error type of this module.

use std::path::PathBuf;

use super::Provider;

/// Errors of loading ONNX Runtime, and of opening and running a graph. The messages name the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error(
        "ONNX Runtime's library was not found; looked at {}; run `make setup`, or name it in \
         $EXPRESSD_ONNXRUNTIME",
        list(.looked_at)
    )]
    NoLibrary { looked_at: Vec<PathBuf> },
    #[error(
        "ONNX Runtime's library {} cannot be loaded; run `make setup`, or name another in \
         $EXPRESSD_ONNXRUNTIME",
        path.display()
    )]
    BadLibrary {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{} cannot be read; restore it from the project", path.display())]
    NoGraph {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{} is not the file that {} names (its SHA-256 is {found}, not {expected}); restore it \
         from the project",
        path.display(),
        .named_by.display()
    )]
    WrongHash {
        path: PathBuf,
        named_by: PathBuf,
        found: Box<str>,
        expected: Box<str>,
    },
    #[error("{} cannot be read: {reason}; restore it from the project", path.display())]
    BadProvenance { path: PathBuf, reason: Box<str> },
    #[error("graph {graph} cannot be opened")]
    BadGraph { graph: String, source: ort::Error },
    #[error(
        "provider {} cannot be used for graph {graph}: it needs NVIDIA's driver and the \
         libraries that `make gpu` fetches; or set inference.provider to \"auto\" or \"cpu\"",
        .provider.name()
    )]
    NoProvider {
        graph: String,
        provider: Provider,
        source: ort::Error,
    },
    #[error("graph {graph} could not be opened again; the next attempt is made after a while")]
    NotReopened { graph: String },
    #[error("graph {graph} failed while running")]
    Failed { graph: String, source: ort::Error },
    #[error("graph {graph} returned a value that is not finite")]
    NotFinite { graph: String },
    #[error("the text for graph {graph} contains no token")]
    NoTokens {
        graph: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("graph {graph} returned {found}, expected {expected}")]
    WrongOutput {
        graph: String,
        found: String,
        expected: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
