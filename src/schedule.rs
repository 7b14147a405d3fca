//! What waits for the encoders. Pure: whoever calls tells the time.
//!
//! Live, staleness is the enemy: one slot per subject in which the latest clip wins, the earliest deadline first across subjects, and a clip
//! past its deadline is not encoded at all. Replaying, loss is: first in, first out, and [`Schedule::is_full`] tells the caller to wait.
//!
//! Changes of subjects and turns of speech cost nothing to pass on and are never dropped: they overtake clips, with one exception. The end of
//! a subject waits for the clip of that subject that came before it: the clip is taken right away, so that nothing is heard of a subject
//! after its loss. No clip overtakes what came before it.

use std::collections::{BTreeMap, VecDeque};

mod cost;

use cost::ClipCost;

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
    cost: ClipCost,
}

/// What is due at one instant, in the order in which repeated [`Schedule::pop`] would give it.
#[derive(Debug, Default)]
pub struct Due {
    /// Changes of subjects, turns, words: all before the clips.
    pub before: Vec<Aligned>,
    /// Clips to recognise together: nothing is published between them.
    pub clips: Vec<Clip>,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.clips.is_empty()
    }
}

/// The item that is given next.
enum Next {
    /// The front of the line.
    Line,
    /// The subject's clip.
    Slot(SubjectId),
}

impl Schedule {
    pub fn new(mode: Mode) -> Self {
        Schedule {
            mode,
            line: VecDeque::new(),
            slots: BTreeMap::new(),
            arrivals: 0,
            counters: ScheduleCounters::default(),
            cost: ClipCost::default(),
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
        self.drop_late(now);
        let next = self.next()?;
        self.take(next)
    }

    /// All that is due at `now` up to the first item that has to be published after one of the
    /// clips, with at most `max` clips.
    ///
    /// Live, a batch of clips is bounded by its cost ([`Schedule::note_encoded`]), so that it does
    /// not make its most urgent clip late. Replaying, each clip comes alone: how many wait depends
    /// on the pace, and must not decide what shares a run.
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

    /// The encoders took `nanos` for a batch of `clips`.
    pub fn note_encoded(&mut self, clips: usize, nanos: i64) {
        self.cost.note(clips, nanos);
    }

    /// How many clips a batch may have of which `first` is the most urgent.
    fn most_clips(&self, first: &Clip, now: MediaTime) -> usize {
        match self.mode {
            Mode::Replay { .. } => 1,
            Mode::Live { budget_nanos } => {
                let left_nanos = deadline(first, budget_nanos).nanos_since(now);
                self.cost.most_clips(left_nanos)
            }
        }
    }

    fn drop_late(&mut self, now: MediaTime) {
        if let Mode::Live { budget_nanos } = self.mode {
            let waiting = self.slots.len();
            self.slots
                .retain(|_, (_, clip)| now <= deadline(clip, budget_nanos));
            self.counters.late += (waiting - self.slots.len()) as u64;
        }
    }

    fn next(&self) -> Option<Next> {
        let Mode::Live { budget_nanos } = self.mode else {
            return (!self.line.is_empty()).then_some(Next::Line);
        };
        if let Some((arrival, item)) = self.line.front() {
            if let Aligned::Subject(change) = item
                && matches!(change.phase, SubjectPhase::Lost | SubjectPhase::Merged)
                && self
                    .slots
                    .get(&change.subject)
                    .is_some_and(|(clip_arrival, _)| clip_arrival < arrival)
            {
                return Some(Next::Slot(change.subject));
            }
            return Some(Next::Line);
        }
        let waiting = self.slots.iter();
        waiting
            .min_by_key(|(_, (arrival, clip))| (deadline(clip, budget_nanos), *arrival))
            .map(|(subject, _)| Next::Slot(*subject))
    }

    fn is_clip(&self, next: &Next) -> bool {
        match next {
            Next::Slot(_) => true,
            Next::Line => matches!(self.line.front(), Some((_, Aligned::Clip(_)))),
        }
    }

    fn take(&mut self, next: Next) -> Option<Aligned> {
        let item = match next {
            Next::Line => self.line.pop_front().map(|(_, item)| item),
            Next::Slot(subject) => {
                let clip = self.slots.remove(&subject);
                clip.map(|(_, clip)| Aligned::Clip(clip))
            }
        };
        self.counters.taken += u64::from(matches!(item, Some(Aligned::Clip(_))));
        item
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
