//! Checks that training calls the functions that are compared with the authors' values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::testing::project;

/// Comparison files of functions that training does not use. The reference's audio encoder is not
/// part of the trainer: `train::davenet` exists for the comparison only.
const COMPARED_ALONE: [&str; 1] = ["davenet.rs"];

/// Appends the Rust files at any depth below `folder` to `found`.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file, without comments, imports and its tests module.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let is_code = |line: &&str| {
        let line = line.trim_start();
        !["//", "use ", "pub use "]
            .iter()
            .any(|s| line.starts_with(s))
    };
    let lines: Vec<&str> = text[..end].lines().filter(is_code).collect();
    lines.join("\n")
}

/// The names of the functions that `code` defines, and the names of those that it calls.
fn functions(code: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut defined, mut called) = (BTreeSet::new(), BTreeSet::new());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in code.match_indices(['(', '<']) {
        let before = &code[..at];
        let name = &before[before.trim_end_matches(is_name).len()..];
        if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        if before[..at - name.len()].ends_with("fn ") {
            defined.insert(name);
        } else if code[at..].starts_with('(') {
            called.insert(name);
        }
    }
    (defined, called)
}

#[test]
fn compared_functions_are_called_by_training() {
    let (root, mut files) = (project("src/train"), Vec::new());
    rust_files(&root, &mut files);
    let is_within = |path: &Path, names: &[&str]| {
        let within = path.strip_prefix(&root).unwrap();
        within
            .components()
            .any(|part| names.iter().any(|name| part.as_os_str() == *name))
    };
    let is_test = |path: &Path| is_within(path, &["parity", "tests", "tests.rs"]);
    let trainer: Vec<String> = files
        .iter()
        .filter(|f| !is_test(f))
        .map(|f| code(f))
        .collect();
    assert!(
        trainer.len() > 100,
        "{} files of the trainer",
        trainer.len()
    );
    let (mut defined, mut called) = (BTreeSet::new(), BTreeSet::new());
    for code in &trainer {
        let (own, others) = functions(code);
        defined.extend(own);
        called.extend(others);
    }
    let compares =
        |path: &&PathBuf| is_within(path, &["parity"]) && !is_within(path, &COMPARED_ALONE);
    let comparisons: Vec<String> = files.iter().filter(compares).map(|f| code(f)).collect();
    assert!(comparisons.len() >= 6, "{} comparisons", comparisons.len());
    let mut compared = 0;
    for comparison in &comparisons {
        let (own, others) = functions(comparison);
        for name in others
            .difference(&own)
            .filter(|name| defined.contains(*name))
        {
            assert!(
                called.contains(name),
                "{name} is compared with the authors' numbers, and training does not call it"
            );
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared} functions are compared");
}

#[test]
fn definitions_and_calls_of_functions_are_distinguished() {
    let code = "fn a<T>(x: T) { b(x).c(d::e(1)); F(g) }";
    let (defined, called) = functions(code);
    assert_eq!(defined, BTreeSet::from(["a"]));
    assert_eq!(called, BTreeSet::from(["b", "c", "e"]));
}
