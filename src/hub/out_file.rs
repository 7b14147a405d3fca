//! A file, FIFO or device for events, written line by line. A line is written completely or not at
//! all. The recording that the events come from cannot be opened. An existing file keeps its
//! content until the first write.

use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::de::IgnoredAny;

use crate::output::{Stream, take_stdout};

/// Interval of attempts to open a FIFO that has no reader.
const RETRY: Duration = Duration::from_millis(50);
/// Largest size of an existing file's last line that is examined for completeness, in bytes. An
/// event is always shorter.
const LONGEST_LINE: u64 = 1 << 20;

/// What happens to the content of an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The content is removed at the first write or flush.
    Truncate,
    /// The content is kept, and lines are appended.
    Append,
}

/// Why an output file for events cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutFileError {
    #[error("{} is the recording itself: name another file for the events", .0.display())]
    IsInput(PathBuf),
    #[error("{} cannot be opened for writing: check the folder and its rights", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// An output that holds only complete lines.
pub trait LineOutput: Send {
    /// Writes `line`, which must end in a newline. Waits for a reader while `goes_on` returns true.
    ///
    /// # Errors
    /// The line could not be written. No part of it is in the output, or the rest of it is written
    /// before the next line.
    fn write_line(&mut self, line: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()>;

    /// Number of written lines that no reader will read, because the last reader has left.
    fn unread_lines(&mut self) -> usize {
        0
    }
}

/// A file, FIFO, device or standard output, opened for writing events.
#[derive(Debug)]
pub struct OutFile {
    path: PathBuf,
    is_stdout: bool,
    /// The open file; `None` while a FIFO has no reader.
    stream: Option<Stream>,
    /// What to do before the first line is written.
    preparation: Preparation,
    /// The path, if this value created the file and has written nothing yet.
    created: Option<PathBuf>,
    /// Bytes to write before the next line: the rest of a partly written line, or a newline that
    /// the file's last line lacks.
    pending: Vec<u8>,
    /// Lines in the FIFO that its reader has not read completely.
    in_pipe: InPipe,
    /// Lines that the last reader of the FIFO did not read, for its next reader.
    unread: VecDeque<Vec<u8>>,
    /// Whether the log already says that the FIFO has no reader.
    missing_reader_is_logged: bool,
}

/// Copies of the lines in a FIFO that its reader has not read completely.
#[derive(Debug, Default)]
struct InPipe {
    /// The lines, oldest first.
    lines: VecDeque<Vec<u8>>,
    /// Total size of `lines` in bytes.
    bytes: usize,
}

impl InPipe {
    fn add(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(line.to_vec());
    }

    /// Drops lines that were read completely: all lines outside the newest `unread` bytes.
    fn keep(&mut self, unread: usize) {
        while let Some(oldest) = self.lines.front()
            && self.bytes - oldest.len() >= unread
        {
            self.bytes -= oldest.len();
            self.lines.pop_front();
        }
    }
}

/// What to do with a file before the first line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    /// Remove the content.
    Truncate,
    /// Complete or remove a last line without a newline.
    RepairLastLine,
    Nothing,
}

impl OutFile {
    /// Opens or creates `path`. A new file can be read by its owner only. The path `-` stands for
    /// standard output, which then serves events only. Never waits.
    ///
    /// # Errors
    /// The file cannot be opened, or is one of `inputs`, possibly by another name.
    pub fn open<'a>(
        path: &Path,
        mode: OpenMode,
        inputs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<OutFile, OutFileError> {
        // Beyond the limit of file size, a write must fail instead of ending the process.
        static FILE_SIZE: Once = Once::new();
        FILE_SIZE.call_once(|| {
            let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Default::default());
        });
        let unwritable = |source| OutFileError::Unwritable {
            path: path.to_owned(),
            source,
        };
        let is_stdout = is_stdout(path);
        let ours = if is_stdout {
            stdout_metadata()
        } else {
            std::fs::metadata(path)
        };
        if let Some(ours) = ours.ok().as_ref().and_then(file_id)
            && inputs
                .into_iter()
                .any(|input| std::fs::metadata(input).ok().as_ref().and_then(file_id) == Some(ours))
        {
            return Err(OutFileError::IsInput(path.to_owned()));
        }
        let (stream, created) = if is_stdout {
            let taken = take_stdout().and_then(Stream::new).map_err(unwritable)?;
            (Some(taken), None)
        } else {
            open_path(path, mode).map_err(unwritable)?
        };
        let preparation = match &stream {
            Some(stream) if stream.is_regular() && is_stdout => Preparation::RepairLastLine,
            // Pipes and devices have no content.
            Some(stream) if stream.is_regular() => match mode {
                OpenMode::Truncate => Preparation::Truncate,
                OpenMode::Append => Preparation::RepairLastLine,
            },
            _ => Preparation::Nothing,
        };
        if created.is_none() && !is_stdout && preparation != Preparation::Nothing {
            warn_of_readers(path);
        }
        Ok(OutFile {
            path: path.to_owned(),
            is_stdout,
            stream,
            preparation,
            created,
            pending: Vec::new(),
            in_pipe: InPipe::default(),
            unread: VecDeque::new(),
            missing_reader_is_logged: false,
        })
    }

    /// Whether the file is standard output.
    pub fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Waits for a FIFO's reader while `goes_on` returns true, then prepares the file for the first
    /// line.
    ///
    /// # Errors
    /// The FIFO has no reader, or the file cannot be changed.
    fn begin(&mut self, goes_on: &dyn Fn() -> bool) -> io::Result<&mut Stream> {
        self.created = None;
        while self.stream.is_none() {
            self.stream = open_fifo(&self.path)?;
            if self.stream.is_none() {
                if !std::mem::replace(&mut self.missing_reader_is_logged, true) {
                    tracing::info!("{} has no reader: waiting for one", self.path.display());
                }
                if !goes_on() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotConnected,
                        "nothing reads it",
                    ));
                }
                std::thread::sleep(RETRY);
            }
        }
        self.missing_reader_is_logged = false;
        let stream = self.stream.as_mut().expect("opened above");
        match std::mem::replace(&mut self.preparation, Preparation::Nothing) {
            Preparation::Truncate => stream.file().set_len(0)?,
            Preparation::RepairLastLine => {
                self.pending = repair_last_line(stream.file(), &self.path)?
            }
            Preparation::Nothing => {}
        }
        Ok(stream)
    }

    /// Writes pending bytes and unread lines, then `line`.
    fn write_line_once(&mut self, line: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        self.begin(goes_on)?;
        let stream = self.stream.as_mut().expect("begun");
        if let Err(failure) = stream.write_all(&self.pending, goes_on) {
            self.pending.drain(..failure.written);
            return Err(failure.cause);
        }
        self.pending.clear();
        while let Some(line) = self.unread.pop_front() {
            if let Err(error) = self.write_whole(&line, goes_on) {
                self.unread.push_front(line);
                return Err(error);
            }
        }
        self.write_whole(line, goes_on)
    }

    /// Writes `line`. If only a part can be written, removes the part from the file, or keeps the
    /// rest in `pending`.
    fn write_whole(&mut self, line: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let stream = self.stream.as_mut().expect("begun");
        if let Err(failure) = stream.write_line(line, goes_on) {
            if failure.written > 0 && !stream.undo_write(failure.written) {
                self.pending = line[failure.written..].to_vec();
            }
            return Err(failure.cause);
        }
        if stream.is_fifo() && !self.is_stdout {
            self.in_pipe.add(line);
            self.in_pipe.keep(stream.unread().unwrap_or(0));
        }
        Ok(())
    }

    /// Closes a FIFO whose reader has left, and keeps the unread lines for the next reader. The
    /// first of them is the line that the last reader read only in part, if there is one.
    fn keep_unread(&mut self) {
        let unread = self.stream.take().and_then(|stream| stream.unread());
        self.in_pipe.keep(unread.unwrap_or(0));
        let in_pipe = std::mem::take(&mut self.in_pipe).lines;
        in_pipe
            .into_iter()
            .rev()
            .for_each(|line| self.unread.push_front(line));
        self.pending.clear();
    }
}

impl LineOutput for OutFile {
    fn write_line(&mut self, line: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        loop {
            let result = self.write_line_once(line, goes_on);
            let is_fifo = self.stream.as_ref().is_some_and(Stream::is_fifo);
            let has_left = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
            if self.is_stdout || !is_fifo || !result.as_ref().is_err_and(has_left) {
                return result;
            }
            self.keep_unread();
        }
    }

    fn unread_lines(&mut self) -> usize {
        let has_reader = |stream: &Stream| !stream.is_fifo() || stream.has_reader();
        if !self.is_stdout && !self.stream.as_ref().is_some_and(has_reader) {
            self.keep_unread();
        }
        self.unread.len()
    }
}

/// Each call of `write` writes one complete line, and waits for a reader without a time limit.
impl Write for OutFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line, &|| true)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.begin(&|| true)?.file().flush()
    }
}

/// Removes the file if this value created it and has written nothing.
impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(path) = self.created.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn stdout_metadata() -> io::Result<Metadata> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()
}

/// Device and inode of a regular file; `None` for any other kind of file.
fn file_id(found: &Metadata) -> Option<(u64, u64)> {
    found.is_file().then(|| (found.dev(), found.ino()))
}

/// Whether `path` names standard output, or the file or pipe that it was redirected to.
fn is_stdout(path: &Path) -> bool {
    let names = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    let lies = |found: Metadata| {
        let kind = found.file_type();
        (kind.is_file() || kind.is_fifo()).then(|| (found.dev(), found.ino()))
    };
    names.iter().any(|name| path == Path::new(name))
        || std::fs::metadata(path)
            .ok()
            .and_then(lies)
            .is_some_and(|ours| stdout_metadata().ok().and_then(lies) == Some(ours))
}

/// Opens or creates the file. Returns the open file (`None` for a FIFO without a reader), and the
/// path if the file was created.
fn open_path(path: &Path, mode: OpenMode) -> io::Result<(Option<Stream>, Option<PathBuf>)> {
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Ok((open_fifo(path)?, None));
    }
    let open = |new: bool| {
        OpenOptions::new()
            .write(true)
            .append(mode == OpenMode::Append)
            .create(true)
            .create_new(new)
            .truncate(false)
            // Lines may hold spoken text.
            .mode(0o600)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
            .open(path)
    };
    let (file, created) = match open(true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (open(false)?, None),
        new => (new?, Some(path.to_owned())),
    };
    Ok((Some(Stream::new(file)?), created))
}

/// Opens a FIFO for writing; `None` if no process has it open for reading.
fn open_fifo(path: &Path) -> io::Result<Option<Stream>> {
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path);
    match opened {
        Ok(file) => Stream::new(file).map(Some),
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Logs a warning if other users may read the file.
fn warn_of_readers(path: &Path) {
    let Ok(mode) = std::fs::metadata(path).map(|found| found.mode()) else {
        return;
    };
    if mode & 0o044 != 0 {
        tracing::warn!(
            "{} can be read by other users (mode {:o}) and may contain transcribed speech: run \
             chmod 600 on it",
            path.display(),
            mode & 0o777
        );
    }
}

/// Treats a last line without a newline. An incomplete line of JSON, as after a full disk or a
/// crash, is removed. Otherwise returns the newline to write before the next line.
fn repair_last_line(file: &File, path: &Path) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    let appends = rustix::fs::fcntl_getfl(file)?.contains(OFlags::APPEND);
    let mut offset = file;
    if size == 0 || !appends && offset.stream_position()? != size {
        return Ok(Vec::new());
    }
    // Opened again, because `file` is write-only. If reading is not permitted, a newline is
    // written, which at worst makes a blank line.
    let Ok(readable) = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
        return Ok(b"\n".to_vec());
    };
    let start = size.saturating_sub(LONGEST_LINE);
    let mut end = vec![0; (size - start) as usize];
    readable.read_exact_at(&mut end, start)?;
    let last = match end.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => &end[newline + 1..],
        None if start > 0 => return Ok(b"\n".to_vec()),
        None => &end[..],
    };
    if last.is_empty() {
        return Ok(Vec::new());
    }
    // A power failure may leave zeros instead of the line.
    let is_half_line =
        last[0] == 0 || last[0] == b'{' && serde_json::from_slice::<IgnoredAny>(last).is_err();
    if !is_half_line {
        return Ok(b"\n".to_vec());
    }
    tracing::warn!(
        "{} ended in an incomplete line: its {} bytes are removed",
        path.display(),
        last.len()
    );
    file.set_len(size - last.len() as u64)?;
    if !appends {
        offset.seek(io::SeekFrom::End(0))?;
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests;
