//! Writes and checks `SHA256SUMS`: the hash of every file of a bundle, in the format of
//! `sha256sum`. The error of a check names the changed file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::BundleError;
use crate::manifest::hex_sha256;

/// Name of the list of hashes in a bundle.
pub const SUMS: &str = "SHA256SUMS";

/// Writes SHA256SUMS with the hashes of all other files in `directory`. It is the last step of an
/// export.
///
/// # Errors
/// A file cannot be read, or the list cannot be written.
pub fn seal(directory: &Path) -> io::Result<()> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && name != SUMS {
            sums.insert(name, hex_sha256(&fs::read(entry.path())?));
        }
    }
    let text: String = sums
        .iter()
        .map(|(name, sum)| format!("{sum}  {name}\n"))
        .collect();
    fs::write(directory.join(SUMS), text)
}

/// Names of the sentence encoder's files, which `expressd prepare` generates and which are not in
/// version control.
pub const GENERATED: [&str; 2] = ["sentence.onnx", "tokenizer.json"];

/// Checks every file that SHA256SUMS lists against its hash. The files in `required` must be
/// listed.
pub(crate) fn check(directory: &Path, required: &[&str]) -> Result<(), BundleError> {
    let missing = |file: &str, source: io::Error| {
        let (directory, file) = (directory.to_owned(), file.to_owned());
        // A bundle from version control for which `expressd prepare` has not run.
        if GENERATED.contains(&file.as_str()) && source.kind() == io::ErrorKind::NotFound {
            return BundleError::Unprepared { directory, file };
        }
        BundleError::Missing {
            directory,
            file,
            source,
        }
    };
    let text = fs::read_to_string(directory.join(SUMS)).map_err(|source| missing(SUMS, source))?;
    let damaged = |what: &str| BundleError::Unsupported {
        directory: directory.to_owned(),
        what: format!("{SUMS} {what}"),
    };
    let mut named = Vec::new();
    for line in text.lines() {
        let (expected, file) = line.split_once("  ").ok_or_else(|| damaged("is damaged"))?;
        let found =
            hex_sha256(&fs::read(directory.join(file)).map_err(|source| missing(file, source))?);
        if found != expected {
            return Err(BundleError::WrongHash {
                directory: directory.to_owned(),
                file: file.to_owned(),
                found,
                expected: expected.to_owned(),
            });
        }
        named.push(file);
    }
    match required.iter().find(|file| !named.contains(file)) {
        Some(file) => Err(damaged(&format!("does not name {file}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_folder_passes_and_a_changed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"one").unwrap();
        fs::write(folder.path().join("b"), b"two").unwrap();
        seal(folder.path()).unwrap();
        check(folder.path(), &["a", "b"]).unwrap();
        assert!(matches!(
            check(folder.path(), &["c"]),
            Err(BundleError::Unsupported { .. })
        ));
        fs::write(folder.path().join("b"), b"twO").unwrap();
        assert!(matches!(
            check(folder.path(), &["a"]),
            Err(BundleError::WrongHash { file, .. }) if file == "b"
        ));
        // A changed byte in SHA256SUMS itself gives a missing file or a wrong hash.
        fs::write(
            folder.path().join(SUMS),
            fs::read_to_string(folder.path().join(SUMS))
                .unwrap()
                .replacen("  a", "  c", 1),
        )
        .unwrap();
        assert!(check(folder.path(), &["a"]).is_err());
    }
}
