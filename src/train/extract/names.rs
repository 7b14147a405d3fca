//! Files of the store that list items: those without rows, and those with changed recordings.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Lines of item id and reason.
#[derive(Debug, Default)]
pub struct SkippedItems(String);

impl SkippedItems {
    /// Adds an item and the reason why it has no rows.
    pub fn push(&mut self, id: &str, reason: &str) {
        self.0.push_str(&format!("{id}: {reason}\n"));
    }

    /// Appends the lines to the file `path`, after those of earlier runs.
    pub fn append(&self, path: &Path) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(self.0.as_bytes()))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Writes `names` to `path`, one per line. Without names, the file of an earlier run is removed.
pub fn replace(path: &Path, names: &[String]) -> anyhow::Result<()> {
    if names.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    std::fs::write(path, names.join("\n") + "\n")
        .with_context(|| format!("{} cannot be written", path.display()))
}
