//! The inference queue: a schedule shared by the threads of aligner and recognizer, and read by the
//! status.

use super::callbacks::TICK;
use super::failure::StageError;
use crate::align::Aligned;
use crate::notify::Heartbeat;
use crate::schedule::{Due, Schedule, ScheduleCounters};
use crate::sync::{Condvar, Mutex};
use crate::time::Clock;

#[cfg(all(test, feature = "shuttle"))]
mod concurrency;

/// The queue between the aligner and the recognizer.
#[derive(Debug)]
pub struct InferenceQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    /// Whether the aligner has ended.
    ended: bool,
    /// Whether the recognizer has ended.
    abandoned: bool,
}

/// The result of [`InferenceQueue::pop_due`].
pub(super) enum Popped {
    /// Not empty.
    Due(Due),
    TimedOut,
    Ended,
}

impl InferenceQueue {
    pub fn new(schedule: Schedule) -> InferenceQueue {
        InferenceQueue {
            state: Mutex::new(State {
                schedule,
                ended: false,
                abandoned: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The schedule's counters so far.
    pub fn counters(&self) -> ScheduleCounters {
        self.state.lock().expect("queue lock").schedule.counters()
    }

    /// Adds an item. Waits for room if the schedule is full.
    pub(super) fn push(&self, aligned: Aligned, heartbeat: &Heartbeat) -> Result<(), StageError> {
        let mut state = self.state.lock().expect("queue lock");
        while state.schedule.is_full() && !state.abandoned {
            heartbeat.send();
            state = self
                .changed
                .wait_timeout(state, TICK)
                .expect("queue lock")
                .0;
        }
        if state.abandoned {
            return Err(StageError::Gone("recognizer"));
        }
        state.schedule.push(aligned);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for due items, at most [`TICK`]. Returns at most `max_clips` clips.
    pub(super) fn pop_due(&self, clock: &dyn Clock, max_clips: usize) -> Popped {
        let mut state = self.state.lock().expect("queue lock");
        let due = state.schedule.pop_due(clock.now(), max_clips);
        if due.is_empty() {
            if state.ended {
                return Popped::Ended;
            }
            drop(self.changed.wait_timeout(state, TICK).expect("queue lock"));
            return Popped::TimedOut;
        }
        drop(state);
        self.changed.notify_all();
        Popped::Due(due)
    }

    /// Notes that the recognizer took `nanos` nanoseconds for a batch of `clips` clips.
    pub(super) fn note_encoded(&self, clips: usize, nanos: i64) {
        let mut state = self.state.lock().expect("queue lock");
        state.schedule.note_encoded(clips, nanos);
    }

    /// The producer's end: the queue ends once it is empty.
    pub(super) fn end(&self) {
        self.state.lock().expect("queue lock").ended = true;
        self.changed.notify_all();
    }

    /// The consumer's end: waiting and later pushes fail.
    pub(super) fn abandon(&self) {
        self.state.lock().expect("queue lock").abandoned = true;
        self.changed.notify_all();
    }
}
