//! The elementary changes to a store's files. The process may be killed between any two of them;
//! tests simulate this by a failure of one change and all later ones.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

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
pub(super) fn create(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temporary, bytes)?;
    step()?;
    match std::fs::hard_link(temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // A file system without hard links: the rename may replace an existing file.
        Err(_) => return std::fs::rename(temporary, path),
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
