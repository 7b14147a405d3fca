//! Single changes to a store's files. A kill may come after any of them; tests stop after each one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Opens a file for reading and writing; creates an empty one if there is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    step()?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Writes all of `bytes` at the file's position.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let stopped = step();
    // A kill may leave the first part of a write.
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

/// Syncs the file's content to the disk.
pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_data()
}

/// Replaces the content of `path` atomically: readers get the old or the new content, also after a
/// power cut. `temporary`: a path in the same folder.
pub(super) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temporary, bytes)?;
    step()?;
    std::fs::rename(temporary, path)?;
    sync_folder(path)
}

/// Creates the file `path` with its whole content atomically. An existing file is kept.
/// `temporary`: a path in the same folder.
pub(super) fn create(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temporary, bytes)?;
    step()?;
    match std::fs::hard_link(temporary, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // A file system without links.
        Err(_) => return std::fs::rename(temporary, path),
    }
    step()?;
    std::fs::remove_file(temporary)?;
    sync_folder(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step()?;
    let mut file = File::create(path)?;
    write(&mut file, bytes)?;
    sync(&file)
}

/// Syncs the folder of `file`, so that a rename survives a power cut. Errors are ignored: some file
/// systems refuse this and do not need it.
fn sync_folder(file: &Path) -> io::Result<()> {
    step()?;
    if let Some(folder) = file.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
fn step() -> io::Result<()> {
    stop::step()
}

/// Test hook: stops this thread's file changes after a number of steps. All later changes fail too,
/// because nothing follows a kill.
#[cfg(test)]
pub(super) mod stop {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static IS_NOW: Cell<bool> = const { Cell::new(false) };
    }

    /// Stops after `steps` changes.
    pub fn after(steps: usize) {
        LEFT.set(Some(steps));
    }

    /// Stops no change any more.
    pub fn never() {
        LEFT.set(None);
        IS_NOW.set(false);
    }

    /// Whether the last change was the first one that failed.
    pub(super) fn is_now() -> bool {
        IS_NOW.get()
    }

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
