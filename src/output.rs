//! What the programs print. A reader that stalls must not stall the program.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::time::monotonic_nanos;

mod stream;
pub use stream::{PartialWrite, Stream};

/// How long one line of the log waits for a reader that has stalled, before it is dropped.
const LOG_WAIT: Duration = Duration::from_millis(50);
/// How long a line of the program itself (an address, the final error) waits.
const LINE_WAIT: Duration = Duration::from_millis(500);

/// A reader that closes our output (`expressd devices | head`) ends us quietly, as it does any other program of a pipeline; any other
/// panic is told as usual. For the beginning of `main`.
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

/// Prints a line on standard output. If nothing reads it for half a second, the line is dropped.
/// Ends the process quietly if the reader has closed its end, as `println!` does here.
pub fn print_line(line: &str) {
    let printed = Stream::of(io::stdout())
        .map_err(PartialWrite::nothing)
        .and_then(|mut out| out.put(format!("{line}\n").as_bytes(), &at_most(LINE_WAIT)));
    if printed.is_err_and(|failure| failure.cause.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Prints lines on standard error, behind the log. If nothing reads it for half a second, they are
/// dropped.
pub fn print_error(text: &str) {
    stderr_lines().put(format!("{text}\n").as_bytes(), LINE_WAIT);
}

/// The log's writer: standard error. While nothing reads it, lines are dropped; their number is
/// written as soon as it is read again.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Write for Log {
    /// Takes `line` as one whole line; never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr_lines().put(line, LOG_WAIT);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives standard output to the caller alone: whatever else this process or a library of it prints
/// there goes to standard error from now on.
pub fn take_stdout() -> io::Result<File> {
    let taken = io::stdout().as_fd().try_clone_to_owned()?;
    io::stdout().flush()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(taken.into())
}

/// Holds for `limit` from now.
pub fn at_most(limit: Duration) -> impl Fn() -> bool {
    let until = monotonic_nanos().saturating_add(limit.as_nanos() as i64);
    move || monotonic_nanos() < until
}

fn stderr_lines() -> impl std::ops::DerefMut<Target = Lines> {
    static STDERR_LINES: LazyLock<Mutex<Lines>> = LazyLock::new(|| {
        Mutex::new(Lines {
            stream: Stream::of(io::stderr()).ok(),
            dropped: 0,
            is_partial: false,
        })
    });
    STDERR_LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines to a reader that may stall.
struct Lines {
    stream: Option<Stream>,
    /// Lines dropped since the last one that was written.
    dropped: u64,
    /// The last line was not written to its end.
    is_partial: bool,
}

impl Lines {
    fn put(&mut self, line: &[u8], wait: Duration) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        // A reader that has just let a line pass unread is not waited for again.
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
        match stream.put(&text, &at_most(wait)) {
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
    fn a_stalled_reader_loses_lines_and_finds_their_number() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut lines = Lines {
            stream: Some(Stream::of(&writer).unwrap()),
            dropped: 0,
            is_partial: false,
        };
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..1000 {
            lines.put(&line, LOG_WAIT);
        }
        assert!(lines.dropped > 500, "{} were dropped", lines.dropped);
        let mut read = vec![0; 1 << 20];
        let taken = reader.read(&mut read).unwrap();
        let dropped = lines.dropped;
        lines.put(b"the last\n", LOG_WAIT);
        drop((lines, writer));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let all = String::from_utf8_lossy(&read[..taken]).into_owned() + &rest;
        let notice = format!("\n{dropped} lines are missing here");
        assert!(all.contains(&notice), "{}", all.replace('x', ""));
        assert!(all.ends_with("\nthe last\n"));
    }
}
