//! A client's position in the ring, with its subscription and the events that it lost.
//!
//! A cursor holds sequence numbers, not frames: at most `unsent_limit`, and those of a replay. A
//! stalled client therefore costs a few hundred bytes. The module uses no socket and no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::filter::Filter;
use super::missed::Missed;
use super::ring::{Ring, RingContent};
use crate::event::Subscription;

/// The next message to a client.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// An event.
    Frame {
        seq: u64,
        /// The event's JSON.
        frame: Utf8Bytes,
        /// `CLOCK_MONOTONIC` at the event's entry into the ring, in nanoseconds.
        published_nanos: i64,
    },
    /// A report of lost events.
    Dropped(Missed),
}

/// Largest number of gaps that a cursor keeps for separate reports. Beyond it, the two oldest gaps
/// are joined, which bounds the memory of a slow client.
const MAX_GAPS: usize = 16;

/// The error of a subscription whose `resume_after` names an event that is not published yet.
#[derive(Debug, PartialEq, Eq)]
pub struct NotPublished {
    /// The `seq` of the next published event, which `resume_after` must be below.
    pub next_seq: u64,
}

/// A client's position in the ring. It selects the events that match the client's subscription, and
/// keeps account of lost events.
pub struct Cursor {
    ring: Arc<Ring>,
    filter: Filter,
    unsent_limit: usize,
    /// The client has no claim to events up to this `seq`: they precede its connection and every
    /// `resume_after`. Every later event is sent, waits, is reported as dropped, or does not match.
    unaccounted_to: u64,
    /// The `seq` of the newest event that was matched against the filter.
    seen: u64,
    /// The `seq` of each matching event that waits, oldest first. The first `replaying` of them
    /// belong to a `resume_after` and do not count towards `unsent_limit`.
    unsent: VecDeque<u64>,
    replaying: usize,
    /// Events that left the ring before this client requested them with `resume_after`, not yet
    /// reported to it. They are older than the next frame.
    evicted_before: Option<Missed>,
    /// Lost events that are not yet reported to the client, oldest first: one range for each gap
    /// between waiting events.
    missed: VecDeque<Missed>,
    /// The highest `seq` that was sent.
    newest_sent: u64,
    /// Number of events in `missed` that were lost because the client was slow, and that are not
    /// yet in the metrics.
    uncounted: u64,
    settled: SettledMarks,
}

impl Cursor {
    /// A cursor after the newest event of `ring`. At most `unsent_limit` matching events wait;
    /// beyond it the oldest are dropped.
    pub fn new(ring: Arc<Ring>, unsent_limit: usize) -> Self {
        let (newest, max_events) = {
            let content = ring.content();
            (content.next_seq() - 1, content.max_events())
        };
        Cursor {
            ring,
            filter: Filter::new(Subscription::default()),
            unsent_limit,
            unaccounted_to: newest,
            seen: newest,
            unsent: VecDeque::new(),
            replaying: 0,
            evicted_before: None,
            newest_sent: 0,
            missed: VecDeque::new(),
            uncounted: 0,
            settled: SettledMarks::new(max_events),
        }
    }

    /// The current subscription.
    pub fn subscription(&self) -> &Subscription {
        &self.filter.subscription
    }

    /// The fields `oldest_seq` and `next_seq` of `hello`: the `seq` of the oldest event that can be
    /// replayed, and of the first event that the client gets without a replay.
    pub fn bounds(&self) -> (u64, u64) {
        (
            self.ring.content().oldest_seq().min(self.seen + 1),
            self.seen + 1,
        )
    }

    /// Replaces the subscription. A waiting event stays only if the new subscription includes it.
    ///
    /// With `resume_after`, events after that `seq` that the ring still holds are sent first, in
    /// order, except events that this connection has sent before. Waiting events up to
    /// `resume_after` are discarded. Events after it that have left the ring are reported as
    /// dropped, each once: events that waited, and events from before this connection.
    ///
    /// # Errors
    /// The event `resume_after` is not published yet.
    pub fn subscribe(
        &mut self,
        subscription: Subscription,
        resume_after: Option<u64>,
    ) -> Result<(), NotPublished> {
        let ring = self.ring.clone();
        let content = ring.content();
        if resume_after.is_some_and(|after| after >= content.next_seq()) {
            return Err(NotPublished {
                next_seq: content.next_seq(),
            });
        }
        self.filter = Filter::new(subscription);
        // Counted after the loop, because waiting events separate gaps.
        let mut lost = Vec::new();
        let Some(after) = resume_after else {
            let (waiting, replaying) = (
                std::mem::take(&mut self.unsent),
                std::mem::take(&mut self.replaying),
            );
            for (index, seq) in waiting.into_iter().enumerate() {
                match content.keys(seq) {
                    None => lost.push(Missed::range(seq, seq)),
                    Some(keys) if self.filter.passes(keys) => {
                        self.unsent.push_back(seq);
                        self.replaying += usize::from(index < replaying);
                    }
                    Some(_) => {}
                }
            }
            lost.into_iter()
                .for_each(|missed| self.count_missed(missed));
            return Ok(());
        };
        let oldest = content.oldest_seq();
        let last_gone = (oldest - 1).min(self.unaccounted_to);
        let waited = std::mem::take(&mut self.unsent);
        if after < last_gone {
            let before = Missed::range(after + 1, last_gone);
            self.evicted_before = Some(
                self.evicted_before
                    .map_or(before, |more| before.merge(more)),
            );
        }
        self.unaccounted_to = self.unaccounted_to.min(after);
        for seq in waited {
            if seq > after && seq < oldest {
                lost.push(Missed::range(seq, seq));
            }
        }
        let never_matched = (self.seen + 1).max(after + 1);
        if never_matched < oldest {
            lost.push(Missed::range(never_matched, oldest - 1));
        }
        for seq in oldest.max(after + 1)..content.next_seq() {
            if seq > self.seen {
                self.settled.clear(seq);
            } else if self.settled.get(seq) {
                continue;
            }
            if self.filter.passes(content.keys(seq).expect("in the ring")) {
                self.unsent.push_back(seq);
            }
        }
        self.replaying = self.unsent.len();
        self.seen = content.next_seq() - 1;
        lost.into_iter()
            .for_each(|missed| self.count_missed(missed));
        Ok(())
    }

    /// Returns and removes the oldest range of lost events that has not been reported to the
    /// client; `None` if all are reported.
    pub fn take_missed(&mut self) -> Option<Missed> {
        self.evicted_before
            .take()
            .or_else(|| self.missed.pop_front())
    }

    /// The next message for the client; `None` if it is up to date. Called when the socket accepts
    /// another frame.
    pub fn next_frame(&mut self) -> Option<Next> {
        let ring = self.ring.clone();
        let content = ring.content();
        self.match_new(&content, false);
        while let Some(&seq) = self.unsent.front() {
            if self.evicted_before.is_some()
                || self.missed.front().is_some_and(|gap| gap.from_seq < seq)
            {
                break;
            }
            self.unsent.pop_front();
            self.replaying = self.replaying.saturating_sub(1);
            // The event is sent now or reported as dropped, so a later `resume_after` must not
            // repeat it. An event outside of the ring has no mark: its slot is another event's.
            if seq >= content.oldest_seq() {
                self.settled.set(seq);
            }
            match content.get(seq) {
                Some(stored) => {
                    self.newest_sent = self.newest_sent.max(seq);
                    return Some(Next::Frame {
                        seq,
                        frame: stored.frame.clone(),
                        published_nanos: stored.published_nanos,
                    });
                }
                None => self.count_missed(Missed::range(seq, seq)),
            }
        }
        self.take_missed().map(Next::Dropped)
    }

    /// Matches all new events against the filter, and drops the oldest waiting ones beyond the
    /// limit. Called when the socket accepts nothing.
    pub fn drop_excess(&mut self) {
        let ring = self.ring.clone();
        self.match_new(&ring.content(), true);
    }

    /// Adds a range of lost events to report to the client. [`Self::take_uncounted`] does not count
    /// them.
    pub fn add_missed(&mut self, more: Missed) {
        let at = self
            .missed
            .partition_point(|gap| gap.from_seq < more.from_seq);
        self.missed.insert(at, more);
        if at + 1 < self.missed.len() {
            self.join_gap(at);
        }
        if at > 0 {
            self.join_gap(at - 1);
        }
        if self.missed.len() > MAX_GAPS {
            let second = self.missed.remove(1).expect("many gaps");
            self.missed[0] = self.missed[0].merge(second);
        }
    }

    /// Joins the range `missed[at]` with `missed[at + 1]`, if no waiting or sent event lies between
    /// them.
    fn join_gap(&mut self, at: usize) {
        let (gap, next) = (self.missed[at], self.missed[at + 1]);
        let before = |bound: u64| self.unsent.partition_point(|seq| *seq <= bound);
        let none_sent = self.newest_sent <= gap.to_seq;
        let adjacent = gap.to_seq + 1 >= next.from_seq;
        if adjacent || (none_sent && before(gap.to_seq) >= before(next.from_seq)) {
            self.missed[at] = gap.merge(next);
            self.missed.remove(at + 1);
        }
    }

    /// Number of events that were lost because the client was slow, since the last call.
    pub fn take_uncounted(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }

    /// Matches new events against the filter. With `all`, matches every one and drops the oldest
    /// beyond the limit; otherwise matches only until the limit is reached.
    fn match_new(&mut self, content: &RingContent, all: bool) {
        let oldest = content.oldest_seq();
        if self.seen + 1 < oldest {
            // The whole ring has overtaken the cursor. Overwritten events cannot be matched, so all
            // of them count as lost.
            self.count_missed(Missed::range(self.seen + 1, oldest - 1));
            self.seen = oldest - 1;
        }
        while self.seen + 1 < content.next_seq()
            && (all || self.unsent.len() - self.replaying < self.unsent_limit)
        {
            self.seen += 1;
            self.settled.clear(self.seen);
            if !self
                .filter
                .passes(content.keys(self.seen).expect("in the ring"))
            {
                continue;
            }
            self.unsent.push_back(self.seen);
            if self.unsent.len() - self.replaying > self.unsent_limit {
                let seq = self
                    .unsent
                    .remove(self.replaying)
                    .expect("beyond the limit");
                self.count_missed(Missed::range(seq, seq));
            }
        }
    }

    fn count_missed(&mut self, more: Missed) {
        self.uncounted += more.count;
        self.add_missed(more);
    }
}

/// Marks the events of the ring that this connection has sent or has reported as dropped, so that a
/// replay does not repeat them. One bit for each slot of the ring.
struct SettledMarks {
    bits: Vec<u64>,
    slots: u64,
}

impl SettledMarks {
    fn new(slots: usize) -> Self {
        SettledMarks {
            bits: vec![0; slots.div_ceil(64)],
            slots: slots as u64,
        }
    }
    /// Index of the word in `bits`, and the mask of the bit, of the event `seq`.
    fn slot(&self, seq: u64) -> (usize, u64) {
        let slot = seq % self.slots;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
    fn get(&self, seq: u64) -> bool {
        let (word, bit) = self.slot(seq);
        self.bits[word] & bit != 0
    }
    fn set(&mut self, seq: u64) {
        let (word, bit) = self.slot(seq);
        self.bits[word] |= bit;
    }
    fn clear(&mut self, seq: u64) {
        let (word, bit) = self.slot(seq);
        self.bits[word] &= !bit;
    }
}

#[cfg(test)]
mod tests;
