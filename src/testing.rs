//! Recordings for tests, which are not in the repository, and the reference's numbers.
//!
//! A test without its recordings has not run. The test harness would count it as passed, so it is
//! recorded in a file. `make test` lists these tests at its end, and fails if there are any and
//! `EXPRESSD_REQUIRE_MATERIAL` is set.

#[cfg(test)]
pub mod fuzz;
pub mod mp4;
#[cfg(feature = "serve")]
pub mod server;
#[cfg(test)]
pub mod tracking;

use std::path::PathBuf;

use crate::assets;

/// The environment variable with the path of the list of tests that did not run, one per line.
const NOT_RUN: &str = "EXPRESSD_TESTS_NOT_RUN";

/// The path `$EXPRESSD_MATERIAL/<path>`, by default `../shared/material/<path>` beside the project;
/// `None` if it does not exist.
pub fn material(path: &str) -> Option<PathBuf> {
    let variable = "EXPRESSD_MATERIAL";
    let root =
        std::env::var_os(variable).map_or_else(|| project("../shared/material"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    did_not_run(&format!(
        "{} does not exist (set ${variable})",
        found.display()
    ));
    None
}

/// The parsed file `tests/golden/reference/<name>` of the reference's numbers.
pub fn golden(name: &str) -> serde_json::Value {
    let path = project("tests/golden/reference").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A path inside the project.
///
/// # Panics
/// The test runs neither under cargo nor inside the project.
pub fn project(path: &str) -> PathBuf {
    let project = assets::project().expect("tests run in the project");
    project.join(path)
}

/// Reports that the test on this thread did not run: on standard error, and in the file of
/// `EXPRESSD_TESTS_NOT_RUN`. `why`: the reason.
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
