//! Output of the programs to standard output and standard error. A stalled reader must not stall
//! the program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::time::monotonic_nanos;

mod stream;
pub use stream::{PartialWrite, Stream};

/// Time limit for a log line with a stalled reader; then it is dropped.
const LOG_WAIT: Duration = Duration::from_millis(50);
/// The same for a line of the program itself (an address, the final error).
const LINE_WAIT: Duration = Duration::from_millis(500);

/// Installs a panic hook that exits quietly when the reader of our output closes it (`expressd
/// devices | head`), as other programs of a pipeline do. Other panics are reported as usual. To be
/// called at the beginning of `main`.
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

/// Prints a line on standard output. The line is dropped after half a second without a reader.
/// Exits quietly if the reader has closed its end, as `println!` does here.
pub fn print_line(line: &str) {
    let printed = Stream::from_fd(io::stdout())
        .map_err(PartialWrite::nothing)
        .and_then(|mut out| out.write_all(format!("{line}\n").as_bytes(), &at_most(LINE_WAIT)));
    if printed.is_err_and(|failure| failure.cause.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Prints lines on standard error, after the log. They are dropped after half a second without a
/// reader.
pub fn print_error(text: &str) {
    stderr_lines().write_line(format!("{text}\n").as_bytes(), LINE_WAIT);
}

/// The writer of the log: standard error. Lines are dropped while nothing reads it; their number is
/// written as soon as it is read again.
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

/// Gives standard output exclusively to the caller. Other output of this process and its libraries
/// to standard output goes to standard error from now on.
pub fn take_stdout() -> io::Result<File> {
    let taken = io::stdout().as_fd().try_clone_to_owned()?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(taken.into())
}

/// A predicate that returns true until `limit` has passed.
pub fn at_most(limit: Duration) -> impl Fn() -> bool {
    let until = monotonic_nanos().saturating_add(limit.as_nanos() as i64);
    move || monotonic_nanos() < until
}

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

/// A writer of lines to a reader that may stall.
struct Lines {
    stream: Option<Stream>,
    /// Lines dropped since the last written one.
    dropped: u64,
    /// The last line was written only partly.
    is_partial: bool,
}

impl Lines {
    fn write_line(&mut self, line: &[u8], wait: Duration) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        // After a dropped line, the next one does not wait for the reader again.
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
    fn a_stalled_reader_loses_lines_and_gets_their_number() {
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
