//! Reads the text files of the project, for the checks of `tidy`.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project; `path` is relative to the project's folder.
pub(super) struct Text {
    pub path: String,
    pub text: String,
}

impl Text {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
    /// Whether the file holds only tests or helpers of tests.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path == "src/testing.rs"
    }
    /// The code without comments and without the unit tests at the end of the file.
    pub fn code(&self) -> String {
        let program = self
            .text
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        program
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }
    /// Whether the file belongs to one of these modules, given as paths below `src` without ending.
    pub fn lies_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path == format!("src/{place}.rs")
                || self.path.starts_with(&format!("src/{place}/"))
        })
    }
}

/// Reads all text files of the project.
pub(super) fn texts() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = [
        "src",
        "tests",
        "config",
        "systemd",
        "models",
        ".ci",
        "Makefile",
        "README.md",
        "Cargo.toml",
    ]
    .iter()
    .map(|name| root.join(name))
    .collect();
    let mut texts = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "__pycache__") {
                waiting.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            texts.push(Text {
                path: path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                text,
            });
        }
    }
    assert!(
        texts.iter().filter(|text| text.is_rust()).count() > 20,
        "the sources were not found"
    );
    texts
}

/// Whether `code` contains `name` as a whole word.
pub(super) fn contains_word(code: &str, name: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        !code[..at].ends_with(of_word) && !code[at + name.len()..].starts_with(of_word)
    })
}

/// Panics with the list of violations `found` and the text of the rule, if there are any.
#[track_caller]
pub(super) fn assert_none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}
