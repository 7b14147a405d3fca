//! Files for tests: recordings outside the repository, golden values and paths of the project.
//!
//! A test that lacks its recordings does nothing. The test harness would count it as passed, so the
//! test is recorded in a file. `make test` lists the tests in this file at its end. It fails if
//! there are any and `EXPRESSD_REQUIRE_MATERIAL` is set.

#[cfg(test)]
pub mod fuzz;
pub mod mp4;
#[cfg(feature = "serve")]
pub mod server;
#[cfg(test)]
pub mod tracking;

use std::path::PathBuf;

use crate::assets;

/// Environment variable with the path of the file that lists tests that did not run, one per line.
const NOT_RUN: &str = "EXPRESSD_TESTS_NOT_RUN";

/// The path `$EXPRESSD_MATERIAL/<path>`; the variable's default is `../shared/material` beside the
/// project. If the path does not exist, the test is reported as not run and the result is `None`.
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

/// Parses the golden file `tests/golden/reference/<name>`, which holds results of the paper's
/// reference implementation.
pub fn golden(name: &str) -> serde_json::Value {
    let path = project("tests/golden/reference").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The absolute path of `path`, which is relative to the project's folder.
///
/// # Panics
/// The test runs neither under cargo nor inside the project.
pub fn project(path: &str) -> PathBuf {
    let project = assets::project().expect("tests run in the project");
    project.join(path)
}

/// Reports that the test on this thread did not run because of `why`: on standard error, and in the
/// file that `EXPRESSD_TESTS_NOT_RUN` names.
pub fn did_not_run(why: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("{} DID NOT RUN: {why}\n", thread.name().unwrap_or("a test"));
    // `eprintln!` is not used, because the test harness captures its output for tests that pass.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os(NOT_RUN) {
        let mut options = std::fs::OpenOptions::new();
        let list = options.create(true).append(true).open(list);
        list.and_then(|mut list| list.write_all(line.as_bytes()))
            .expect("the list of tests that did not run");
    }
}
