//! What waits for the encoders. Pure: whoever calls tells the time.
//!
//! Live, staleness is the enemy: one slot per subject in which the latest clip wins, the earliest deadline first across subjects, and a clip
//! past its deadline is not encoded at all. Replaying, loss is: first in, first out, and [`Schedule::is_full`] tells the caller to wait.
//!
//! Changes of subjects and turns of speech cost nothing to pass on and are never dropped: they overtake clips, with one exception. The end of
//! a subject waits for the clip of that subject that came before it: the clip is taken right away, so that nothing is heard of a subject
//! after its loss. No clip overtakes what came before it.

use std::collections::{BTreeMap, VecDeque};

use crate::align::Aligned;
use crate::clip::{Clip, SubjectId, SubjectPhase};
use crate::time::MediaTime;

/// What to do when clips come faster than they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A clip's deadline is its newest evidence plus the budget; see [`deadline`].
    Live { budget_nanos: i64 },
    /// At most `capacity` items wait.
    Replay { capacity: usize },
}

/// Where every clip went: `pushed = superseded + late + taken + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleCounters {
    pub pushed: u64,
    /// A newer clip of the same subject took the place.
    pub superseded: u64,
    /// The deadline passed before the encoders were free.
    pub late: u64,
    pub taken: u64,
}

#[derive(Debug)]
pub struct Schedule {
    mode: Mode,
    /// Replaying: everything. Live: all but clips.
    line: VecDeque<(u64, Aligned)>,
    /// Live: the latest clip of each subject.
    slots: BTreeMap<SubjectId, (u64, Clip)>,
    /// Items pushed so far: the order of arrival.
    arrivals: u64,
    counters: ScheduleCounters,
}

impl Schedule {
    pub fn new(mode: Mode) -> Self {
        Schedule {
            mode,
            line: VecDeque::new(),
            slots: BTreeMap::new(),
            arrivals: 0,
            counters: ScheduleCounters::default(),
        }
    }

    pub fn counters(&self) -> ScheduleCounters {
        self.counters
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.line.len() + self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaying: the caller must wait before it pushes more. Live: never.
    pub fn is_full(&self) -> bool {
        match self.mode {
            Mode::Live { .. } => false,
            Mode::Replay { capacity } => self.line.len() >= capacity,
        }
    }

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
                // The latest update says all; so updates that nobody takes do not pile up.
                self.line.retain(|(_, item)| !matches!(item, Aligned::Subject(old) if old.subject == change.subject && old.phase == SubjectPhase::Updated));
                self.line.push_back((arrival, Aligned::Subject(change)));
            }
            (_, item) => self.line.push_back((arrival, item)),
        }
    }

    /// The next item, if any is worth its while at `now`.
    pub fn pop(&mut self, now: MediaTime) -> Option<Aligned> {
        let item = match self.mode {
            Mode::Replay { .. } => self.line.pop_front().map(|(_, item)| item),
            Mode::Live { budget_nanos } => {
                let waiting = self.slots.len();
                self.slots
                    .retain(|_, (_, clip)| now <= deadline(clip, budget_nanos));
                self.counters.late += (waiting - self.slots.len()) as u64;
                self.pop_live(budget_nanos)
            }
        };
        self.counters.taken += u64::from(matches!(item, Some(Aligned::Clip(_))));
        item
    }

    fn pop_live(&mut self, budget_nanos: i64) -> Option<Aligned> {
        if let Some((arrival, item)) = self.line.front() {
            if let Aligned::Subject(change) = item
                && matches!(change.phase, SubjectPhase::Lost | SubjectPhase::Merged)
                && self
                    .slots
                    .get(&change.subject)
                    .is_some_and(|(clip_arrival, _)| clip_arrival < arrival)
            {
                let subject = change.subject;
                return self
                    .slots
                    .remove(&subject)
                    .map(|(_, clip)| Aligned::Clip(clip));
            }
            return self.line.pop_front().map(|(_, item)| item);
        }
        let subject = self
            .slots
            .iter()
            .min_by_key(|(_, (arrival, clip))| (deadline(clip, budget_nanos), *arrival))
            .map(|(subject, _)| *subject)?;
        self.slots
            .remove(&subject)
            .map(|(_, clip)| Aligned::Clip(clip))
    }
}

/// When an answer to the clip is too late to be of use: when its newest evidence is older than the budget. What was old already when the
/// aligner let it go (a slow camera, a face that is hidden) still gets half of the budget: it cannot be had any fresher.
pub fn deadline(clip: &Clip, budget_nanos: i64) -> MediaTime {
    clip.newest()
        .unwrap_or(clip.span.end)
        .plus_nanos(budget_nanos)
        .max(clip.aligned_at.plus_nanos(budget_nanos / 2))
}

#[cfg(test)]
mod tests;
