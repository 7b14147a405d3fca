//! The elementary changes to a store's files. The process may be killed between any two of them;
//! tests simulate this by a failure of one change and all later ones.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Opens a file for reading and writing; creates an empty file if there is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    step()?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Writes all of `bytes` at the file's current position.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let stopped = step();
    // A killed process may leave the first part of a write.
    #[cfg(test)]
    if stopped.is_err() && stop::is_now() {
        file.write_all(&bytes[..bytes.len() / 2])?;
    }
    stopped?;
    file.write_all(bytes)
}

/// Sets the length of the file, in bytes.
pub(super) fn set_len(file: &File, bytes: u64) -> io::Result<()> {
    step()?;
    file.set_len(bytes)
}

/// Flushes the file's content to the disk, so that it survives a power cut.
pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_data()
}

/// Replaces the content of `path` atomically: after a kill or a power cut, the file has the old or
/// the new content. `temporary`: an unused path in the same folder.
pub(super) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temporary, bytes)?;
    step()?;
    std::fs::rename(temporary, path)?;
    sync_folder(path)
}

/// Creates the file `path` with its whole content atomically; an existing file is kept.
/// `temporary`: an unused path in the same folder.
///
/// # Errors
/// A file cannot be written, or the file system has neither hard links nor a rename that keeps an
/// existing file.
pub(super) fn create(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    create_by(path, temporary, bytes, |from, to| {
        std::fs::hard_link(from, to)
    })
}

/// As [`create`], with the function that links the temporary file (first argument) to its final
/// path (second).
fn create_by(
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
    link: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    write_new(temporary, bytes)?;
    step()?;
    match link(temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // Some file systems have no hard links, FAT for example.
        Err(_) => match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => return sync_folder(path),
            Err(Errno::EXIST) => {}
            Err(error) => {
                std::fs::remove_file(temporary)?;
                return Err(match error {
                    Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => io::Error::new(
                        ErrorKind::Unsupported,
                        "the file system has neither hard links nor a rename that keeps an \
                         existing file: choose a folder on another file system",
                    ),
                    error => error.into(),
                });
            }
        },
    }
    step()?;
    std::fs::remove_file(temporary)?;
    sync_folder(path)
}

/// Writes a new file and flushes it to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step()?;
    let mut file = File::create(path)?;
    write(&mut file, bytes)?;
    sync(&file)
}

/// Flushes the folder of `file` to the disk, so that a rename survives a power cut. Errors are
/// ignored: some file systems refuse this and do not need it.
fn sync_folder(file: &Path) -> io::Result<()> {
    step()?;
    if let Some(folder) = file.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Precedes every change to a file; the test build can make it fail.
#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
fn step() -> io::Result<()> {
    stop::step()
}

/// Simulates a kill in tests: makes the file changes of this thread fail after a given number of
/// them. All later changes fail too, because a killed process makes no further change.
#[cfg(test)]
pub(super) mod stop {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// Number of changes that still succeed. `None`: all; `usize::MAX`: the stop has happened.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        /// Whether the last change was the first one to fail.
        static IS_NOW: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets the next `steps` changes of this thread succeed, and all later ones fail.
    pub fn after(steps: usize) {
        LEFT.set(Some(steps));
    }

    /// Lets all changes of this thread succeed again.
    pub fn never() {
        LEFT.set(None);
        IS_NOW.set(false);
    }

    /// Whether the last change was the first one to fail; a write may then be half done.
    pub(super) fn is_now() -> bool {
        IS_NOW.get()
    }

    /// Counts a change; fails if the simulated kill has happened.
    pub(super) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(usize::MAX) => {
                IS_NOW.set(false);
                Err(io::Error::other("stopped before"))
            }
            Some(0) => {
                LEFT.set(Some(usize::MAX));
                IS_NOW.set(true);
                Err(io::Error::other("stopped here"))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_hard_links_a_new_file_is_created_and_an_existing_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [path, temporary] = ["store.json", "store.json.tmp"].map(|f| folder.path().join(f));
        let no_links = |_: &Path, _: &Path| Err(io::Error::from(ErrorKind::PermissionDenied));
        for content in ["first", "second"] {
            create_by(&path, &temporary, content.as_bytes(), no_links).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
            assert!(!temporary.exists(), "{content}");
        }
        // With hard links the first file is kept too.
        create(&path, &temporary, b"third").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert!(!temporary.exists());
    }

    #[test]
    fn a_failed_creation_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("store.json.tmp");
        let no_links = |_: &Path, _: &Path| Err(io::Error::from(ErrorKind::PermissionDenied));
        let path = folder.path().join("missing/store.json");
        let error = create_by(&path, &temporary, b"text", no_links).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!temporary.exists());
    }
}
