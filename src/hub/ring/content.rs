//! The content of the ring: events with their frames, and the filter keys of events whose frames
//! were dropped.

use std::collections::{BTreeMap, VecDeque};

use super::{MAX_EVENTS, Published};
use crate::clip::SubjectId;
use crate::event::Event;
use crate::hub::filter::{ExpressionKeys, FilterKeys};
use crate::time::MediaTime;

/// The content of the ring: the newest events, addressed by `seq`, which starts at 1.
pub struct RingContent {
    /// One slot for each `seq` from [`Self::oldest_seq`] to `next_seq - 1`.
    slots: VecDeque<Slot>,
    /// The events that still have their frame, by the name of their share.
    shares: BTreeMap<&'static str, Share>,
    next_seq: u64,
    /// Number of bytes of all frames and typed events.
    bytes: usize,
    /// Whether no more events will be published.
    pub(super) closed: bool,
    max_events: usize,
    max_bytes: usize,
}

/// An event with its frame, or the filter keys of an event whose frame was dropped.
enum Slot {
    Stored(StoredEvent),
    Evicted(EvictedKeys),
}

struct StoredEvent {
    published: Published,
    /// Number of bytes of the frame and the typed event.
    bytes: usize,
}

/// Events of one type. If the ring exceeds its limit of bytes, the largest share loses its oldest
/// event.
#[derive(Default)]
struct Share {
    /// The events' `seq`, oldest first.
    seqs: VecDeque<u64>,
    /// Number of bytes of the events' frames and typed events.
    bytes: usize,
}

/// The filter keys of an event whose frame the ring has dropped. They contain no spoken text.
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

    /// The keys in the form that a filter takes.
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

/// Name of the event's share: its type, but `words` for speech with text.
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

    /// The `seq` of the oldest event that the ring holds; `next_seq` if the ring is empty.
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

    /// The event `seq` with its frame; `None` if the ring does not hold the event, or has dropped
    /// its frame.
    pub fn get(&self, seq: u64) -> Option<&Published> {
        match self.slot(seq)? {
            Slot::Stored(stored) => Some(&stored.published),
            Slot::Evicted(_) => None,
        }
    }

    /// The filter keys of the event `seq`, even if its frame was dropped; `None` if the ring does
    /// not hold the event.
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

    /// Appends the next event, which has `bytes` bytes. Returns the events that it displaced, so
    /// that the caller frees their memory after it has released the lock.
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

    /// Drops frames and events until the limits of events and bytes hold. The newest event stays,
    /// however large it is. Returns what was dropped.
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

    /// Takes the event `seq`, which must be the oldest one of its share, out of its slot. The slot
    /// keeps the filter keys.
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

    /// Subtracts the event `seq` from the counts of its share and of the ring.
    fn uncount(&mut self, seq: u64, stored: &StoredEvent) {
        let share = share(&stored.published.event);
        let share = self.shares.get_mut(share).expect("its share");
        let first = share.seqs.pop_front();
        debug_assert_eq!(first, Some(seq));
        share.bytes -= stored.bytes;
        self.bytes -= stored.bytes;
    }
}
