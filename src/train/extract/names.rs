//! Files in the store's folder that list items: items without rows, and items with changed
//! recordings.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// The items without rows as text: one line with id and reason for each.
#[derive(Debug, Default)]
pub struct SkippedItems(String);

impl SkippedItems {
    /// Adds an item and the reason why it has no rows.
    pub fn push(&mut self, id: &str, reason: &str) {
        self.0.push_str(&format!("{id}: {reason}\n"));
    }

    /// Appends the lines to the file `path`, after the lines of earlier runs. Without lines no file
    /// is created.
    pub fn append(&self, path: &Path) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(self.0.as_bytes()))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Replaces the file `path` by `names`, one per line. If `names` is empty, the file is removed.
pub fn replace(path: &Path, names: &[String]) -> anyhow::Result<()> {
    if names.is_empty() {
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    std::fs::write(path, names.join("\n") + "\n")
        .with_context(|| format!("{} cannot be written", path.display()))
}
