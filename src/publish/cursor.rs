//! One client's position in the ring, its subscription, and what it lost.
//!
//! A cursor holds sequence numbers, never frames: at most `unsent_limit` of them beyond a replay, so a client that stands still costs
//! a few hundred bytes. Pure: no socket, no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::filter::Filter;
use super::ring::{Held, Ring};
use crate::event::{Answer, Subscription};

/// Events that a reader did not get, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub count: u64,
    pub from_seq: u64,
    pub to_seq: u64,
}

impl Missed {
    pub fn range(from_seq: u64, to_seq: u64) -> Self {
        Missed { count: to_seq - from_seq + 1, from_seq, to_seq }
    }
    pub fn answer(self) -> Answer {
        Answer::Dropped { count: self.count, from_seq: self.from_seq, to_seq: self.to_seq }
    }
    fn and(self, other: Missed) -> Missed {
        Missed { count: self.count + other.count, from_seq: self.from_seq.min(other.from_seq), to_seq: self.to_seq.max(other.to_seq) }
    }
}

/// What a client is to be sent next.
#[derive(Debug, PartialEq)]
pub enum Next {
    Frame { seq: u64, frame: Utf8Bytes, published_nanos: i64 },
    Dropped(Missed),
}

/// `resume_after` names an event that does not exist yet.
#[derive(Debug, PartialEq, Eq)]
pub struct NotPublished {
    pub next_seq: u64,
}

pub struct Cursor {
    ring: Arc<Ring>,
    filter: Filter,
    unsent_limit: usize,
    /// The newest event before this client came.
    joined_after: u64,
    /// The newest event that was matched against the filter.
    seen: u64,
    /// Matched and waiting, oldest first. The first `replaying` of them were asked for by `resume_after` and do not count as unsent.
    unsent: VecDeque<u64>,
    replaying: usize,
    missed: Option<Missed>,
    /// How much of it came by slowness and was not yet counted.
    uncounted: u64,
    sent: SentMarks,
}

impl Cursor {
    /// Stands behind the newest event. `unsent_limit`: how many matching events may wait before the oldest are dropped.
    pub fn new(ring: Arc<Ring>, unsent_limit: usize) -> Self {
        let (newest, max_events) = {
            let held = ring.held();
            (held.next_seq() - 1, held.max_events())
        };
        Cursor {
            ring,
            filter: Filter::new(Subscription::default()),
            unsent_limit,
            joined_after: newest,
            seen: newest,
            unsent: VecDeque::new(),
            replaying: 0,
            missed: None,
            uncounted: 0,
            sent: SentMarks::new(max_events),
        }
    }

    pub fn subscription(&self) -> &Subscription {
        &self.filter.subscription
    }

    /// `oldest_seq` and `next_seq` of `hello`: what can be replayed, and the first event that this client gets by itself.
    pub fn bounds(&self) -> (u64, u64) {
        (self.ring.held().oldest_seq().min(self.seen + 1), self.seen + 1)
    }

    /// Replaces the subscription. What waits unsent stays only if the new one wants it. With `resume_after`, events after it that the
    /// ring still holds come first, in order, except those that this connection has already sent; those that were published before this
    /// connection and have left the ring are reported as dropped.
    pub fn subscribe(&mut self, subscription: Subscription, resume_after: Option<u64>) -> Result<(), NotPublished> {
        let ring = self.ring.clone();
        let held = ring.held();
        if resume_after.is_some_and(|after| after >= held.next_seq()) {
            return Err(NotPublished { next_seq: held.next_seq() });
        }
        self.filter = Filter::new(subscription);
        let Some(after) = resume_after else {
            let (waiting, replaying) = (std::mem::take(&mut self.unsent), std::mem::take(&mut self.replaying));
            for (index, seq) in waiting.into_iter().enumerate() {
                match held.get(seq) {
                    None => self.miss(Missed::range(seq, seq)),
                    Some(stored) if self.filter.passes(&stored.facets) => {
                        self.unsent.push_back(seq);
                        self.replaying += usize::from(index < replaying);
                    }
                    Some(_) => {}
                }
            }
            return Ok(());
        };
        let oldest = held.oldest_seq();
        let last_gone = (oldest - 1).min(self.joined_after);
        if after < last_gone {
            // Gone before this client came: no fault of its own.
            self.lose(Missed::range(after + 1, last_gone));
        }
        self.unsent.clear();
        for seq in oldest.max(after + 1)..held.next_seq() {
            if seq > self.seen {
                self.sent.clear(seq);
            } else if self.sent.get(seq) {
                continue;
            }
            if self.filter.passes(&held.get(seq).expect("held").facets) {
                self.unsent.push_back(seq);
            }
        }
        self.replaying = self.unsent.len();
        self.seen = held.next_seq() - 1;
        Ok(())
    }

    /// What this client has lost and not been told yet.
    pub fn take_missed(&mut self) -> Option<Missed> {
        self.missed.take()
    }

    /// The next frame for this client, `None` if it has everything. To be called when the socket takes another frame.
    pub fn next_frame(&mut self) -> Option<Next> {
        let ring = self.ring.clone();
        let held = ring.held();
        self.look(&held, false);
        while let Some(&seq) = self.unsent.front() {
            if self.missed.is_some_and(|missed| missed.from_seq < seq) {
                break;
            }
            self.unsent.pop_front();
            self.replaying = self.replaying.saturating_sub(1);
            match held.get(seq) {
                Some(stored) => {
                    self.sent.set(seq);
                    return Some(Next::Frame { seq, frame: stored.frame.clone(), published_nanos: stored.published_nanos });
                }
                None => self.miss(Missed::range(seq, seq)),
            }
        }
        self.missed.take().map(Next::Dropped)
    }

    /// To be called when the socket takes nothing: counts what this client falls behind and drops the oldest beyond the limit.
    pub fn fall_behind(&mut self) {
        let ring = self.ring.clone();
        self.look(&ring.held(), true);
    }

    /// Has the client told that it lost these, by no slowness of its own: they do not count as such.
    pub fn lose(&mut self, more: Missed) {
        self.missed = Some(self.missed.map_or(more, |missed| missed.and(more)));
    }

    /// How many events this client lost by being slow since the last call.
    pub fn take_uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }

    /// Matches new events against the filter: all of them, or no more than may wait.
    fn look(&mut self, held: &Held, all: bool) {
        let oldest = held.oldest_seq();
        if self.seen + 1 < oldest {
            // The whole ring went past between two looks; what it held can no longer be matched, so all of it counts.
            self.miss(Missed::range(self.seen + 1, oldest - 1));
            self.seen = oldest - 1;
        }
        while self.seen + 1 < held.next_seq() && (all || self.unsent.len() - self.replaying < self.unsent_limit) {
            self.seen += 1;
            self.sent.clear(self.seen);
            if !self.filter.passes(&held.get(self.seen).expect("held").facets) {
                continue;
            }
            self.unsent.push_back(self.seen);
            if self.unsent.len() - self.replaying > self.unsent_limit {
                let seq = self.unsent.remove(self.replaying).expect("beyond the limit");
                self.miss(Missed::range(seq, seq));
            }
        }
    }

    fn miss(&mut self, more: Missed) {
        self.uncounted += more.count;
        self.lose(more);
    }
}

/// Which of the ring's events this connection has sent: one bit for each place in the ring.
struct SentMarks {
    bits: Vec<u64>,
    places: u64,
}

impl SentMarks {
    fn new(places: usize) -> Self {
        SentMarks { bits: vec![0; places.div_ceil(64)], places: places as u64 }
    }
    fn place(&self, seq: u64) -> (usize, u64) {
        let place = seq % self.places;
        ((place / 64) as usize, 1 << (place % 64))
    }
    fn get(&self, seq: u64) -> bool {
        let (word, bit) = self.place(seq);
        self.bits[word] & bit != 0
    }
    fn set(&mut self, seq: u64) {
        let (word, bit) = self.place(seq);
        self.bits[word] |= bit;
    }
    fn clear(&mut self, seq: u64) {
        let (word, bit) = self.place(seq);
        self.bits[word] &= !bit;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clip::SubjectId;
    use crate::event::{Event, ExpressionEvent, FaceEvidence, Modalities, Scores, TextEvidence, VoiceEvidence};
    use crate::time::MediaTime;

    /// An expression of subject `s<subject>` whose window ends at `end_ms`.
    pub fn expression(subject: u32, top: &str, confidence: f32, end_ms: i64) -> Event {
        Event::Expression(Box::new(ExpressionEvent {
            subject: SubjectId::Face(subject),
            start_ns: MediaTime::from_millis(end_ms - 2000),
            end_ns: MediaTime::from_millis(end_ms),
            scores: Scores(vec![(top.into(), confidence)]),
            top: top.into(),
            confidence,
            abstain: false,
            modalities: Modalities {
                face: FaceEvidence { used: true, reason: None, frames: 32, missing: 0, quality: Some(0.9), age_ms: Some(40.0) },
                voice: VoiceEvidence { used: false, reason: None, speech: None, missing_ms: None, owner_confidence: None, age_ms: None },
                text: TextEvidence { used: false, reason: None, age_ms: None },
            },
            latency_ms: None,
            deadline: None,
            degraded: None,
            skew_ms: None,
            provenance: None,
        }))
    }

    fn drain(cursor: &mut Cursor) -> Vec<u64> {
        std::iter::from_fn(|| cursor.next_frame())
            .map(|next| match next {
                Next::Frame { seq, .. } => seq,
                Next::Dropped(missed) => panic!("{missed:?}"),
            })
            .collect()
    }
    fn publish(ring: &Ring, count: usize) {
        for _ in 0..count {
            ring.publish(&expression(1, "happy", 0.5, 200 * ring.next_seq() as i64));
        }
    }

    #[test]
    fn a_client_that_keeps_reading_loses_nothing_even_in_a_burst() {
        let ring = Arc::new(Ring::default());
        let mut cursor = Cursor::new(ring.clone(), 64);
        publish(&ring, 1000);
        assert_eq!(drain(&mut cursor), (1..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_stalled_client_keeps_the_newest_and_hears_what_it_lost() {
        let ring = Arc::new(Ring::default());
        let mut cursor = Cursor::new(ring.clone(), 64);
        publish(&ring, 60);
        cursor.fall_behind();
        assert_eq!(cursor.take_uncounted(), 0);
        publish(&ring, 10);
        cursor.fall_behind();
        assert_eq!(cursor.take_uncounted(), 6);
        publish(&ring, 30);
        cursor.fall_behind();
        assert_eq!(cursor.take_uncounted(), 30);
        assert_eq!(cursor.next_frame(), Some(Next::Dropped(Missed::range(1, 36))));
        assert_eq!(drain(&mut cursor), (37..=100).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_the_subscription_wants_counts_as_dropped() {
        let ring = Arc::new(Ring::default());
        let mut cursor = Cursor::new(ring.clone(), 4);
        cursor.subscribe(Subscription { subjects: Some(vec![SubjectId::Face(2)]), ..Default::default() }, None).unwrap();
        for i in 0..20 {
            ring.publish(&expression(1, "happy", 0.5, i * 200));
            ring.publish(&expression(2, "happy", 0.5, i * 200));
        }
        cursor.fall_behind();
        assert_eq!(cursor.next_frame(), Some(Next::Dropped(Missed { count: 16, from_seq: 2, to_seq: 32 })));
        assert_eq!(drain(&mut cursor), [34, 36, 38, 40]);
    }

    #[test]
    fn resuming_brings_what_the_ring_holds_first_and_none_twice() {
        let ring = Arc::new(Ring::new(16, 1 << 20));
        publish(&ring, 10);
        let mut cursor = Cursor::new(ring.clone(), 4);
        publish(&ring, 2);
        assert_eq!(drain(&mut cursor), [11, 12]);
        publish(&ring, 2);
        cursor.subscribe(Subscription::default(), Some(3)).unwrap();
        publish(&ring, 1);
        // 11 and 12 were sent before; 4 to 10 are a replay and do not count as unsent.
        assert_eq!(drain(&mut cursor), [4, 5, 6, 7, 8, 9, 10, 13, 14, 15]);
        assert_eq!(cursor.subscribe(Subscription::default(), Some(16)), Err(NotPublished { next_seq: 16 }));
        cursor.subscribe(Subscription::default(), Some(15)).unwrap();
        assert_eq!(drain(&mut cursor), Vec::<u64>::new());
        // What has left the ring before this client came is reported, what it got itself is not.
        publish(&ring, 4);
        drain(&mut cursor);
        cursor.subscribe(Subscription::default(), Some(1)).unwrap();
        assert_eq!(cursor.next_frame(), Some(Next::Dropped(Missed::range(2, 3))));
        assert_eq!(drain(&mut cursor), Vec::<u64>::new());
    }

    #[test]
    fn a_subscription_filters_by_label_confidence_and_rate() {
        let ring = Arc::new(Ring::default());
        let sent = |subscription: Subscription| {
            let mut cursor = Cursor::new(ring.clone(), 64);
            cursor.subscribe(subscription, Some(0)).unwrap();
            drain(&mut cursor)
        };
        ring.publish(&expression(1, "happy", 0.9, 0));
        ring.publish(&expression(1, "sad", 0.69999, 200));
        ring.publish(&expression(2, "happy", 0.6, 200));
        ring.publish(&expression(1, "happy", 0.8, 400));
        ring.publish(&expression(1, "happy", 0.8, 500));
        assert_eq!(sent(Subscription::default()), [1, 2, 3, 4, 5]);
        assert_eq!(sent(Subscription { labels: Some(vec!["sad".into()]), ..Default::default() }), [2]);
        // The client sees 0.7, so 0.7 it is.
        assert_eq!(sent(Subscription { min_confidence: Some(0.7), ..Default::default() }), [1, 2, 4, 5]);
        assert_eq!(sent(Subscription { max_rate_hz: Some(2.5), ..Default::default() }), [1, 3, 4]);
        for none in [
            Subscription { events: Some(vec![]), ..Default::default() },
            Subscription { subjects: Some(vec![]), ..Default::default() },
            Subscription { labels: Some(vec![]), ..Default::default() },
        ] {
            assert_eq!(sent(none), Vec::<u64>::new());
        }
    }

    proptest! {
        /// Whatever is published, read, stalled and subscribed to: sent and dropped together are exactly what the filter wanted, in order, none twice.
        #[test]
        fn every_wanted_event_is_sent_or_counted(steps in prop::collection::vec((0u8..4, 1usize..40), 1..60), limit in 1usize..20) {
            let ring = Arc::new(Ring::new(64, 1 << 20));
            let mut cursor = Cursor::new(ring.clone(), limit);
            let wanted = Subscription { subjects: Some(vec![SubjectId::Face(0)]), ..Default::default() };
            cursor.subscribe(wanted.clone(), None).unwrap();
            let (mut got, mut dropped, mut time) = (Vec::new(), 0, 0);
            let take = |cursor: &mut Cursor, got: &mut Vec<u64>, dropped: &mut u64, most: usize| {
                for _ in 0..most {
                    match cursor.next_frame() {
                        Some(Next::Frame { seq, .. }) => got.push(seq),
                        Some(Next::Dropped(missed)) => *dropped += missed.count,
                        None => break,
                    }
                }
            };
            for (step, amount) in steps {
                match step {
                    0 | 1 => (0..amount).for_each(|_| { time += 1; ring.publish(&expression(time as u32 % 3, "happy", 0.5, time)); }),
                    2 => take(&mut cursor, &mut got, &mut dropped, amount),
                    _ => cursor.subscribe(wanted.clone(), None).unwrap(),
                }
                // The ring never overtakes unseen here: that is the socket's duty to prevent.
                if step < 2 { cursor.fall_behind(); }
            }
            take(&mut cursor, &mut got, &mut dropped, usize::MAX);
            prop_assert!(got.is_sorted_by(|a, b| a < b));
            prop_assert!(got.iter().all(|seq| seq % 3 == 0));
            prop_assert_eq!(got.len() as u64 + dropped, (time / 3) as u64);
        }
    }
}
