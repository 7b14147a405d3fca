//! What sound libraries write to standard error: several lines for each device that does not open.
//! It goes to the log, at debug.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::stdio::dup2_stderr;

fn log(library: &str, text: &[u8]) {
    for line in String::from_utf8_lossy(text).lines() {
        tracing::debug!("{library}: {line}");
    }
}

/// Keeps what ALSA says on this thread while it lives.
pub(super) struct AlsaMessages(Option<Rc<RefCell<alsa::Output>>>);

impl AlsaMessages {
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
        // The buffer is this thread's until another takes its place.
        let _ = alsa::Output::local_error_handler();
    }
}

/// Keeps all that this process writes to standard error while it lives: JACK's library, behind an
/// ALSA device, can be told no other place. For the moment in which devices are listed.
pub(super) struct CapturedStderr(Option<Redirection>);

struct Redirection {
    before: OwnedFd,
    messages: File,
}

impl CapturedStderr {
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
