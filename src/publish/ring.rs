//! The ring of serialised events: each is serialised once, for everyone, and publishing never waits for a reader.
//!
//! The ring is bounded in events and in bytes. Beyond its bytes the oldest frame of the kind that
//! holds the most of them goes, so that no kind pushes out the others; the event keeps its place,
//! and readers find it lost. Readers are positions in it and own no queue of frames, so a reader
//! that stands still costs nothing. Beside the bytes an event keeps its [`Facets`], the little that
//! a subscription looks at.

use std::collections::{BTreeMap, VecDeque};
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
    events: VecDeque<Place>,
    /// What of `events` still has its frame, by kind.
    kinds: BTreeMap<&'static str, Kind>,
    next_seq: u64,
    bytes: usize,
    closed: bool,
    max_events: usize,
    max_bytes: usize,
}

/// An event, or what is left of one that has lost its frame.
enum Place {
    Held(Stored),
    Gone(Facets),
}

/// The events of one kind that have their frames.
#[derive(Default)]
struct Kind {
    /// Oldest first.
    seqs: VecDeque<u64>,
    bytes: usize,
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
    /// Beside other events of this name the event competes for bytes: what is said is apart from
    /// who speaks.
    share: &'static str,
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
            share: match event {
                Event::Speech(e) if e.text.is_some() => "words",
                _ => event.kind(),
            },
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
    /// `None` also where the event has lost its frame.
    pub fn get(&self, seq: u64) -> Option<&Stored> {
        match self.place(seq)? {
            Place::Held(stored) => Some(stored),
            Place::Gone(_) => None,
        }
    }
    /// Of every event from the oldest to the newest, also of those that have lost their frames.
    pub fn facets(&self, seq: u64) -> Option<&Facets> {
        match self.place(seq)? {
            Place::Held(stored) => Some(&stored.facets),
            Place::Gone(facets) => Some(facets),
        }
    }
    fn place(&self, seq: u64) -> Option<&Place> {
        let index = seq.checked_sub(self.oldest_seq())?;
        self.events.get(usize::try_from(index).ok()?)
    }

    fn push(&mut self, stored: Stored) {
        let kind = self.kinds.entry(stored.facets.share).or_default();
        kind.seqs.push_back(self.next_seq);
        kind.bytes += stored.frame.len();
        self.bytes += stored.frame.len();
        self.events.push_back(Place::Held(stored));
        self.next_seq += 1;
        self.make_room();
    }

    /// The newest event stays, however large.
    fn make_room(&mut self) {
        let newest = self.next_seq - 1;
        while self.bytes > self.max_bytes {
            let largest = self
                .kinds
                .values()
                .filter(|kind| kind.seqs.front().is_some_and(|seq| *seq != newest))
                .max_by_key(|kind| kind.bytes);
            let Some(seq) = largest.and_then(|kind| kind.seqs.front().copied()) else {
                break;
            };
            self.let_go(seq);
        }
        // A place without a frame is of use between others alone.
        while self.events.len() > self.max_events
            || matches!(self.events.front(), Some(Place::Gone(_)))
        {
            self.let_go(self.oldest_seq());
            self.events.pop_front();
        }
    }

    /// Removes the event's frame: the oldest one of its kind.
    fn let_go(&mut self, seq: u64) {
        let index = (seq - self.oldest_seq()) as usize;
        let Place::Held(stored) = &self.events[index] else {
            return;
        };
        let (bytes, facets) = (stored.frame.len(), stored.facets.clone());
        let kind = self.kinds.get_mut(facets.share).expect("its kind");
        debug_assert_eq!(kind.seqs.front(), Some(&seq));
        kind.seqs.pop_front();
        kind.bytes -= bytes;
        self.bytes -= bytes;
        self.events[index] = Place::Gone(facets);
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
                kinds: BTreeMap::new(),
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
        self.held().push(stored);
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
    /// The ring let go of these before the reader came back.
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
    /// The ring, and the `seq` of the next event.
    pub(super) fn position(&self) -> (Arc<Ring>, u64) {
        (self.ring.clone(), self.next)
    }

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
            None if self.next < held.next_seq => {
                let first = self.next;
                while self.next < held.next_seq && held.get(self.next).is_none() {
                    self.next += 1;
                }
                Read::Missed(Missed::range(first, self.next - 1))
            }
            None if held.closed => Read::Ended,
            None => Read::TimedOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{SpeechEvent, SpeechPhase};
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

    /// Words of so many bytes.
    fn words(bytes: usize) -> Event {
        Event::Speech(SpeechEvent {
            phase: SpeechPhase::Partial,
            start_ns: MediaTime::ZERO,
            end_ns: Some(MediaTime::from_millis(1)),
            text: Some("x".repeat(bytes)),
            words: None,
            owner: None,
        })
    }

    #[test]
    fn large_words_push_out_older_words_alone() {
        let ring = Arc::new(Ring::new(1024, 1 << 20));
        let mut reader = ring.reader();
        for i in 0..400 {
            ring.publish(&expression(1, "happy", 0.5, i));
            ring.publish(&words(64 << 10));
        }
        let held = ring.held();
        assert!(held.bytes <= 1 << 20, "{} bytes", held.bytes);
        assert_eq!(held.oldest_seq(), 1, "the oldest expression is there");
        let (mut expressions, mut said) = (0, Vec::new());
        for seq in 1..held.next_seq() {
            let kind = held.facets(seq).unwrap().kind;
            match held.get(seq) {
                Some(_) if kind == "expression" => expressions += 1,
                Some(_) => said.push(seq),
                None => assert_eq!(kind, "speech"),
            }
        }
        assert_eq!(expressions, 400);
        let newest = held.next_seq() - 1;
        assert!(said.len() > 5 && said.is_sorted() && said[said.len() - 1] == newest);
        assert!(said[0] > newest - 2 * said.len() as u64, "the newest stay");
        drop(held);

        // A reader that comes back finds each event, or that it is lost.
        let (mut next, mut lost) = (1, 0);
        while next <= newest {
            match reader.read(Duration::ZERO) {
                Read::Frame { seq, .. } => {
                    assert_eq!(seq, next);
                    next += 1;
                }
                Read::Missed(missed) => {
                    assert_eq!(missed.from_seq, next);
                    next = missed.to_seq + 1;
                    lost += missed.count;
                }
                other => panic!("{other:?} before {next}"),
            }
        }
        assert_eq!(lost, 400 - said.len() as u64);
    }

    #[test]
    fn a_replay_says_which_words_the_ring_let_go_of() {
        use super::super::cursor::{Cursor, Next};
        let ring = Arc::new(Ring::new(1024, 64 << 10));
        for i in 0..10 {
            ring.publish(&expression(1, "happy", 0.5, i));
            ring.publish(&words(30 << 10));
        }
        let mut cursor = Cursor::new(ring.clone(), 64);
        let all = crate::event::Subscription::default();
        cursor.subscribe(all, Some(0)).unwrap();
        let (mut sent, mut dropped) = (0, 0);
        while let Some(next) = cursor.next_frame() {
            match next {
                Next::Frame { .. } => sent += 1,
                Next::Dropped(missed) => dropped += missed.count,
            }
        }
        assert!(dropped >= 8, "{dropped} were let go of");
        assert_eq!(sent + dropped, 20);
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
