//! The configuration: devices, port and budgets. The bundle's manifest declares the model's input.
//!
//! Later sources override earlier ones: defaults, `/etc/expressd/expressd.toml`, `--config FILE`,
//! `EXPRESSD__SECTION__KEY`, the command line.
//!
//! `src/config/keys.rs` declares every key once: name, type, default, range, description and reload
//! class. [`KEYS`], [`Config`] and `config/expressd.toml` are generated from these declarations.
//! The module `layers` merges the sources. The module `check` compares each value with its range
//! and collects *every* fault ([`ConfigFaults`]), not only the first.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::address;

mod check;
mod document;
mod fault;
mod grammar;
mod hash;
mod keys;
mod layers;
mod serialize;
mod setting;
mod stages;
mod table;
mod typed;

pub use document::document;
pub use fault::{ConfigFaults, Fault};
pub use keys::{
    Config, FaceConfig, InferenceConfig, KEYS, LogConfig, PublishConfig, ServeConfig, SpeechConfig,
    WindowConfig,
};
pub use setting::{Origin, Setting};
pub use table::{Key, Range, Reload};

/// The system's configuration file. It is read before `--config FILE`, if it exists.
pub const SYSTEM_FILE: &str = "/etc/expressd/expressd.toml";

/// The options of the command line that set the configuration.
#[derive(Clone, Default)]
pub struct CliOverrides {
    /// The file of `--config FILE`; `None`: the option is absent.
    pub file: Option<PathBuf>,
    /// Each `--set KEY=VALUE`, as typed.
    pub set: Vec<String>,
    /// Values of flags such as `--listen`, as (key, value): for example `("serve.listen",
    /// "127.0.0.1:9000")`. They override `set`.
    pub flags: Vec<(&'static str, String)>,
}

impl fmt::Debug for CliOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = |text: &String| address::redact_address(text);
        f.debug_struct("CliOverrides")
            .field("file", &self.file)
            .field("set", &self.set.iter().map(redacted).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Merges the defaults, [`SYSTEM_FILE`], `cli.file`, the process's environment variables and
    /// the command line, then checks every value.
    ///
    /// # Errors
    /// A file cannot be read, a key does not exist, or a value is not permitted. The error lists
    /// all faults of all sources.
    pub fn load(cli: &CliOverrides) -> Result<Config, ConfigFaults> {
        Config::load_from(
            Path::new(SYSTEM_FILE),
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
            cli,
        )
    }

    /// As [`Config::load`], but reads `system_file` and `environment` instead of [`SYSTEM_FILE`]
    /// and the process's environment variables.
    pub fn load_from(
        system_file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        cli: &CliOverrides,
    ) -> Result<Config, ConfigFaults> {
        let mut faults = Vec::new();
        let merged = layers::merge(system_file, environment, cli, &mut faults);
        let settings = check::check(merged, &mut faults);
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        Ok(Config::from_settings(settings))
    }

    /// SHA-256 of the effective values, 64 hexadecimal digits, independent of their origin. It is
    /// part of each event's provenance. Passwords are left out, because they could be guessed from
    /// the hash.
    pub fn hash(&self) -> String {
        hash::hash(self.settings())
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::load_from(Path::new(""), [], &CliOverrides::default())
            .expect("the defaults pass the check")
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
