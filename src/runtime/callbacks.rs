//! Callbacks of the stages' threads: the sink of events, and the state of the sources.

use std::time::Duration;

use crate::clip::{Clip, Recognition};
use crate::event::Event;

/// Interval in which a waiting stage shows progress.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Takes the events. Called on the thread "infer", in the order of the wire. Clip and recognition
/// belong to an `expression`.
pub type Emit = Box<dyn FnMut(Event, Option<(&Clip, &Recognition)>) + Send>;

/// Whether a source currently delivers nothing. Called by the stage that waits for it.
pub type IsLost = Box<dyn Fn() -> bool + Send>;

/// [`IsLost`] of both sources.
pub struct Losses {
    pub video: IsLost,
    pub audio: IsLost,
}

impl Losses {
    /// For a recording: its sources end and are never lost.
    pub fn never_lost() -> Losses {
        Losses {
            video: Box::new(|| false),
            audio: Box::new(|| false),
        }
    }
}
