//! Where tests find what is not in the project: real recordings and the reference's numbers.
//!
//! A test that needs them and cannot have them has not run. The test harness would count it as
//! passed, so it is written down: `make test` names those tests at its end, and fails by them where
//! `EXPRESSD_REQUIRE_MATERIAL` is set.

pub mod mp4;

use std::path::{Path, PathBuf};

/// Names the file that tests which did not run are written to, a line each.
const NOT_RUN: &str = "EXPRESSD_TESTS_NOT_RUN";

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
    did_not_run(&format!(
        "{} is not there (set ${variable})",
        found.display()
    ));
    None
}

/// The test on this thread lacks something and ends: says so where people see it, and in the list
/// that `EXPRESSD_TESTS_NOT_RUN` names.
pub fn did_not_run(why: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("{} DID NOT RUN: {why}\n", thread.name().unwrap_or("a test"));
    // Not `eprintln!`: the test harness captures that of tests that pass.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os(NOT_RUN) {
        let mut options = std::fs::OpenOptions::new();
        let list = options.create(true).append(true).open(list);
        list.and_then(|mut list| list.write_all(line.as_bytes()))
            .expect("the list of tests that did not run");
    }
}
