//! Tests that batches contain the same items in the same order as single items.

use super::*;

/// A clip if `what` is 0 to 2, otherwise a subject change or a turn.
fn item(subject: u32, what: u8, time: i64) -> Aligned {
    match what {
        0..=2 => clip(subject, time),
        3 => change(subject, time, SubjectPhase::Lost),
        4 => change(subject, time, SubjectPhase::Updated),
        _ => turn(time),
    }
}

fn modes() -> [Mode; 2] {
    let budget_nanos = BUDGET_NANOS;
    [Mode::Live { budget_nanos }, Mode::Replay { capacity: 1000 }]
}

/// All items that are due at `now`, batch by batch.
fn batches(schedule: &mut Schedule, now: MediaTime, max: usize) -> Vec<Due> {
    let next = || Some(schedule.pop_due(now, max)).filter(|due| !due.is_empty());
    std::iter::from_fn(next).collect()
}

fn in_order(batches: &[Due]) -> Vec<String> {
    let items_of = |due: &Due| {
        let clips = due.clips.iter().cloned().map(Aligned::Clip);
        let items = due.before.iter().cloned().chain(clips);
        items.map(|item| describe(&item)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(items_of).collect()
}

#[test]
fn a_batch_holds_clips_of_all_subjects_after_their_changes() {
    let mut schedule = live();
    schedule.note_encoded(1, MS);
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
    let batches = batches(&mut schedule, ms(1010), 16);
    let each: Vec<_> = batches
        .iter()
        .map(|due| in_order(std::slice::from_ref(due)))
        .collect();
    assert_eq!(each[0], ["turn 900", "clip s1 1000"]);
    assert_eq!(
        each[1],
        [
            "lost s1 1000",
            "appeared s3 1001",
            "clip s2 990",
            "clip s3 1002"
        ]
    );
    assert_eq!(batches.len(), 2);
}

#[test]
fn a_batch_does_not_make_its_most_urgent_clip_late() {
    let mut schedule = live();
    schedule.note_encoded(2, 2 * 10 * MS);
    (0..8).for_each(|subject| schedule.push(clip(subject, 1000)));
    // 90 ms are left to the most urgent clip, half of them for the batch; then 30 ms, then 5 ms.
    assert_eq!(schedule.pop_due(ms(1060), 16).clips.len(), 4);
    assert_eq!(schedule.pop_due(ms(1120), 16).clips.len(), 1);
    assert_eq!(schedule.pop_due(ms(1145), 16).clips.len(), 1);
    assert!(schedule.pop_due(ms(1151), 16).is_empty());
    let c = schedule.counters();
    assert_eq!((c.taken, c.late), (6, 2));
}

#[test]
fn a_replay_has_batches_of_one_clip() {
    let mut schedule = Schedule::new(Mode::Replay { capacity: 64 });
    schedule.note_encoded(1, MS);
    (0..4).for_each(|subject| schedule.push(clip(subject, 1000)));
    let batches = batches(&mut schedule, ms(1000), 16);
    assert!(batches.iter().all(|due| due.clips.len() == 1));
    assert_eq!(batches.len(), 4);
}

proptest! {
    /// Batches equal repeated calls of [`Schedule::pop`], including order and counters.
    #[test]
    fn batches_equal_single_items(
        ops in prop::collection::vec((0u32..5, 0u8..7, 0i64..60), 1..120),
        max in 1usize..20,
        cost_micros in 0i64..40_000,
        replays in any::<bool>(),
    ) {
        let mode = modes()[usize::from(replays)];
        let (mut single, mut batched) = (Schedule::new(mode), Schedule::new(mode));
        batched.note_encoded(1, cost_micros * 1000);
        let mut now = 1000;
        for (subject, what, step) in ops {
            now += step;
            if what < 6 {
                single.push(item(subject, what, now));
                batched.push(item(subject, what, now));
                continue;
            }
            // Some clips were added more than a budget ago and are late.
            let got = batches(&mut batched, ms(now), max);
            prop_assert!(got.iter().all(|due| due.clips.len() <= max));
            prop_assert_eq!(in_order(&got), drain(&mut single, ms(now)));
            prop_assert_eq!(batched.counters(), single.counters());
        }
        let got = batches(&mut batched, ms(now), max);
        prop_assert_eq!(in_order(&got), drain(&mut single, ms(now)));
        prop_assert!(batched.is_empty() && single.is_empty());
        let c = batched.counters();
        prop_assert_eq!(&c, &single.counters());
        prop_assert_eq!(c.pushed, c.superseded + c.late + c.taken);
    }

    /// Under load, no clip is taken past its deadline. By the cost estimate, no batch of several
    /// clips ends past the deadline of its most urgent clip.
    #[test]
    fn no_batch_delays_its_most_urgent_clip_past_the_deadline(
        ages in prop::collection::vec(0i64..150, 1..16),
        cost in 1i64..60,
    ) {
        let mut schedule = live();
        schedule.note_encoded(1, cost * MS);
        let mut now = 2000;
        for (subject, age) in ages.iter().enumerate() {
            schedule.push(clip(subject as u32, now - age));
        }
        loop {
            let due = schedule.pop_due(ms(now), 16);
            if due.is_empty() {
                break;
            }
            let took = due.clips.len() as i64 * cost;
            let ends = due.clips.iter().map(|clip| deadline(clip, BUDGET_NANOS));
            let first = ends.min().unwrap();
            prop_assert!(first >= ms(now));
            prop_assert!(due.clips.len() == 1 || ms(now + took) <= first);
            now += took;
        }
    }
}
