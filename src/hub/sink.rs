//! The trait of outputs that follow the ring.

use std::io;

use super::missed::Missed;
use super::ring::Published;

/// Whether a sink may still wait for its reader. Returns false once the daemon ends and the time
/// for the last events has passed.
pub type MayWait<'a> = &'a dyn Fn() -> bool;

/// An output that follows the ring on its own thread. The thread reads the ring, counts written and
/// lost events, and reports errors. The sink writes.
///
/// All methods but [`Sink::name`], [`Sink::target`] and [`Sink::loss_policy`] are called on the
/// sink's thread. They may block it: publishing goes on, and events that the ring drops meanwhile
/// count as lost. A waiting call must check `may_wait` several times a second and return once that
/// is false. A sink that needs tokio owns a runtime and enters it inside these methods.
pub trait Sink: Send {
    /// The sink's name in snake case. It names the thread, and the cause of losses in `/metrics`.
    fn name(&self) -> &'static str;

    /// The output's name in messages.
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
    /// the ring overwrote them. Called before the next event, and repeated until it succeeds. No
    /// event is written before that.
    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let _ = (missed, may_wait);
        Ok(())
    }

    /// Called when the ring is closed and every event is written or lost. Returns the number of
    /// events that counted as written and are lost.
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
    /// The output has ended, without a fault. Later events are neither written nor counted as lost
    /// in `/metrics`.
    #[error("the output has ended")]
    Ended,
}

/// Treatment of missing events when the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// They are counted in `/metrics`.
    Counted,
    /// They are an error of the program.
    Error,
    /// They are an error, unless the reader closed its end (`BrokenPipe`) and so needs no more
    /// events.
    ErrorUnlessReaderLeft,
}

impl LossPolicy {
    /// Whether `lost` events are an error of the program. `cause` is that of the newest loss.
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
