//! The effective value of a key, with its origin.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::address;

/// The effective value of one key, and its origin. `Display`, `Debug` and `Serialize` show
/// passwords in addresses as `***`.
#[derive(Clone, PartialEq)]
pub struct Setting {
    /// Name of the key, one of [`KEYS`](super::KEYS).
    pub key: &'static str,
    /// The value, including any password.
    pub value: toml::Value,
    /// The source that set the value.
    pub origin: Origin,
}

impl Setting {
    /// The value with passwords in addresses replaced by `***`.
    pub fn redacted(&self) -> toml::Value {
        redacted(&self.value)
    }

    /// One line of TOML, `key = value  # origin`, with passwords replaced by `***`.
    pub fn to_toml(&self) -> String {
        format!("{} = {}  # {}", self.key, self.redacted(), self.origin)
    }
}

/// Replaces the passwords of addresses in a value by `***`.
fn redacted(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => address::redact_address(text).into(),
        toml::Value::Array(items) => items.iter().map(redacted).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  ({})", self.key, self.redacted(), self.origin)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({self})")
    }
}

/// The source that set a value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// Line number, from 1; `None` if it is unknown.
        line: Option<usize>,
    },
    Environment,
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Origin::Environment => f.write_str("the environment"),
            Origin::CommandLine => f.write_str("the command line"),
        }
    }
}
