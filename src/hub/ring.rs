//! The ring of published events. It holds each typed event and its JSON frame, which is serialised
//! once for all readers. Publishing never waits for a reader.
//!
//! The ring is bounded in events and in bytes. The events of each type form a share; speech with
//! text is a share of its own. Beyond the limit of bytes, the oldest event of the largest share
//! loses its frame and its content, so that no type displaces the others. The event keeps its slot
//! and its filter keys, and is reported to readers as lost. A reader is a position in the ring and
//! has no queue of frames, so a stalled reader costs nothing.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::memory::memory;
use super::missed::Missed;
use crate::event::{Event, Form};
use crate::sync::{Condvar, Mutex, MutexGuard, RwLock};
use crate::time::monotonic_nanos;

#[cfg(all(test, feature = "shuttle"))]
mod concurrency;
mod content;
#[cfg(test)]
pub(super) use content::EvictedKeys;
pub(super) use content::RingContent;

/// Default limit of the number of events in a ring.
pub const MAX_EVENTS: usize = 1024;
/// Default limit of the size of a ring in bytes: frames and typed events together.
pub const MAX_BYTES: usize = 4 << 20;

/// A function that is called after every publication, on the publisher's thread. It must be quick
/// and must not wait.
pub type PublishHook = dyn Fn() + Send + Sync;

/// The ring of published events.
pub struct Ring {
    /// Lets one thread publish at a time, so that events enter the ring in the order of `seq`.
    /// Readers do not lock it.
    turn: Mutex<()>,
    content: Mutex<RingContent>,
    changed: Condvar,
    hooks: RwLock<Vec<Weak<PublishHook>>>,
}

/// A published event with its frame. A clone shares both with the ring.
#[derive(Clone)]
pub struct Published {
    /// Sequence number: 1 for the first event, then without gaps.
    pub seq: u64,
    pub event: Arc<Event>,
    /// The event's JSON in the live form, as sent on sockets.
    pub frame: Utf8Bytes,
    /// `CLOCK_MONOTONIC` at the event's entry into the ring, in nanoseconds.
    pub published_nanos: i64,
}

/// Shows `seq` and type without the event's content, so that no spoken text gets into a log.
impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Published({}, {})", self.seq, self.event.kind())
    }
}

/// Clones the event, for a call of [`Ring::publish`] with an event that the caller keeps.
impl From<&Event> for Arc<Event> {
    fn from(event: &Event) -> Self {
        Arc::new(event.clone())
    }
}

impl Default for Ring {
    fn default() -> Self {
        Ring::new(MAX_EVENTS, MAX_BYTES)
    }
}

impl Ring {
    /// A ring of at most `max_events` events and `max_bytes` bytes (frames and typed events
    /// together). The newest event is held, however large it is.
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Ring {
            turn: Mutex::new(()),
            content: Mutex::new(RingContent::new(max_events, max_bytes)),
            changed: Condvar::new(),
            hooks: RwLock::new(Vec::new()),
        }
    }

    /// Assigns the next `seq` to the event, serialises the event and appends it to the ring.
    /// Returns the `seq`. Never waits for a reader.
    pub fn publish(&self, event: impl Into<Arc<Event>>) -> u64 {
        self.publish_shared(event.into())
    }

    fn publish_shared(&self, event: Arc<Event>) -> u64 {
        let turn = self.turn.lock().expect("ring turn");
        let seq = self.next_seq();
        let frame = Utf8Bytes::from(event.to_json(seq, Form::Live));
        let bytes = frame.len() + memory(&event);
        let published = Published {
            seq,
            event,
            frame,
            published_nanos: monotonic_nanos(),
        };
        let dropped = self.content().push(published, bytes);
        drop(turn);
        self.call_hooks();
        drop(dropped);
        seq
    }

    /// Closes the ring: a blocking reader gets the remaining events, then [`Read::Ended`].
    pub fn close(&self) {
        self.content().closed = true;
        self.call_hooks();
    }

    /// The `seq` that the next event will get.
    pub fn next_seq(&self) -> u64 {
        self.content().next_seq()
    }

    /// Number of bytes of the frames and typed events that the ring holds now.
    pub fn held_bytes(&self) -> usize {
        self.content().bytes()
    }

    /// Registers a function that is called after every publication, until the returned handle is
    /// dropped.
    pub fn on_publish(&self, hook: impl Fn() + Send + Sync + 'static) -> Arc<PublishHook> {
        let hook: Arc<PublishHook> = Arc::new(hook);
        let mut hooks = self.hooks.write().expect("ring hooks");
        hooks.retain(|hook| hook.strong_count() > 0);
        hooks.push(Arc::downgrade(&hook));
        hook
    }

    /// A blocking reader of all events that are published from now on.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader {
            ring: self.clone(),
            next: self.next_seq(),
        }
    }

    fn call_hooks(&self) {
        self.changed.notify_all();
        for hook in self.hooks.read().expect("ring hooks").iter() {
            if let Some(hook) = hook.upgrade() {
                hook();
            }
        }
    }

    pub(super) fn content(&self) -> MutexGuard<'_, RingContent> {
        self.content.lock().expect("ring lock")
    }
}

/// The result of [`Reader::read`].
#[derive(Debug)]
pub enum Read {
    /// The next event.
    Event(Published),
    /// The next events in order left the ring before they were read.
    Missed(Missed),
    /// No event was published within the time limit.
    TimedOut,
    /// The ring is closed, and all its events have been read.
    Ended,
}

/// A blocking reader of the ring. It gets every event in order; events that leave the ring before
/// they are read are reported as [`Read::Missed`].
pub struct Reader {
    ring: Arc<Ring>,
    /// The `seq` of the next event to read.
    next: u64,
}

impl Reader {
    /// The ring, and the `seq` of the next event to read.
    pub(super) fn position(&self) -> (Arc<Ring>, u64) {
        (self.ring.clone(), self.next)
    }

    /// Reads the next event; waits for it at most `timeout`.
    pub fn read(&mut self, timeout: Duration) -> Read {
        let mut content = self.ring.content();
        let has_nothing =
            |content: &RingContent, next: u64| next == content.next_seq() && !content.closed;
        if has_nothing(&content, self.next) {
            content = self
                .ring
                .changed
                .wait_timeout_while(content, timeout, |content| has_nothing(content, self.next))
                .expect("ring lock")
                .0;
        }
        let oldest = content.oldest_seq();
        if self.next < oldest {
            let missed = Missed::range(self.next, oldest - 1);
            self.next = oldest;
            return Read::Missed(missed);
        }
        match content.get(self.next) {
            Some(published) => {
                self.next += 1;
                Read::Event(published.clone())
            }
            None if self.next < content.next_seq() => {
                let first = self.next;
                while self.next < content.next_seq() && content.get(self.next).is_none() {
                    self.next += 1;
                }
                Read::Missed(Missed::range(first, self.next - 1))
            }
            None if content.closed => Read::Ended,
            None => Read::TimedOut,
        }
    }
}

#[cfg(test)]
mod tests;
