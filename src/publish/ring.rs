//! The ring of serialised events: each is serialised once, for everyone, and publishing never waits for a reader.
//!
//! The ring is bounded in events and in bytes; the oldest go. Readers are positions in it and own no queue of frames, so a reader that
//! stands still costs nothing. Beside the bytes an event keeps its [`Facets`], the little that a subscription looks at.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, Weak};
use std::time::Duration;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::cursor::Missed;
use crate::clip::SubjectId;
use crate::event::{Event, Form};
use crate::time::{MediaTime, monotonic_nanos};

/// How much a ring holds by default.
pub const MAX_EVENTS: usize = 1024;
pub const MAX_BYTES: usize = 4 << 20;

/// Called after every publication, on the publisher's thread: must be quick and must not wait.
pub type Bell = dyn Fn() + Send + Sync;

pub struct Ring {
    /// Publishers take turns here, so that `seq` is the order in the ring, while readers go on reading.
    turn: Mutex<()>,
    held: Mutex<Held>,
    changed: Condvar,
    bells: RwLock<Vec<Weak<Bell>>>,
}

/// What the ring holds right now. `seq` starts at 1.
pub(super) struct Held {
    events: VecDeque<Stored>,
    next_seq: u64,
    bytes: usize,
    closed: bool,
    max_events: usize,
    max_bytes: usize,
}

pub(super) struct Stored {
    pub frame: Utf8Bytes,
    /// `CLOCK_MONOTONIC` when it entered the ring.
    pub published_nanos: i64,
    pub facets: Facets,
}

/// What a subscription looks at.
#[derive(Clone, Debug)]
pub(super) struct Facets {
    pub kind: &'static str,
    pub subject: Option<SubjectId>,
    pub into: Option<SubjectId>,
    /// Top label and confidence (as on the wire) of an `expression`, and the end of its window.
    pub expression: Option<(Box<str>, f64, MediaTime)>,
}

impl Facets {
    fn of(event: &Event) -> Self {
        let (subject, into, expression) = match event {
            Event::Subject(e) => (Some(e.subject), e.into, None),
            Event::Expression(e) => (
                Some(e.subject),
                None,
                Some((
                    e.top.as_str().into(),
                    (f64::from(e.confidence) * 1e4).round() / 1e4,
                    e.end_ns,
                )),
            ),
            Event::Speech(e) => (e.owner, None, None),
            Event::Status(_) => (None, None, None),
        };
        Facets {
            kind: event.kind(),
            subject,
            into,
            expression,
        }
    }
}

impl Held {
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
    /// The oldest event held; `next_seq` if there is none.
    pub fn oldest_seq(&self) -> u64 {
        self.next_seq - self.events.len() as u64
    }
    pub fn max_events(&self) -> usize {
        self.max_events
    }
    pub fn get(&self, seq: u64) -> Option<&Stored> {
        let index = seq.checked_sub(self.oldest_seq())?;
        self.events.get(usize::try_from(index).ok()?)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Ring::new(MAX_EVENTS, MAX_BYTES)
    }
}

impl Ring {
    /// A ring of at most `max_events` events and `max_bytes` bytes of JSON (one event is always held, however large).
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        assert!(max_events > 0, "the ring needs room for one event");
        Ring {
            turn: Mutex::new(()),
            held: Mutex::new(Held {
                events: VecDeque::with_capacity(max_events.min(MAX_EVENTS)),
                next_seq: 1,
                bytes: 0,
                closed: false,
                max_events,
                max_bytes,
            }),
            changed: Condvar::new(),
            bells: RwLock::new(Vec::new()),
        }
    }

    /// Gives the event its `seq`, serialises it and puts it into the ring. Never waits for a reader.
    pub fn publish(&self, event: &Event) -> u64 {
        let turn = self.turn.lock().expect("ring turn");
        let seq = self.held().next_seq;
        let frame = Utf8Bytes::from(event.to_json(seq, Form::Live));
        let stored = Stored {
            published_nanos: monotonic_nanos(),
            facets: Facets::of(event),
            frame,
        };
        let mut held = self.held();
        held.bytes += stored.frame.len();
        held.events.push_back(stored);
        held.next_seq += 1;
        while held.events.len() > held.max_events
            || (held.bytes > held.max_bytes && held.events.len() > 1)
        {
            let gone = held.events.pop_front().expect("not empty");
            held.bytes -= gone.frame.len();
        }
        drop(held);
        drop(turn);
        self.ring_bells();
        seq
    }

    /// No more events: blocking readers end once they have read what is there.
    pub fn close(&self) {
        self.held().closed = true;
        self.ring_bells();
    }

    /// The `seq` that the next event will get.
    pub fn next_seq(&self) -> u64 {
        self.held().next_seq
    }

    /// Bytes of JSON held now.
    pub fn held_bytes(&self) -> usize {
        self.held().bytes
    }

    /// Asks to be called after every publication, as long as the returned handle lives.
    pub fn on_publish(&self, bell: impl Fn() + Send + Sync + 'static) -> Arc<Bell> {
        let bell: Arc<Bell> = Arc::new(bell);
        let mut bells = self.bells.write().expect("ring bells");
        bells.retain(|b| b.strong_count() > 0);
        bells.push(Arc::downgrade(&bell));
        bell
    }

    /// A blocking reader of everything published from now on.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader {
            ring: self.clone(),
            next: self.next_seq(),
        }
    }

    fn ring_bells(&self) {
        self.changed.notify_all();
        for bell in self.bells.read().expect("ring bells").iter() {
            if let Some(bell) = bell.upgrade() {
                bell();
            }
        }
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("ring lock")
    }
}

/// What a blocking read came to.
#[derive(Debug, PartialEq)]
pub enum Read {
    Frame {
        seq: u64,
        frame: Utf8Bytes,
    },
    /// The ring went round before the reader came back.
    Missed(Missed),
    TimedOut,
    /// The ring is closed and everything has been read.
    Ended,
}

/// A blocking reader for a thread of its own: gets everything, in order, unless the whole ring overtakes it.
pub struct Reader {
    ring: Arc<Ring>,
    next: u64,
}

impl Reader {
    /// The next event; waits at most `timeout`.
    pub fn read(&mut self, timeout: Duration) -> Read {
        let mut held = self.ring.held();
        if self.next == held.next_seq && !held.closed {
            held = self
                .ring
                .changed
                .wait_timeout_while(held, timeout, |held| {
                    self.next == held.next_seq && !held.closed
                })
                .expect("ring lock")
                .0;
        }
        let oldest = held.oldest_seq();
        if self.next < oldest {
            let missed = Missed::range(self.next, oldest - 1);
            self.next = oldest;
            return Read::Missed(missed);
        }
        match held.get(self.next) {
            Some(stored) => {
                self.next += 1;
                Read::Frame {
                    seq: self.next - 1,
                    frame: stored.frame.clone(),
                }
            }
            None if held.closed => Read::Ended,
            None => Read::TimedOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::cursor::tests::expression;

    #[test]
    fn the_ring_is_bounded_in_events_and_in_bytes() {
        let ring = Ring::new(8, 1 << 20);
        (0..20)
            .for_each(|i| assert_eq!(ring.publish(&expression(1, "happy", 0.5, i)), i as u64 + 1));
        assert_eq!(ring.held().oldest_seq(), 13);
        assert_eq!(ring.next_seq(), 21);
        let one = ring.held().get(20).unwrap().frame.len();
        let small = Ring::new(1000, 3 * one);
        for i in 0..20 {
            small.publish(&expression(1, "happy", 0.5, i));
        }
        assert!(
            small.held_bytes() <= 3 * one && small.held_bytes() > one,
            "{} of {}",
            small.held_bytes(),
            3 * one
        );
    }

    #[test]
    fn a_blocking_reader_gets_all_in_order_and_is_told_what_the_ring_overwrote() {
        let ring = Arc::new(Ring::new(4, 1 << 20));
        let mut reader = ring.reader();
        assert_eq!(reader.read(Duration::ZERO), Read::TimedOut);
        for i in 0..6 {
            ring.publish(&expression(1, "happy", 0.5, i));
        }
        assert_eq!(
            reader.read(Duration::ZERO),
            Read::Missed(Missed::range(1, 2))
        );
        for expected in 3..=6 {
            assert!(
                matches!(reader.read(Duration::ZERO), Read::Frame { seq, .. } if seq == expected)
            );
        }
        ring.close();
        assert_eq!(reader.read(Duration::from_secs(60)), Read::Ended);
    }

    #[test]
    fn publishers_on_many_threads_leave_no_gap() {
        let ring = Arc::new(Ring::new(4096, 64 << 20));
        std::thread::scope(|scope| {
            for subject in 0..4 {
                let ring = &ring;
                scope.spawn(move || {
                    for i in 0..250 {
                        ring.publish(&expression(subject, "happy", 0.5, i));
                    }
                });
            }
        });
        let held = ring.held();
        for seq in 1..=1000 {
            let frame: serde_json::Value =
                serde_json::from_str(&held.get(seq).unwrap().frame).unwrap();
            assert_eq!(frame["seq"], seq);
        }
    }
}
