//! The ring of published events: each typed event beside its frame, which is serialised once for
//! all readers. Publishing never waits for a reader.
//!
//! The ring is bounded in events and in bytes. Each kind of event is a share, and speech with text
//! is a share of its own. Beyond the limit of bytes, the oldest event of the largest share loses
//! its frame and its content, so that no kind displaces the others. The event keeps its slot and
//! its filter keys, and readers get it as lost. Readers are positions in the ring and own no queue
//! of frames, so a stalled reader costs nothing.

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

/// Default limit of a ring, in events.
pub const MAX_EVENTS: usize = 1024;
/// Default limit of a ring, in bytes of frames and typed events together.
pub const MAX_BYTES: usize = 4 << 20;

/// Called after every publication, on the publisher's thread. Must be quick and must not wait.
pub type PublishHook = dyn Fn() + Send + Sync;

/// The ring of published events.
pub struct Ring {
    /// Serialises publishers, so that `seq` is the order in the ring. Readers do not need it.
    turn: Mutex<()>,
    content: Mutex<RingContent>,
    changed: Condvar,
    hooks: RwLock<Vec<Weak<PublishHook>>>,
}

/// A published event. A copy shares the event and the frame with the ring.
#[derive(Clone)]
pub struct Published {
    /// Sequence number, from 1 on without a gap.
    pub seq: u64,
    pub event: Arc<Event>,
    /// The event in the live form, as it goes over the sockets.
    pub frame: Utf8Bytes,
    /// `CLOCK_MONOTONIC` at the entry into the ring, in nanoseconds.
    pub published_nanos: i64,
}

/// Without the content: no log holds spoken text.
impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Published({}, {})", self.seq, self.event.kind())
    }
}

/// For [`Ring::publish`] of an event that the caller keeps: it is copied.
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
    /// A ring of at most `max_events` events and `max_bytes` bytes, of frames and typed events
    /// together. One event is always held, however large.
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Ring {
            turn: Mutex::new(()),
            content: Mutex::new(RingContent::new(max_events, max_bytes)),
            changed: Condvar::new(),
            hooks: RwLock::new(Vec::new()),
        }
    }

    /// Assigns the event's `seq`, serialises it and appends it to the ring. Returns `seq`. Never
    /// waits for a reader.
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

    /// Ends the ring: blocking readers end after the last event.
    pub fn close(&self) {
        self.content().closed = true;
        self.call_hooks();
    }

    /// The `seq` that the next event will get.
    pub fn next_seq(&self) -> u64 {
        self.content().next_seq()
    }

    /// Bytes held now, of frames and typed events together.
    pub fn held_bytes(&self) -> usize {
        self.content().bytes()
    }

    /// Registers a hook that is called after every publication, until the returned handle is
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

/// The result of a blocking read.
#[derive(Debug)]
pub enum Read {
    Event(Published),
    /// The ring dropped these events before they were read.
    Missed(Missed),
    TimedOut,
    /// The ring is closed, and all its events have been read.
    Ended,
}

/// A blocking reader for its own thread. It gets every event in order, unless the whole ring
/// overtakes it.
pub struct Reader {
    ring: Arc<Ring>,
    next: u64,
}

impl Reader {
    /// The ring, and the `seq` of the next event.
    pub(super) fn position(&self) -> (Arc<Ring>, u64) {
        (self.ring.clone(), self.next)
    }

    /// The next event; waits at most `timeout`.
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
