//! Redirection of the messages that sound libraries write to standard error: several lines for each
//! device that does not open. They go to the log at debug level.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::stdio::dup2_stderr;

/// Logs the messages of `library`, line by line, at debug level.
fn log(library: &str, text: &[u8]) {
    for line in String::from_utf8_lossy(text).lines() {
        tracing::debug!("{library}: {line}");
    }
}

/// Captures the messages of ALSA on this thread until it is dropped.
pub(super) struct AlsaMessages(Option<Rc<RefCell<alsa::Output>>>);

impl AlsaMessages {
    /// Starts the capture on the calling thread.
    pub fn capture() -> AlsaMessages {
        AlsaMessages(alsa::Output::local_error_handler().ok())
    }
}

impl Drop for AlsaMessages {
    fn drop(&mut self) {
        let Some(output) = &self.0 else { return };
        output
            .borrow()
            .buffer_string(|text| log("sound libraries", text));
        // The buffer belongs to this thread until another one replaces it.
        let _ = alsa::Output::local_error_handler();
    }
}

/// Captures all output of this process to standard error until it is dropped, for the short time in
/// which devices are listed. JACK's library behind an ALSA device cannot be configured to write
/// elsewhere.
pub(super) struct CapturedStderr(Option<Redirection>);

/// Standard error of the process, redirected into a file.
struct Redirection {
    /// The original standard error.
    before: OwnedFd,
    messages: File,
}

impl CapturedStderr {
    /// Starts the capture.
    pub fn capture() -> CapturedStderr {
        CapturedStderr(Redirection::new().ok())
    }
}

impl Redirection {
    fn new() -> io::Result<Redirection> {
        let before = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
        let messages = memfd_create("messages", MemfdFlags::CLOEXEC)?;
        dup2_stderr(&messages)?;
        Ok(Redirection {
            before,
            messages: messages.into(),
        })
    }

    fn restore(&mut self) -> io::Result<Vec<u8>> {
        dup2_stderr(&self.before)?;
        let mut text = Vec::new();
        self.messages.rewind()?;
        self.messages.read_to_end(&mut text)?;
        Ok(text)
    }
}

impl Drop for CapturedStderr {
    fn drop(&mut self) {
        if let Some(Ok(text)) = self.0.as_mut().map(Redirection::restore) {
            log("sound libraries", &text);
        }
    }
}
