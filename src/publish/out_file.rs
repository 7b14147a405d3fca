//! A file that events are written to: never the recording they come from, and nothing in it is lost before there is something to write.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What happens to what is in the file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It goes, with the first write or flush.
    Goes,
    /// What is written comes behind it.
    Stays,
}

#[derive(Debug, thiserror::Error)]
pub enum OutFileError {
    #[error("{} is the recording itself: name another file for the events", .0.display())]
    IsInput(PathBuf),
    #[error("{} cannot be opened for writing: check the folder and its rights", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// A file, opened for writing.
#[derive(Debug)]
pub struct OutFile {
    file: File,
    /// What is in it has still to go.
    stale: bool,
    /// It was not there before, and nothing was written yet.
    made: Option<PathBuf>,
}

impl OutFile {
    /// Opens `path`, or makes it. Refuses to write into any of `inputs`, by whatever name.
    pub fn open<'a>(
        path: &Path,
        before: Before,
        inputs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<OutFile, OutFileError> {
        let place = |path: &Path| {
            std::fs::metadata(path)
                .ok()
                .filter(|found| found.is_file())
                .map(|found| (found.dev(), found.ino()))
        };
        if let Some(ours) = place(path)
            && inputs.into_iter().any(|input| place(input) == Some(ours))
        {
            return Err(OutFileError::IsInput(path.to_owned()));
        }
        let unwritable = |source| OutFileError::Unwritable {
            path: path.to_owned(),
            source,
        };
        let open = |new: bool| {
            OpenOptions::new()
                .write(true)
                .append(before == Before::Stays)
                .create(true)
                .create_new(new)
                .truncate(false)
                .open(path)
        };
        let (file, made) = match open(true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (open(false).map_err(unwritable)?, None)
            }
            new => (new.map_err(unwritable)?, Some(path.to_owned())),
        };
        // Pipes and devices have nothing that could go.
        let stale = before == Before::Goes && file.metadata().map_err(unwritable)?.is_file();
        Ok(OutFile { file, stale, made })
    }

    fn begin(&mut self) -> io::Result<()> {
        self.made = None;
        if std::mem::take(&mut self.stale) {
            self.file.set_len(0)
        } else {
            Ok(())
        }
    }
}

/// Leaves no empty file behind where nothing came of it all.
impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(path) = self.made.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.begin()?;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_goes_when_something_comes_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.jsonl");
        std::fs::write(&path, "precious").unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();
        drop(OutFile::open(&path, Before::Goes, []).unwrap());
        assert_eq!(read(), "precious");
        OutFile::open(&path, Before::Stays, [])
            .unwrap()
            .write_all(b" still")
            .unwrap();
        assert_eq!(read(), "precious still");
        let mut out = OutFile::open(&path, Before::Goes, []).unwrap();
        out.write_all(b"new").unwrap();
        out.write_all(b"er").unwrap();
        assert_eq!(read(), "newer");
        OutFile::open(&path, Before::Goes, [])
            .unwrap()
            .flush()
            .unwrap();
        assert_eq!(read(), "");
        OutFile::open(Path::new("/dev/null"), Before::Goes, [])
            .unwrap()
            .write_all(b"x")
            .unwrap();
    }

    #[test]
    fn a_recording_is_never_written_into_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let [recording, link, other] =
            ["a.mp4", "link.jsonl", "events.jsonl"].map(|name| folder.path().join(name));
        std::fs::write(&recording, "pictures").unwrap();
        std::os::unix::fs::symlink(&recording, &link).unwrap();
        for path in [&recording, &link] {
            assert!(matches!(
                OutFile::open(path, Before::Goes, [&recording]),
                Err(OutFileError::IsInput(_))
            ));
        }
        assert_eq!(std::fs::read_to_string(&recording).unwrap(), "pictures");
        drop(OutFile::open(&other, Before::Goes, [&recording]).unwrap());
        assert!(!other.exists(), "nothing came of it");
        OutFile::open(&other, Before::Stays, [&recording])
            .unwrap()
            .flush()
            .unwrap();
        assert!(other.exists(), "nothing was to be written");
        let nowhere =
            OutFile::open(&folder.path().join("no/where.jsonl"), Before::Goes, []).unwrap_err();
        assert!(
            matches!(&nowhere, OutFileError::Unwritable { source, .. } if source.kind() == io::ErrorKind::NotFound),
            "{nowhere}"
        );
    }
}
