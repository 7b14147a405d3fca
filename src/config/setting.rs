//! Effective values and their origins.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::address;

/// One effective value and its origin. Passwords in addresses are shown as `***` by `Display`,
/// `Debug` and `Serialize`.
#[derive(Clone, PartialEq)]
pub struct Setting {
    /// A name of [`KEYS`](super::KEYS).
    pub key: &'static str,
    /// The value itself, with the passwords in it.
    pub value: toml::Value,
    pub origin: Origin,
}

impl Setting {
    /// The value, redacted.
    pub fn redacted(&self) -> toml::Value {
        redacted(&self.value)
    }

    /// A line of TOML, `key = value  # origin`, with the value redacted.
    pub fn to_toml(&self) -> String {
        format!("{} = {}  # {}", self.key, self.redacted(), self.origin)
    }
}

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

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// The line number, from 1; `None`: unknown.
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
