//! Tests of the schedule with a simulated encoder on a virtual clock.

mod due;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clip::{Absence, ClipVoice, SpeechTurn, SubjectChange};
use crate::time::Span;

const MS: i64 = 1_000_000;
const BUDGET_NANOS: i64 = 150 * MS;

fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

/// A clip with its newest evidence at `newest` milliseconds.
fn clip(subject: u32, newest: i64) -> Aligned {
    let span = Span::new(ms(newest - 2000), ms(newest));
    let voice = ClipVoice {
        samples: [].into(),
        speech: 1.0,
        missing_nanos: 0,
        owner_confidence: 1.0,
        newest: span.end,
    };
    Aligned::Clip(Clip {
        subject: SubjectId::Face(subject),
        span,
        faces: Vec::new(),
        faces_missing: 0,
        face_absence: Some(Absence::NoFace),
        voice: Ok(voice),
        text: Err(Absence::NoTranscript),
        skew_nanos: None,
        aligned_at: span.end,
    })
}

fn change(subject: u32, time: i64, phase: SubjectPhase) -> Aligned {
    Aligned::Subject(SubjectChange {
        subject: SubjectId::Face(subject),
        time: ms(time),
        phase,
        into: None,
        rect: [0.0; 4],
        quality: 1.0,
    })
}

fn turn(start: i64) -> Aligned {
    Aligned::Speech(SpeechTurn {
        start: ms(start),
        end: None,
        owner: None,
    })
}

/// The item as text: kind, subject and time in milliseconds, such as `clip s1 400`.
fn describe(item: &Aligned) -> String {
    match item {
        Aligned::Clip(c) => format!("clip {} {}", c.subject, c.span.end.nanos() / MS),
        Aligned::Subject(c) => {
            format!("{:?} {} {}", c.phase, c.subject, c.time.nanos() / MS).to_lowercase()
        }
        Aligned::Speech(t) => format!("turn {}", t.start.nanos() / MS),
        Aligned::Transcript(t) => format!("words {}", t.transcript.span.start.nanos() / MS),
    }
}

fn live() -> Schedule {
    Schedule::new(Mode::Live {
        budget_nanos: BUDGET_NANOS,
    })
}

fn drain(schedule: &mut Schedule, now: MediaTime) -> Vec<String> {
    std::iter::from_fn(|| schedule.pop(now))
        .map(|item| describe(&item))
        .collect()
}

#[test]
fn the_latest_clip_of_a_subject_wins_and_the_oldest_evidence_goes_first() {
    let mut schedule = live();
    for item in [clip(1, 1000), clip(2, 1010), clip(1, 1040)] {
        schedule.push(item);
    }
    assert_eq!(
        drain(&mut schedule, ms(1050)),
        ["clip s2 1010", "clip s1 1040"]
    );
    assert_eq!(
        schedule.counters(),
        ScheduleCounters {
            pushed: 3,
            superseded: 1,
            late: 0,
            taken: 2
        }
    );
}

#[test]
fn a_clip_past_its_deadline_is_dropped_and_counted() {
    let mut schedule = live();
    schedule.push(clip(1, 1000));
    schedule.push(clip(2, 1100));
    assert_eq!(drain(&mut schedule, ms(1151)), ["clip s2 1100"]);
    assert_eq!(
        schedule.counters(),
        ScheduleCounters {
            pushed: 2,
            superseded: 0,
            late: 1,
            taken: 1
        }
    );
    schedule.push(clip(1, 1000));
    assert_eq!(
        drain(&mut schedule, ms(1150)),
        ["clip s1 1000"],
        "the deadline itself is in time"
    );
}

#[test]
fn clips_with_old_evidence_get_half_of_the_budget() {
    let mut schedule = live();
    let slow_camera = |aligned_at| match clip(1, 1000) {
        Aligned::Clip(clip) => Aligned::Clip(Clip {
            aligned_at: ms(aligned_at),
            ..clip
        }),
        other => other,
    };
    schedule.push(slow_camera(1200));
    assert_eq!(
        drain(&mut schedule, ms(1275)),
        ["clip s1 1000"],
        "half of the budget after the output of the aligner"
    );
    schedule.push(slow_camera(1200));
    assert!(drain(&mut schedule, ms(1276)).is_empty());
}

#[test]
fn changes_and_turns_overtake_clips_but_no_loss_overtakes_its_subjects_last_clip() {
    let mut schedule = live();
    for item in [
        clip(2, 990),
        clip(1, 1000),
        turn(900),
        change(1, 1000, SubjectPhase::Lost),
        change(3, 1001, SubjectPhase::Appeared),
        clip(3, 1002),
    ] {
        schedule.push(item);
    }
    assert_eq!(
        drain(&mut schedule, ms(1010)),
        [
            "turn 900",
            "clip s1 1000",
            "lost s1 1000",
            "appeared s3 1001",
            "clip s2 990",
            "clip s3 1002"
        ]
    );
    // The last clip is late and is dropped, so the loss is not held back.
    schedule.push(clip(1, 1000));
    schedule.push(change(1, 1000, SubjectPhase::Lost));
    assert_eq!(drain(&mut schedule, ms(2000)), ["lost s1 1000"]);
}

#[test]
fn waiting_updates_do_not_accumulate() {
    let mut schedule = live();
    (0..1000).for_each(|i| schedule.push(change(i % 3, i64::from(i), SubjectPhase::Updated)));
    assert_eq!(schedule.len(), 3);
}

#[test]
fn a_replay_is_first_in_first_out_and_bounded() {
    let mut schedule = Schedule::new(Mode::Replay { capacity: 3 });
    let items = [
        clip(1, 1000),
        clip(1, 1200),
        change(1, 1200, SubjectPhase::Lost),
    ];
    for item in items {
        assert!(!schedule.is_full());
        schedule.push(item);
    }
    assert!(schedule.is_full());
    assert_eq!(
        drain(&mut schedule, ms(1_000_000)),
        ["clip s1 1000", "clip s1 1200", "lost s1 1200"],
        "nothing is ever late"
    );
    assert_eq!(
        schedule.counters(),
        ScheduleCounters {
            pushed: 2,
            superseded: 0,
            late: 0,
            taken: 2
        }
    );
}

/// Simulates `subjects` subjects at a hop of 200 ms for `seconds`. The encoders take `load` times
/// the time that is available. Returns the schedule, the taken clips (subject, and age in
/// nanoseconds at the start of encoding), and the largest number of waiting items.
fn overload(
    subjects: u32,
    load: f64,
    seconds: i64,
    jitter: &[i64],
) -> (Schedule, Vec<(SubjectId, i64)>, usize) {
    let cost = (200.0 * MS as f64 * load / f64::from(subjects)) as i64;
    let (mut schedule, mut taken, mut most) = (live(), Vec::new(), 0);
    let mut free_at = MediaTime::ZERO;
    for hop in 1..=seconds * 5 {
        for subject in 0..subjects {
            // Clips arrive a little after their newest evidence.
            let newest = hop * 200 + jitter[(hop as usize * 7 + subject as usize) % jitter.len()];
            schedule.push(clip(subject, newest));
            most = most.max(schedule.len());
        }
        let hop_end = ms((hop + 1) * 200);
        free_at = free_at.max(ms(hop * 200 + 50));
        while free_at < hop_end {
            let Some(Aligned::Clip(clip)) = schedule.pop(free_at) else {
                break;
            };
            taken.push((clip.subject, free_at.nanos_since(clip.span.end)));
            free_at = free_at.plus_nanos(cost);
        }
    }
    (schedule, taken, most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// At up to 3.5 times the possible load, encoded clips are fresh, the queue is bounded, every
    /// clip is accounted for, and a fair share of clips is encoded.
    #[test]
    fn overload_drops_clips_and_does_not_delay_them(
        subjects in 1u32..9,
        load in 1.0f64..3.5,
        jitter in prop::collection::vec(-40i64..40, 1..20),
    ) {
        let (mut schedule, taken, most) = overload(subjects, load, 60, &jitter);
        let stalest = taken.iter().map(|(_, stale)| *stale).max();
        prop_assert!(stalest <= Some(BUDGET_NANOS), "{:?}", stalest);
        prop_assert!(most <= subjects as usize);
        let waiting = schedule.len() as u64;
        let c = schedule.counters();
        prop_assert_eq!(c.pushed, 300 * u64::from(subjects));
        prop_assert_eq!(c.pushed, c.superseded + c.late + c.taken + waiting);
        prop_assert_eq!(c.taken, taken.len() as u64);
        prop_assert!(c.taken as f64 > 0.2 * c.pushed as f64 / load, "{:?}", c);
        schedule.pop(MediaTime::MAX);
        prop_assert!(schedule.is_empty());
    }

    /// The items of one subject come out in the order of their arrival, and only clips are dropped.
    #[test]
    fn items_of_a_subject_stay_in_order(
        ops in prop::collection::vec((0u32..3, 0u8..6, 0i64..40), 1..200),
    ) {
        let mut schedule = live();
        let (mut now, mut next) = (0, 0);
        let (mut there, mut notes_sent, mut got) = (BTreeSet::new(), 0, Vec::new());
        for (subject, what, step) in ops {
            now += step;
            next += 1;
            let time = now * 1000 + next; // unique; no clip is late at time 0
            let item = match what {
                0..=2 if there.contains(&subject) => clip(subject, time),
                3 if there.remove(&subject) => change(subject, time, SubjectPhase::Lost),
                3 if there.insert(subject) => change(subject, time, SubjectPhase::Appeared),
                4 => turn(time),
                _ => {
                    got.extend(schedule.pop(MediaTime::ZERO));
                    continue;
                }
            };
            notes_sent += usize::from(!matches!(item, Aligned::Clip(_)));
            schedule.push(item);
        }
        got.extend(std::iter::from_fn(|| schedule.pop(MediaTime::ZERO)));
        let mut last: BTreeMap<Option<SubjectId>, MediaTime> = BTreeMap::new();
        let mut notes = 0;
        for item in &got {
            let (subject, time) = match item {
                Aligned::Clip(c) => (Some(c.subject), c.span.end),
                Aligned::Subject(c) => (Some(c.subject), c.time),
                Aligned::Speech(t) => (None, t.start),
                Aligned::Transcript(t) => (None, t.transcript.span.start),
            };
            notes += usize::from(!matches!(item, Aligned::Clip(_)));
            let before = last.insert(subject, time);
            prop_assert!(before.is_none_or(|last| last < time), "{}", describe(item));
        }
        prop_assert_eq!(notes, notes_sent);
        let c = schedule.counters();
        prop_assert_eq!(c.pushed, c.superseded + c.late + c.taken);
    }
}
