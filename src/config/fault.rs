//! Faults of a configuration.

use std::fmt;
use std::path::PathBuf;

use super::Origin;

/// All faults of a configuration: one fault per line, the remedy last.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{}\ncorrect {}, then run `expressd check`; config/expressd.toml describes every key",
    lines(.0),
    if .0.len() == 1 { "it" } else { "them" }
)]
pub struct ConfigFaults(pub Vec<Fault>);

fn lines(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One fault of a configuration. Passwords in addresses are removed from its texts.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The value `found` of `key` is not one of the `permitted` ones.
    Value {
        key: String,
        found: String,
        origin: Origin,
        permitted: String,
    },
    /// `key` does not exist; `nearest` is the most similar key.
    Unknown {
        key: String,
        origin: Origin,
        nearest: &'static str,
    },
    /// The file `path` cannot be read or is not TOML; `problem` is the reason.
    File { path: PathBuf, problem: String },
    /// The option `--set` was given `typed`, a text without `=`.
    NoValue { typed: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Value {
                key,
                found,
                origin,
                permitted,
            } => write!(
                f,
                "{key} = {found} (from {origin}): permitted is {permitted}"
            ),
            Fault::Unknown {
                key,
                origin,
                nearest,
            } => write!(
                f,
                "{key} (from {origin}): there is no such key; the nearest is {nearest}"
            ),
            Fault::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Fault::NoValue { typed } => write!(f, "--set {typed}: expected KEY=VALUE"),
        }
    }
}
