//! What an output that follows the ring implements.

use std::io;

use super::cursor::Missed;
use super::ring::Published;

/// Whether a sink may still wait for its reader. False once the daemon ends and the time for the
/// last events is over.
pub type MayWait<'a> = &'a dyn Fn() -> bool;

/// An output that follows the ring on a thread of its own. The thread reads the ring, counts what
/// is written and lost, and reports errors; the sink writes.
///
/// All methods but [`Sink::name`], [`Sink::target`] and [`Sink::loss_policy`] are called on the
/// sink's thread. They may block it: the ring goes on, and what it lets go of meanwhile counts as
/// lost. Where a call waits, it has to ask `may_wait` several times a second and to return once
/// that is false. A sink that needs tokio owns a runtime and enters it inside these methods.
pub trait Sink: Send {
    /// A word in snake case: the thread's name, and the cause of its losses in `/metrics`.
    fn name(&self) -> &'static str;

    /// What is written to, as messages name it.
    fn target(&self) -> String {
        self.name().to_owned()
    }

    /// Whether missing events are an error of the program.
    fn loss_policy(&self) -> LossPolicy {
        LossPolicy::Counted
    }

    /// Writes an event. It counts as written if this succeeds, otherwise as lost.
    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError>;

    /// Reports events that are missing at this place of the output: they could not be written, or
    /// the ring overwrote them. Called before the next event and repeated until it succeeds; no
    /// event is written before.
    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let _ = (missed, may_wait);
        Ok(())
    }

    /// The ring is closed and all has been written or lost. Returns how many events that counted as
    /// written are lost all the same.
    fn finish(&mut self, may_wait: MayWait) -> u64 {
        let _ = may_wait;
        0
    }
}

/// Why an event could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// This event is lost; the next one is tried.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// The output has ended for good, and that is no fault: what follows is not written, nor
    /// counted as lost in `/metrics`.
    #[error("the output has ended")]
    Ended,
}

/// What missing events are, once the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// A number in `/metrics`.
    Counted,
    /// An error of the program.
    Error,
    /// An error, except that a reader that closed its end (`BrokenPipe`) has read what it wanted.
    ErrorUnlessReaderLeft,
}

impl LossPolicy {
    /// Whether `lost` events, the newest of them for this cause, are an error of the program.
    pub(super) fn is_error(self, lost: u64, cause: Option<&io::Error>) -> bool {
        let has_left = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
        lost > 0
            && match self {
                LossPolicy::Counted => false,
                LossPolicy::Error => true,
                LossPolicy::ErrorUnlessReaderLeft => !has_left,
            }
    }
}
