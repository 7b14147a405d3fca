//! The queue in front of the encoders. Pure: the caller passes the current time.
//!
//! Live, the schedule bounds staleness. Each subject has one slot, in which the latest clip wins.
//! Across subjects the earliest deadline comes first, and clips past their deadline are dropped.
//! Replaying, nothing is lost: the order is first in, first out, and [`Schedule::is_full`] signals
//! backpressure.
//!
//! Subject changes, turns and transcripts are cheap and never dropped. They overtake clips, with
//! one exception: the end of a subject waits for the subject's earlier clip, which is taken first.
//! No event of a subject therefore follows its end. No clip overtakes an earlier item.

use std::collections::{BTreeMap, VecDeque};

mod cost;

use cost::ClipCost;

use crate::align::Aligned;
use crate::clip::{Clip, SubjectId, SubjectPhase};
use crate::time::MediaTime;

/// Policy for clips that arrive faster than they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only the latest clip of each subject is kept, until its [`deadline`] passes. `budget_nanos`:
    /// permitted age of the newest evidence, in nanoseconds.
    Live { budget_nanos: i64 },
    /// No clip is lost. The schedule is full when `capacity` items are waiting.
    Replay { capacity: usize },
}

/// Numbers of clips since the start: `pushed = superseded + late + taken + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleCounters {
    /// Clips that were added.
    pub pushed: u64,
    /// Clips that were replaced by a newer clip of the same subject.
    pub superseded: u64,
    /// Clips that were dropped because their deadline passed before the encoders were free.
    pub late: u64,
    /// Clips that were taken for encoding.
    pub taken: u64,
}

/// The queue between the aligner and the encoders.
#[derive(Debug)]
pub struct Schedule {
    mode: Mode,
    /// Items with their number in the order of arrival. Replaying: all items. Live: all but clips.
    queue: VecDeque<(u64, Aligned)>,
    /// Live: the latest clip of each subject, with its number in the order of arrival.
    slots: BTreeMap<SubjectId, (u64, Clip)>,
    /// Number of items added so far.
    arrivals: u64,
    counters: ScheduleCounters,
    cost: ClipCost,
}

/// The items that are due at one time, in the order in which [`Schedule::pop`] would return them.
#[derive(Debug, Default)]
pub struct Due {
    /// Subject changes, turns and transcripts, which are published before the clips.
    pub before: Vec<Aligned>,
    /// One batch of clips; no other item is published between them.
    pub clips: Vec<Clip>,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.clips.is_empty()
    }
}

/// Location of the next item in a [`Schedule`].
enum Next {
    /// The front of the queue.
    Queue,
    /// The waiting clip of this subject.
    Slot(SubjectId),
}

impl Schedule {
    /// Creates a schedule without items.
    pub fn new(mode: Mode) -> Self {
        Schedule {
            mode,
            queue: VecDeque::new(),
            slots: BTreeMap::new(),
            arrivals: 0,
            counters: ScheduleCounters::default(),
            cost: ClipCost::default(),
        }
    }

    /// The numbers of clips so far.
    pub fn counters(&self) -> ScheduleCounters {
        self.counters
    }

    /// Number of waiting items.
    pub fn len(&self) -> usize {
        self.queue.len() + self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the caller must wait before the next push; always `false` when live.
    pub fn is_full(&self) -> bool {
        match self.mode {
            Mode::Live { .. } => false,
            Mode::Replay { capacity } => self.queue.len() >= capacity,
        }
    }

    /// Adds an item. Live, a clip replaces the waiting clip of its subject.
    pub fn push(&mut self, item: Aligned) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.counters.pushed += u64::from(matches!(item, Aligned::Clip(_)));
        match (self.mode, item) {
            (Mode::Live { .. }, Aligned::Clip(clip)) => {
                if self.slots.insert(clip.subject, (arrival, clip)).is_some() {
                    self.counters.superseded += 1;
                }
            }
            (Mode::Live { .. }, Aligned::Subject(change))
                if change.phase == SubjectPhase::Updated =>
            {
                // The latest update supersedes earlier ones, so that they do not accumulate.
                let is_superseded = |item: &Aligned| match item {
                    Aligned::Subject(old) => {
                        old.subject == change.subject && old.phase == SubjectPhase::Updated
                    }
                    _ => false,
                };
                self.queue.retain(|(_, item)| !is_superseded(item));
                self.queue.push_back((arrival, Aligned::Subject(change)));
            }
            (_, item) => self.queue.push_back((arrival, item)),
        }
    }

    /// The next item at `now`, after late clips are dropped; `None` if no item is waiting.
    pub fn pop(&mut self, now: MediaTime) -> Option<Aligned> {
        self.drop_late(now);
        let next = self.next()?;
        self.take(next)
    }

    /// All items that are due at `now`, with at most `max` clips. The batch ends before an item
    /// that must be published after one of its clips.
    ///
    /// Live, the estimated cost bounds a batch ([`Schedule::note_encoded`]), so that it does not
    /// make its most urgent clip late. Replaying, a batch is one clip: the number of waiting clips
    /// depends on the pace, and must not change the batches.
    pub fn pop_due(&mut self, now: MediaTime, max: usize) -> Due {
        self.drop_late(now);
        let mut due = Due::default();
        let mut most = max.max(1);
        while let Some(next) = self.next() {
            let is_clip = self.is_clip(&next);
            if !due.clips.is_empty() && !is_clip || due.clips.len() >= most {
                break;
            }
            match self.take(next) {
                Some(Aligned::Clip(clip)) => {
                    if due.clips.is_empty() {
                        most = most.min(self.most_clips(&clip, now));
                    }
                    due.clips.push(clip);
                }
                Some(item) => due.before.push(item),
                None => break,
            }
        }
        due
    }

    /// Adds a measurement to the cost estimate: the encoders took `nanos` nanoseconds for a batch
    /// of `clips` clips.
    pub fn note_encoded(&mut self, clips: usize, nanos: i64) {
        self.cost.note(clips, nanos);
    }

    /// Largest number of clips in a batch at `now` whose most urgent clip is `first`.
    fn most_clips(&self, first: &Clip, now: MediaTime) -> usize {
        match self.mode {
            Mode::Replay { .. } => 1,
            Mode::Live { budget_nanos } => {
                let left_nanos = deadline(first, budget_nanos).nanos_since(now);
                self.cost.most_clips(left_nanos)
            }
        }
    }

    /// Drops and counts the clips whose deadline is before `now`.
    fn drop_late(&mut self, now: MediaTime) {
        if let Mode::Live { budget_nanos } = self.mode {
            let waiting = self.slots.len();
            self.slots
                .retain(|_, (_, clip)| now <= deadline(clip, budget_nanos));
            self.counters.late += (waiting - self.slots.len()) as u64;
        }
    }

    /// Location of the next item; `None` if no item is waiting.
    fn next(&self) -> Option<Next> {
        let Mode::Live { budget_nanos } = self.mode else {
            return (!self.queue.is_empty()).then_some(Next::Queue);
        };
        if let Some((arrival, item)) = self.queue.front() {
            if let Aligned::Subject(change) = item
                && matches!(change.phase, SubjectPhase::Lost | SubjectPhase::Merged)
                && self
                    .slots
                    .get(&change.subject)
                    .is_some_and(|(clip_arrival, _)| clip_arrival < arrival)
            {
                return Some(Next::Slot(change.subject));
            }
            return Some(Next::Queue);
        }
        let waiting = self.slots.iter();
        waiting
            .min_by_key(|(_, (arrival, clip))| (deadline(clip, budget_nanos), *arrival))
            .map(|(subject, _)| Next::Slot(*subject))
    }

    /// Whether the item at this location is a clip.
    fn is_clip(&self, next: &Next) -> bool {
        match next {
            Next::Slot(_) => true,
            Next::Queue => matches!(self.queue.front(), Some((_, Aligned::Clip(_)))),
        }
    }

    /// Removes an item from its location, and counts a clip as taken.
    fn take(&mut self, next: Next) -> Option<Aligned> {
        let item = match next {
            Next::Queue => self.queue.pop_front().map(|(_, item)| item),
            Next::Slot(subject) => {
                let clip = self.slots.remove(&subject);
                clip.map(|(_, clip)| Aligned::Clip(clip))
            }
        };
        self.counters.taken += u64::from(matches!(item, Some(Aligned::Clip(_))));
        item
    }
}

/// Deadline of a clip: the time at which its newest evidence is older than `budget_nanos`. It is at
/// least half of the budget after the clip's output by the aligner, because the evidence may be old
/// already at that time (a slow camera, a hidden face).
pub fn deadline(clip: &Clip, budget_nanos: i64) -> MediaTime {
    clip.newest()
        .unwrap_or(clip.span.end)
        .plus_nanos(budget_nanos)
        .max(clip.aligned_at.plus_nanos(budget_nanos / 2))
}

#[cfg(test)]
mod tests;
