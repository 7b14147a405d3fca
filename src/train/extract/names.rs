//! The items without a row by name, in a file of the store.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Lines of id and reason.
#[derive(Debug, Default)]
pub struct Names(String);

impl Names {
    pub fn push(&mut self, id: &str, reason: &str) {
        self.0.push_str(&format!("{id}: {reason}\n"));
    }

    /// Appends them to those of earlier runs in `path`.
    pub fn append(&self, path: &Path) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(self.0.as_bytes()))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}
