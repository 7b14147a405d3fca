//! The content of the ring: events with their frames, and the filter keys of events that have lost
//! them.

use std::collections::{BTreeMap, VecDeque};

use super::{MAX_EVENTS, Published};
use crate::clip::SubjectId;
use crate::event::Event;
use crate::hub::filter::{ExpressionKeys, FilterKeys};
use crate::time::MediaTime;

/// The content of the ring. `seq` starts at 1.
pub struct RingContent {
    slots: VecDeque<Slot>,
    /// The slots that still have event and frame, by share.
    shares: BTreeMap<&'static str, Share>,
    next_seq: u64,
    bytes: usize,
    pub(super) closed: bool,
    max_events: usize,
    max_bytes: usize,
}

/// An event, or the filter keys of one that has lost its frame.
enum Slot {
    Stored(StoredEvent),
    Evicted(EvictedKeys),
}

struct StoredEvent {
    published: Published,
    /// Bytes of the frame and of the typed event.
    bytes: usize,
}

/// Events that compete with each other for bytes before they compete with other shares.
#[derive(Default)]
struct Share {
    /// Oldest first.
    seqs: VecDeque<u64>,
    bytes: usize,
}

/// The filter keys of an event that the ring has dropped, without any spoken text.
pub struct EvictedKeys {
    kind: &'static str,
    subject: Option<SubjectId>,
    into: Option<SubjectId>,
    expression: Option<(SubjectId, Box<str>, f32, MediaTime)>,
}

impl EvictedKeys {
    pub fn from_event(event: &Event) -> EvictedKeys {
        let keys = FilterKeys::from_event(event);
        EvictedKeys {
            kind: keys.kind,
            subject: keys.subject,
            into: keys.into,
            expression: keys
                .expression
                .map(|e| (e.subject, e.top.into(), e.confidence, e.end_ns)),
        }
    }

    /// The keys, for a filter.
    pub fn keys(&self) -> FilterKeys<'_> {
        let expression = self.expression.as_ref();
        FilterKeys {
            kind: self.kind,
            subject: self.subject,
            into: self.into,
            expression: expression.map(|(subject, top, confidence, end_ns)| ExpressionKeys {
                subject: *subject,
                top,
                confidence: *confidence,
                end_ns: *end_ns,
            }),
        }
    }
}

/// The event's share: speech with text is a share of its own.
fn share(event: &Event) -> &'static str {
    match event {
        Event::Speech(e) if e.text.is_some() => "words",
        _ => event.kind(),
    }
}

impl RingContent {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> RingContent {
        assert!(max_events > 0, "the ring needs room for one event");
        RingContent {
            slots: VecDeque::with_capacity(max_events.min(MAX_EVENTS)),
            shares: BTreeMap::new(),
            next_seq: 1,
            bytes: 0,
            closed: false,
            max_events,
            max_bytes,
        }
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The oldest event held; `next_seq` if there is none.
    pub fn oldest_seq(&self) -> u64 {
        self.next_seq - self.slots.len() as u64
    }

    pub fn max_events(&self) -> usize {
        self.max_events
    }

    /// Bytes of frames and typed events.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The event with this sequence number; `None` if the ring does not hold it, or not with its
    /// frame.
    pub fn get(&self, seq: u64) -> Option<&Published> {
        match self.slot(seq)? {
            Slot::Stored(stored) => Some(&stored.published),
            Slot::Evicted(_) => None,
        }
    }

    /// The filter keys of an event that the ring holds, also without its frame.
    pub fn keys(&self, seq: u64) -> Option<FilterKeys<'_>> {
        match self.slot(seq)? {
            Slot::Stored(stored) => Some(FilterKeys::from_event(&stored.published.event)),
            Slot::Evicted(keys) => Some(keys.keys()),
        }
    }

    fn slot(&self, seq: u64) -> Option<&Slot> {
        let index = seq.checked_sub(self.oldest_seq())?;
        self.slots.get(usize::try_from(index).ok()?)
    }

    /// Appends the next event, of `bytes` bytes. Returns the dropped events, so that they are freed
    /// without the lock.
    #[must_use]
    pub(super) fn push(&mut self, published: Published, bytes: usize) -> Vec<Published> {
        debug_assert_eq!(published.seq, self.next_seq);
        let share = self.shares.entry(share(&published.event)).or_default();
        share.seqs.push_back(self.next_seq);
        share.bytes += bytes;
        self.bytes += bytes;
        self.slots
            .push_back(Slot::Stored(StoredEvent { published, bytes }));
        self.next_seq += 1;
        self.make_room()
    }

    /// Drops events until the limits hold. The newest event stays, however large.
    fn make_room(&mut self) -> Vec<Published> {
        let mut dropped = Vec::new();
        let newest = self.next_seq - 1;
        while self.bytes > self.max_bytes {
            let largest = self
                .shares
                .values()
                .filter(|share| share.seqs.front().is_some_and(|seq| *seq != newest))
                .max_by_key(|share| share.bytes);
            let Some(seq) = largest.and_then(|share| share.seqs.front().copied()) else {
                break;
            };
            dropped.push(self.release(seq));
        }
        // A slot without a frame is needed only between other slots.
        while self.slots.len() > self.max_events
            || matches!(self.slots.front(), Some(Slot::Evicted(_)))
        {
            let oldest = self.oldest_seq();
            if let Some(Slot::Stored(stored)) = self.slots.pop_front() {
                self.uncount(oldest, &stored);
                dropped.push(stored.published);
            }
        }
        dropped
    }

    /// Removes a held event, the oldest one of its share, from its slot.
    fn release(&mut self, seq: u64) -> Published {
        let index = (seq - self.oldest_seq()) as usize;
        let slot = &mut self.slots[index];
        let Slot::Stored(stored) = slot else {
            unreachable!("shares name stored events");
        };
        let keys = Slot::Evicted(EvictedKeys::from_event(&stored.published.event));
        let Slot::Stored(stored) = std::mem::replace(slot, keys) else {
            unreachable!("matched above");
        };
        self.uncount(seq, &stored);
        stored.published
    }

    fn uncount(&mut self, seq: u64, stored: &StoredEvent) {
        let share = share(&stored.published.event);
        let share = self.shares.get_mut(share).expect("its share");
        let first = share.seqs.pop_front();
        debug_assert_eq!(first, Some(seq));
        share.bytes -= stored.bytes;
        self.bytes -= stored.bytes;
    }
}
