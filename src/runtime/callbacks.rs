//! Callbacks that the stage threads call: the receiver of events, and whether a source is lost.

use std::time::Duration;

use crate::clip::{Clip, Recognition};
use crate::event::Event;

/// Interval in which a waiting stage shows progress.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Receives the events, on the thread "infer", in the order of the wire. An `expression` comes with
/// its clip and recognition.
pub type Emit = Box<dyn FnMut(Event, Option<(&Clip, &Recognition)>) + Send>;

/// Whether a source currently delivers nothing. Called by the stage that waits for the source.
pub type IsLost = Box<dyn Fn() -> bool + Send>;

/// The [`IsLost`] callbacks of both sources.
pub struct Losses {
    pub video: IsLost,
    pub audio: IsLost,
}

impl Losses {
    /// Callbacks for a recording: its sources end and are never lost.
    pub fn never_lost() -> Losses {
        Losses {
            video: Box::new(|| false),
            audio: Box::new(|| false),
        }
    }
}
