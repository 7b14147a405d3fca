//! Recordings from a pipe: a FIFO, `<(…)` of a shell, `/dev/stdin`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A pipe that is held open: closing its last reader would end the writer.
#[derive(Debug)]
pub(super) struct Pipe(File);

impl Pipe {
    /// Opens the pipe at `path` and waits for its writer. `None`: `path` is not a pipe.
    pub fn open(path: &Path) -> io::Result<Option<Pipe>> {
        if !std::fs::metadata(path)?.file_type().is_fifo() {
            return Ok(None);
        }
        File::open(path).map(|file| Some(Pipe(file)))
    }

    /// A path by which every process of this user can open the pipe while this value exists.
    /// `/dev/stdin` would be a different file in each process.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_pipe_is_read_by_its_path_and_a_file_is_not_a_pipe() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Pipe::open(file.path()).unwrap().is_none());
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let pipe = Pipe::open(Path::new(&path)).unwrap().expect("a pipe");
        writer.write_all(b"sound").unwrap();
        drop((reader, writer));
        let mut text = String::new();
        File::open(pipe.path())
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "sound");
    }
}
