//! The inference queue: a [`Schedule`] shared by the threads "align" and "infer". The server reads
//! its counters.

use super::callbacks::TICK;
use super::failure::StageError;
use crate::align::Aligned;
use crate::notify::Heartbeat;
use crate::schedule::{Due, Schedule, ScheduleCounters};
use crate::sync::{Condvar, Mutex};
use crate::time::Clock;

#[cfg(all(test, feature = "shuttle"))]
mod concurrency;

/// The queue of the aligner's outputs in front of the recognizer, shared by their threads.
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
    /// The items that are due, at least one.
    Due(Due),
    /// Nothing was due within [`TICK`].
    TimedOut,
    /// The aligner has ended and the queue is empty.
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

    /// Adds an output of the aligner. While the queue is full, it waits and sends heartbeats.
    ///
    /// # Errors
    /// The recognizer has ended.
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

    /// Takes the items that are due, with at most `max_clips` clips. Waits for them at most
    /// [`TICK`].
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

    /// Records that the recognizer needed `nanos` nanoseconds for a batch of `clips` clips. The
    /// schedule uses this to estimate which clips would be late.
    pub(super) fn note_encoded(&self, clips: usize, nanos: i64) {
        let mut state = self.state.lock().expect("queue lock");
        state.schedule.note_encoded(clips, nanos);
    }

    /// Marks that the aligner has ended: [`Self::pop_due`] returns `Ended` once the queue is empty.
    pub(super) fn end(&self) {
        self.state.lock().expect("queue lock").ended = true;
        self.changed.notify_all();
    }

    /// Marks that the recognizer has ended: a waiting [`Self::push`] and all later ones fail.
    pub(super) fn abandon(&self) {
        self.state.lock().expect("queue lock").abandoned = true;
        self.changed.notify_all();
    }
}
