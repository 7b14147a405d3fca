//! Callbacks that the stages' threads call: to pass on events, and to ask whether a source is lost.

use std::time::Duration;

use crate::clip::{Clip, Recognition};
use crate::event::Event;

/// Longest wait of a stage between two heartbeats.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A function that receives each event, in the order of publication, on the thread "infer". An
/// `expression` event comes with its clip and recognition, any other event with `None`.
pub type Emit = Box<dyn FnMut(Event, Option<(&Clip, &Recognition)>) + Send>;

/// A function that returns whether a source is lost, that is, currently delivers nothing. The stage
/// that waits for the source calls it.
pub type IsLost = Box<dyn Fn() -> bool + Send>;

/// The [`IsLost`] functions of the video source and of the audio source.
pub struct Losses {
    pub video: IsLost,
    pub audio: IsLost,
}

impl Losses {
    /// Functions that return false, for a recording: its sources end, but are never lost.
    pub fn never_lost() -> Losses {
        Losses {
            video: Box::new(|| false),
            audio: Box::new(|| false),
        }
    }
}
