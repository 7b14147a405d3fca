//! Tests of the inference queue under the model checker `shuttle`, which runs its two threads in
//! many interleavings.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;

use super::*;
use crate::clip::{Absence, Clip, SubjectChange, SubjectId, SubjectPhase};
use crate::notify::Progress;
use crate::schedule::Mode;
use crate::sync::schedules::explore;
use crate::time::{ManualClock, MediaTime, Span};

const BUDGET_NANOS: i64 = 150_000_000;

/// A clip of `subject` that ends at `end_ms`, with no evidence.
fn clip(subject: u32, end_ms: i64) -> Aligned {
    let (start, end) = (
        MediaTime::from_millis(end_ms - 2000),
        MediaTime::from_millis(end_ms),
    );
    Aligned::Clip(Clip {
        subject: SubjectId::Face(subject),
        span: Span::new(start, end),
        faces: Vec::new(),
        faces_missing: 0,
        face_absence: Some(Absence::NoFace),
        voice: Err(Absence::NoSpeech),
        text: Err(Absence::NoTranscript),
        skew_nanos: None,
        aligned_at: end,
    })
}

fn change(subject: u32, time_ms: i64, phase: SubjectPhase) -> Aligned {
    Aligned::Subject(SubjectChange {
        subject: SubjectId::Face(subject),
        time: MediaTime::from_millis(time_ms),
        phase,
        into: None,
        rect: [0.0; 4],
        quality: 1.0,
    })
}

/// Identifies an item of the queue: its subject, its time in milliseconds, and whether it is a
/// clip.
type Mark = (SubjectId, i64, bool);

fn mark(item: &Aligned) -> Mark {
    match item {
        Aligned::Clip(clip) => (clip.subject, clip.span.end.nanos() / 1_000_000, true),
        Aligned::Subject(change) => (change.subject, change.time.nanos() / 1_000_000, false),
        other => panic!("these tests send no {other:?}"),
    }
}

/// Takes items until the queue ends. The model checker has no timeouts, so a missing notification
/// would be a deadlock.
fn drain(queue: &InferenceQueue, now: MediaTime, max_clips: usize) -> Vec<Mark> {
    let clock = ManualClock::default();
    clock.advance_to(now);
    let mut taken = Vec::new();
    loop {
        match queue.pop_due(&clock, max_clips) {
            Popped::Due(due) => {
                assert!(!due.is_empty() && due.clips.len() <= max_clips);
                taken.extend(due.before.iter().map(mark));
                taken.extend(due.clips.into_iter().map(|clip| mark(&Aligned::Clip(clip))));
            }
            Popped::TimedOut => {}
            Popped::Ended => return taken,
        }
    }
}

fn heartbeat() -> Heartbeat {
    Progress::new(Duration::from_secs(1), MediaTime::ZERO).add("align", MediaTime::ZERO)
}

#[test]
fn in_a_replay_the_queue_returns_every_item_in_order() {
    explore(|| {
        let queue = Arc::new(InferenceQueue::new(Schedule::new(Mode::Replay {
            capacity: 1,
        })));
        let items = || {
            [
                change(1, 0, SubjectPhase::Appeared),
                clip(1, 100),
                clip(1, 200),
            ]
        };
        let pushing = thread::spawn({
            let queue = queue.clone();
            move || {
                for item in items() {
                    queue
                        .push(item, &heartbeat())
                        .expect("the recognizer is there");
                }
                queue.end();
            }
        });
        let taken = drain(&queue, MediaTime::ZERO, 2);
        pushing.join().unwrap();
        assert_eq!(taken, items().each_ref().map(mark));
        let counters = queue.counters();
        assert_eq!((counters.pushed, counters.taken), (2, 2));
    });
}

#[test]
fn a_live_queue_counts_every_dropped_clip_and_drops_no_other_item() {
    explore(|| {
        let queue = Arc::new(InferenceQueue::new(Schedule::new(Mode::Live {
            budget_nanos: BUDGET_NANOS,
        })));
        let pushing = thread::spawn({
            let queue = queue.clone();
            move || {
                let items = [
                    change(1, 0, SubjectPhase::Appeared),
                    clip(1, 1000),
                    clip(2, 1010),
                    clip(1, 1100),
                    change(1, 1150, SubjectPhase::Lost),
                ];
                for item in items {
                    queue
                        .push(item, &heartbeat())
                        .expect("the recognizer is there");
                }
                queue.end();
            }
        });
        // At 1.155 s the clips of 1000 and of 1010 ms are late or nearly so.
        let taken = drain(&queue, MediaTime::from_millis(1155), 4);
        pushing.join().unwrap();
        let counters = queue.counters();
        let clips = taken.iter().filter(|mark| mark.2).count() as u64;
        assert_eq!((counters.pushed, counters.taken), (3, clips));
        assert_eq!(counters.superseded + counters.late + counters.taken, 3);
        let first = SubjectId::Face(1);
        let changes: Vec<_> = taken.iter().filter(|mark| !mark.2).collect();
        assert_eq!(changes, [&(first, 0, false), &(first, 1150, false)]);
        let of_first: Vec<_> = taken.iter().filter(|mark| mark.0 == first).collect();
        assert_eq!(of_first.last(), Some(&&(first, 1150, false)));
        assert!(of_first.is_sorted_by_key(|mark| mark.1), "{of_first:?}");
    });
}

#[test]
fn a_waiting_push_fails_when_the_recognizer_ends() {
    explore(|| {
        let queue = Arc::new(InferenceQueue::new(Schedule::new(Mode::Replay {
            capacity: 1,
        })));
        let pushing = thread::spawn({
            let queue = queue.clone();
            move || {
                // The queue takes one item; another waits for room.
                let results: Vec<_> = (1..4)
                    .map(|second| queue.push(clip(1, 1000 * second), &heartbeat()).is_ok())
                    .collect();
                assert!(results.is_sorted_by(|before, after| before >= after));
                assert!(!results[2], "an item was taken by nothing");
            }
        });
        let clock = ManualClock::default();
        if let Popped::Due(due) = queue.pop_due(&clock, 1) {
            assert_eq!(due.clips.len(), 1);
        }
        queue.note_encoded(1, 1000);
        queue.abandon();
        pushing.join().unwrap();
    });
}
