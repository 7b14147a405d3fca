//! The configuration: devices, port and budgets. The bundle's manifest declares the model's input.
//!
//! Later sources override earlier ones: defaults, `/etc/expressd/expressd.toml`, `--config FILE`,
//! `EXPRESSD__SECTION__KEY`, the command line.
//!
//! Every key is declared once, in `src/config/keys.rs`: name, type, default, range, description,
//! reload class. [`KEYS`], [`Config`] and `config/expressd.toml` are made out of these
//! declarations. `layers` merges the sources. `check` compares each value with its range and finds
//! *every* fault ([`ConfigFaults`]), not only the first.

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

/// The file that is read first, if it exists.
pub const SYSTEM_FILE: &str = "/etc/expressd/expressd.toml";

/// Options of the command line for the configuration.
#[derive(Clone, Default)]
pub struct CliOverrides {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// Each `--set KEY=VALUE`, as typed.
    pub set: Vec<String>,
    /// Dedicated flags as (key, value), for example `("serve.listen", "127.0.0.1:9000")`. They
    /// override `set`.
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
    /// Reads all layers and checks them as a whole.
    ///
    /// # Errors
    /// Every fault of every layer.
    pub fn load(cli: &CliOverrides) -> Result<Config, ConfigFaults> {
        Config::load_from(
            Path::new(SYSTEM_FILE),
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
            cli,
        )
    }

    /// As [`Config::load`], with another system file and other environment variables.
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

    /// SHA-256 (hex) over the effective values, independent of their origin. It is part of each
    /// event's provenance. Passwords are left out, because they could be guessed from the hash.
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
