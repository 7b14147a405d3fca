//! Writes to standard output and standard error such that a stalled reader does not stall the
//! program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::time::monotonic_nanos;

mod stream;
pub use stream::{PartialWrite, Stream};

/// Longest wait for a stalled reader before a log line is dropped.
const LOG_WAIT: Duration = Duration::from_millis(50);
/// Longest wait for a stalled reader before a line of the program itself (an address, the final
/// error) is dropped.
const LINE_WAIT: Duration = Duration::from_millis(500);

/// Installs a panic hook that exits with code 0 when the reader of standard output has closed it
/// (`expressd devices | head`), as other programs of a pipeline do. Other panics are reported as
/// usual. Call it at the beginning of `main`.
pub fn exit_on_broken_pipe() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| {
            text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
        }) {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

/// Prints a line on standard output. The line is dropped if nothing reads it within half a second.
/// If the reader has closed its end, the process exits with code 0.
pub fn print_line(line: &str) {
    let printed = Stream::from_fd(io::stdout())
        .map_err(PartialWrite::nothing)
        .and_then(|mut out| out.write_all(format!("{line}\n").as_bytes(), &at_most(LINE_WAIT)));
    if printed.is_err_and(|failure| failure.cause.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Prints lines on standard error, after the lines of the log. They are dropped if nothing reads
/// them within half a second.
pub fn print_error(text: &str) {
    stderr_lines().write_line(format!("{text}\n").as_bytes(), LINE_WAIT);
}

/// The writer of the log to standard error. Lines are dropped while nothing reads standard error;
/// their number is written when it is read again.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Write for Log {
    /// Writes `line` as one complete line; never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr_lines().write_line(line, LOG_WAIT);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns standard output as a file for the caller alone. From now on, other output of this
/// process and its libraries to standard output goes to standard error.
pub fn take_stdout() -> io::Result<File> {
    let taken = io::stdout().as_fd().try_clone_to_owned()?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(taken.into())
}

/// Returns a function that returns true until `limit` has passed since this call.
pub fn at_most(limit: Duration) -> impl Fn() -> bool {
    let until = monotonic_nanos().saturating_add(limit.as_nanos() as i64);
    move || monotonic_nanos() < until
}

/// The process's only writer to standard error, locked.
fn stderr_lines() -> impl std::ops::DerefMut<Target = Lines> {
    static STDERR_LINES: LazyLock<Mutex<Lines>> = LazyLock::new(|| {
        Mutex::new(Lines {
            stream: Stream::from_fd(io::stderr()).ok(),
            dropped: 0,
            is_partial: false,
        })
    });
    STDERR_LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes lines to a reader that may stall.
struct Lines {
    /// `None` if standard error is not open.
    stream: Option<Stream>,
    /// Number of lines that were dropped since the last written one.
    dropped: u64,
    /// Whether the last line was written only partly.
    is_partial: bool,
}

impl Lines {
    /// Writes `line`, which ends with a line feed, and before it the number of dropped lines. Drops
    /// it after `wait` without a reader.
    fn write_line(&mut self, line: &[u8], wait: Duration) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        // After a dropped line, the next log line does not wait for the reader again.
        let wait = if self.dropped > 0 && wait == LOG_WAIT {
            Duration::ZERO
        } else {
            wait
        };
        let mut text = Vec::with_capacity(line.len() + 80);
        if self.is_partial {
            text.push(b'\n');
        }
        if self.dropped > 0 {
            let notice = format!(
                "{} lines are missing here: nothing read standard error\n",
                self.dropped
            );
            text.extend_from_slice(notice.as_bytes());
        }
        text.extend_from_slice(line);
        match stream.write_all(&text, &at_most(wait)) {
            Ok(()) => (self.dropped, self.is_partial) = (0, false),
            Err(failure) => {
                self.dropped += 1;
                self.is_partial |= failure.written > 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn lines_for_a_stalled_reader_are_dropped_and_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut lines = Lines {
            stream: Some(Stream::from_fd(&writer).unwrap()),
            dropped: 0,
            is_partial: false,
        };
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..1000 {
            lines.write_line(&line, LOG_WAIT);
        }
        assert!(lines.dropped > 500, "{} were dropped", lines.dropped);
        let mut read = vec![0; 1 << 20];
        let taken = reader.read(&mut read).unwrap();
        let dropped = lines.dropped;
        lines.write_line(b"the last\n", LOG_WAIT);
        drop((lines, writer));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let all = String::from_utf8_lossy(&read[..taken]).into_owned() + &rest;
        let notice = format!("\n{dropped} lines are missing here");
        assert!(all.contains(&notice), "{}", all.replace('x', ""));
        assert!(all.ends_with("\nthe last\n"));
    }
}
