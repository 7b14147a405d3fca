//! What the stages' threads call: the taker of events, and the state of the sources.

use std::time::Duration;

use crate::clip::{Clip, Recognition};
use crate::event::Event;

/// How often a waiting stage looks up to say that it lives.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Takes the events: called on the thread "infer", in the order of the wire. Clip and recognition
/// are those of an `expression`.
pub type Emit = Box<dyn FnMut(Event, Option<(&Clip, &Recognition)>) + Send>;

/// Whether a source delivers nothing just now. Asked by the stage that waits for it.
pub type IsLost = Box<dyn Fn() -> bool + Send>;

/// Of both sources.
pub struct Losses {
    pub video: IsLost,
    pub audio: IsLost,
}

impl Losses {
    /// A recording is never lost: it ends.
    pub fn never() -> Losses {
        Losses {
            video: Box::new(|| false),
            audio: Box::new(|| false),
        }
    }
}
