//! Writes to files, pipes, terminals and sockets. A write waits for the reader only as long as the
//! caller permits.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// Size of one write, in bytes (`PIPE_BUF`): a pipe that `poll` reports as writable takes this many
/// bytes at once.
const CHUNK: usize = 4096;
/// Interval at which a waiting write asks its caller whether to continue.
const POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
/// Interval at which the room in a full pipe is checked.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Time limit of a `poll` that does not wait.
const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// An open file, pipe, terminal or socket for writing.
#[derive(Debug)]
pub struct Stream {
    file: File,
    is_regular: bool,
    is_fifo: bool,
}

/// The error of a write that was not completed.
#[derive(Debug)]
pub struct PartialWrite {
    /// Number of bytes that were written.
    pub written: usize,
    /// The error. Its kind is `TimedOut` if the caller stopped waiting for the reader.
    pub cause: io::Error,
}

impl PartialWrite {
    /// The error of a write that failed with `cause` before its first byte.
    pub fn nothing(cause: io::Error) -> Self {
        PartialWrite { written: 0, cause }
    }
}

impl Stream {
    /// Creates a stream to `file`.
    ///
    /// # Errors
    /// The type of the file cannot be read.
    pub fn new(file: File) -> io::Result<Stream> {
        let kind = file.metadata()?.file_type();
        Ok(Stream {
            is_regular: kind.is_file(),
            is_fifo: kind.is_fifo(),
            file,
        })
    }

    /// Creates a stream to the open file of `fd`, with a descriptor of its own.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated, or the type of the file cannot be read.
    pub fn from_fd(fd: impl AsFd) -> io::Result<Stream> {
        let copy = File::from(fd.as_fd().try_clone_to_owned()?);
        if !fd.as_fd().is_terminal() {
            return Stream::new(copy);
        }
        // A terminal may take a part of a line and then block. Setting `O_NONBLOCK` on the given
        // descriptor would affect every process that shares it, so the terminal is opened again.
        let again = OpenOptions::new()
            .write(true)
            .custom_flags((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32)
            .open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        Stream::new(again.unwrap_or(copy))
    }

    /// Whether the stream is a regular file.
    pub fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// Whether the stream is a pipe or FIFO.
    pub fn is_fifo(&self) -> bool {
        self.is_fifo
    }

    /// The underlying file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// As [`Stream::write_all`], but writes to a pipe only if it has room for the whole line, so
    /// that a stalled reader gets complete lines only. A line that is longer than the largest
    /// permitted pipe is written in parts.
    pub fn write_line(
        &mut self,
        line: &[u8],
        keeps_waiting: &dyn Fn() -> bool,
    ) -> Result<(), PartialWrite> {
        while self.is_fifo && !self.has_room(line.len()) {
            if !keeps_waiting() {
                let cause = io::Error::new(io::ErrorKind::TimedOut, "nothing reads it");
                return Err(PartialWrite::nothing(cause));
            }
            std::thread::sleep(ROOM_CHECK_INTERVAL);
        }
        self.write_all(line, keeps_waiting)
    }

    /// Number of unread bytes in the pipe; `None` if the system does not report it.
    pub fn unread(&self) -> Option<usize> {
        let waiting = rustix::io::ioctl_fionread(&self.file).ok()?;
        usize::try_from(waiting).ok()
    }

    /// Whether any process has the pipe open for reading.
    pub fn has_reader(&self) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        let gone = PollFlags::ERR | PollFlags::HUP;
        poll(&mut fds, Some(&NO_WAIT)).is_ok() && !fds[0].revents().intersects(gone)
    }

    /// Whether the pipe takes `length` bytes at once. Also true if that is unknown, and if the pipe
    /// has no reader, because the write then fails.
    fn has_room(&self, length: usize) -> bool {
        let has_ended = !self.has_reader();
        let (Ok(mut size), Some(waiting)) = (fcntl_getpipe_size(&self.file), self.unread()) else {
            return true;
        };
        // A write that does not fit into the last page begins another page, so half of each page
        // may be empty.
        let needed = length.saturating_add(CHUNK);
        if size < needed {
            let Ok(larger) = fcntl_setpipe_size(&self.file, needed) else {
                return true;
            };
            size = larger;
        }
        has_ended || waiting.saturating_mul(2).saturating_add(needed) <= size
    }

    /// Writes all of `bytes`; waits for the reader while `keeps_waiting` returns true. A regular
    /// file is written in one call, if the system takes all bytes.
    ///
    /// # Errors
    /// The write fails, or `keeps_waiting` returned false (`TimedOut`).
    pub fn write_all(
        &mut self,
        bytes: &[u8],
        keeps_waiting: &dyn Fn() -> bool,
    ) -> Result<(), PartialWrite> {
        let mut written = 0;
        while written < bytes.len() {
            let cause = match self.write_some(&bytes[written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(taken) => {
                    written += taken;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if keeps_waiting() {
                        self.is_writable(&POLL_INTERVAL);
                        continue;
                    }
                    io::Error::new(io::ErrorKind::TimedOut, "nothing reads it")
                }
                Err(error) => error,
            };
            return Err(PartialWrite { written, cause });
        }
        Ok(())
    }

    /// Writes a part of `bytes` without waiting; returns the number of written bytes. The error is
    /// `WouldBlock` if nothing can be written now.
    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_regular {
            return self.file.write(bytes);
        }
        if !self.is_writable(&NO_WAIT) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.write(&bytes[..bytes.len().min(CHUNK)])
    }

    /// Waits at most `limit` until a write would not block (or would fail). False if it would still
    /// block.
    fn is_writable(&self, limit: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
        // If `poll` fails, the following write reports the error.
        poll(&mut fds, Some(limit)).map_or(true, |ready| ready > 0)
    }

    /// Removes the last `written` bytes from a regular file. Returns false if that is not possible:
    /// for another type of file, or if another process has written since.
    pub fn undo_write(&mut self, written: usize) -> bool {
        let mut cut = || -> io::Result<bool> {
            let (end, size) = (self.file.stream_position()?, self.file.metadata()?.len());
            let Some(start) = end.checked_sub(written as u64).filter(|_| end == size) else {
                return Ok(false);
            };
            self.file.set_len(start)?;
            self.file.seek(SeekFrom::Start(start))?;
            Ok(true)
        };
        self.is_regular && cut().unwrap_or(false)
    }
}
