//! Where tests find what is not in the project: real recordings and the reference's numbers.
//!
//! A test that needs them says in its output when it ran without, and never passes silently.

pub mod mp4;

use std::path::{Path, PathBuf};

/// `$EXPRESSD_MATERIAL/<path>`, by default `../shared/material/<path>` beside the project.
pub fn material(path: &str) -> Option<PathBuf> {
    beside("EXPRESSD_MATERIAL", "material", path)
}

/// A golden file, parsed: `$EXPRESSD_GOLDEN/<name>`, by default `../shared/golden/<name>`.
pub fn golden(name: &str) -> Option<serde_json::Value> {
    let path = beside("EXPRESSD_GOLDEN", "golden", name)?;
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// A path inside the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn beside(variable: &str, folder: &str, path: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os(variable).map_or_else(|| project("../shared").join(folder), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    // Not `eprintln!`: the test harness captures that of tests that pass, and this must be seen.
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "RAN WITHOUT {}: not there (set ${variable})",
        found.display()
    );
    None
}
