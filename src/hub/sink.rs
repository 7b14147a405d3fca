//! The trait of outputs beside the sockets: file, FIFO, terminal.

use std::io;

use super::missed::Missed;
use super::ring::Published;

/// A function that returns whether a sink may still wait for its reader. It returns false once the
/// daemon ends and the time for the last events has passed.
pub type MayWait<'a> = &'a dyn Fn() -> bool;

/// An output beside the sockets, which writes published events. The hub runs each sink on a thread,
/// which reads the ring, counts written and lost events, and reports errors.
///
/// [`Sink::write`], [`Sink::missed`] and [`Sink::finish`] are called on the sink's thread and may
/// block it: publishing goes on, and events that leave the ring meanwhile count as lost. A waiting
/// call must check `may_wait` several times a second and return once it is false. A sink that needs
/// tokio owns a runtime and enters it inside its methods.
pub trait Sink: Send {
    /// The sink's name in snake case. It names the thread, and the cause of losses in `/metrics`.
    fn name(&self) -> &'static str;

    /// The output's name in log and error messages, for example its path.
    fn target(&self) -> String {
        self.name().to_owned()
    }

    /// Whether missing events are an error of the program.
    fn loss_policy(&self) -> LossPolicy {
        LossPolicy::Counted
    }

    /// Writes an event. The event counts as written if the call succeeds, otherwise as lost.
    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError>;

    /// Writes a report of lost events: events that could not be written, or that left the ring
    /// unread. Called before the next event is written, and repeated until it succeeds. The default
    /// writes nothing.
    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let _ = (missed, may_wait);
        Ok(())
    }

    /// Called once the ring is closed and every event is written or lost. Returns how many written
    /// events are lost after all, for example because a FIFO's reader left before it read them.
    fn finish(&mut self, may_wait: MayWait) -> u64 {
        let _ = may_wait;
        0
    }
}

/// Why an event could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The event is lost; the hub goes on with the next event.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// The output needs no more events, for example because the terminal was closed. Later events
    /// are neither written nor counted as lost in `/metrics`.
    #[error("the output has ended")]
    Ended,
}

/// Whether lost events of a sink are an error of the program when it ends. They are counted in
/// `/metrics` in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// Lost events are no error.
    Counted,
    /// Lost events are an error.
    Error,
    /// Lost events are an error, unless the reader closed its end (`BrokenPipe`) and so needs no
    /// more events.
    ErrorUnlessReaderLeft,
}

impl LossPolicy {
    /// Whether the loss of `lost` events is an error of the program. `cause` is the I/O error of
    /// the newest loss; `None` if the events left the ring unread.
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
