//! The files below a folder, in the same order on every machine.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::DataError;
use super::catalogue::Catalogue;

/// File name extensions of videos, in lower case.
pub const VIDEO: [&str; 11] = [
    "mp4", "m4v", "avi", "mkv", "mov", "webm", "mpg", "mpeg", "flv", "wmv", "ts",
];
/// File name extensions of sound files, in lower case.
pub const AUDIO: [&str; 8] = ["wav", "flac", "m4a", "mp3", "ogg", "opus", "aac", "oga"];
/// File name extensions of pictures, in lower case.
pub const PICTURE: [&str; 3] = ["jpg", "jpeg", "png"];

/// A file that [`walk`] found below a root folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    /// The names of the folders from the root down to the file, without the root, and last the
    /// file's name.
    pub names: Vec<String>,
    pub path: PathBuf,
}

impl FoundFile {
    /// The file's name without its extension.
    pub fn stem(&self) -> &str {
        let name = self.names.last().map_or("", String::as_str);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }

    /// The name of the folder `up` levels above the file; 1 is the file's own folder. `None` if
    /// this is the root or a folder above the root.
    pub fn folder(&self, up: usize) -> Option<&str> {
        self.names
            .len()
            .checked_sub(up + 1)
            .map(|i| self.names[i].as_str())
    }

    /// The file's path relative to the root, with slashes.
    pub fn relative(&self) -> String {
        self.names.join("/")
    }
}

/// Upper limit of the size of a Git LFS pointer file, in bytes.
const POINTER_BYTES: u64 = 1024;

/// Whether the file is a Git LFS pointer file, which stands for a file that is not downloaded yet.
fn is_pointer(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"version https://git-lfs."))
}

/// Whether the extension of `path`, in any case, is one of `extensions` (in lower case).
pub fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .is_some_and(|e| extensions.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The files at any depth below `root` with one of `extensions`, sorted by their names. Symbolic
/// links are followed; each folder is read once.
///
/// Names that are not UTF-8, empty files, Git LFS pointer files, and folders that cannot be read
/// are added to `catalogue` as faults. Names that begin with a dot are skipped: archives made on
/// macOS have `._clip.mp4` beside `clip.mp4`.
///
/// # Errors
/// `root` itself cannot be read.
pub fn walk(
    root: &Path,
    extensions: &[&str],
    catalogue: &mut Catalogue,
) -> Result<Vec<FoundFile>, DataError> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let unreadable = |source| DataError::Unreadable {
        path: root.to_path_buf(),
        source,
    };
    let about = std::fs::metadata(root).map_err(unreadable)?;
    seen.insert((about.dev(), about.ino()));
    // An unreadable root is an error; an unreadable folder below it is a fault.
    std::fs::read_dir(root).map_err(unreadable)?;
    let mut open = vec![(root.to_path_buf(), Vec::new())];
    while let Some((folder, names)) = open.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                catalogue.fault(
                    folder.display().to_string(),
                    format!("cannot be read: {error}"),
                );
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    catalogue.fault(
                        folder.display().to_string(),
                        format!("cannot be read to its end: {error}"),
                    );
                    break;
                }
            };
            let path = entry.path();
            let name = match entry.file_name().into_string() {
                Ok(name) => name,
                Err(_) => {
                    if path.is_dir() || has_extension(&path, extensions) {
                        catalogue.fault(
                            path.display().to_string(),
                            "the name is not UTF-8: left out",
                        );
                    }
                    continue;
                }
            };
            if name.starts_with('.') {
                continue;
            }
            let wanted = has_extension(&path, extensions);
            let kind = entry.file_type().ok();
            if kind.is_some_and(|k| k.is_file()) && !wanted {
                continue;
            }
            let about = match std::fs::metadata(&path) {
                Ok(about) => about,
                Err(error) => {
                    // Usually a link whose target does not exist.
                    if wanted {
                        catalogue.fault(
                            path.display().to_string(),
                            format!("cannot be read: {error}"),
                        );
                    }
                    continue;
                }
            };
            let mut names = names.clone();
            names.push(name);
            if about.is_dir() {
                if seen.insert((about.dev(), about.ino())) {
                    open.push((path, names));
                }
            } else if wanted && about.len() == 0 {
                catalogue.fault(path.display().to_string(), "the file is empty: left out");
            } else if wanted && about.len() < POINTER_BYTES && is_pointer(&path) {
                catalogue.fault(
                    path.display().to_string(),
                    "is Git LFS's stand-in for the file: run git lfs pull: left out",
                );
            } else if wanted {
                found.push(FoundFile { names, path });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The first of `candidates` (paths relative to `root`) that is a folder; an empty candidate is
/// `root` itself. `None` if no candidate is a folder.
pub fn folder(root: &Path, candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().map(|c| root.join(c)).find(|p| p.is_dir())
}

/// The first of `candidates` (paths relative to `root`) that is a file; `None` if no candidate is a
/// file.
pub fn file(root: &Path, candidates: &[&str]) -> Option<PathBuf> {
    candidates
        .iter()
        .map(|c| root.join(c))
        .find(|p| p.is_file())
}

/// Whether the file exists and is not empty.
pub fn is_nonempty_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn files_are_sorted_and_unusable_ones_are_faults() {
        use std::os::unix::ffi::OsStrExt;
        let tree = Tree::new(&["b/2.MP4", "a/1.mp4", "a/._1.mp4", "a/notes.txt", "10.mp4"]);
        tree.write("a/none.mp4", "");
        tree.write(
            "a/large.mp4",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        );
        std::fs::write(
            tree.path()
                .join(std::ffi::OsStr::from_bytes(b"caf\xe9.mp4")),
            "x",
        )
        .unwrap();
        std::os::unix::fs::symlink(tree.path(), tree.path().join("b/round")).unwrap();
        std::os::unix::fs::symlink(tree.path().join("gone"), tree.path().join("b/gone.mp4"))
            .unwrap();
        let mut catalogue = Catalogue::default();
        let found = walk(tree.path(), &VIDEO, &mut catalogue).unwrap();
        assert_eq!(
            found.iter().map(FoundFile::relative).collect::<Vec<_>>(),
            ["10.mp4", "a/1.mp4", "b/2.MP4"]
        );
        assert_eq!(
            (found[2].stem(), found[2].folder(1), found[0].folder(1)),
            ("2", Some("b"), None)
        );
        let Err(DataError::Empty { faults, .. }) = catalogue.finish("folder", &[], tree.path(), "")
        else {
            panic!()
        };
        let mut whats: Vec<_> = faults.iter().map(|f| f.what.as_str()).collect();
        whats.sort();
        let pointer = "is Git LFS's stand-in for the file: run git lfs pull: left out";
        assert!(
            whats[0].starts_with("cannot be read")
                && whats[1..]
                    == [
                        pointer,
                        "the file is empty: left out",
                        "the name is not UTF-8: left out"
                    ],
            "{whats:?}"
        );
    }
}
