use proptest::prelude::*;

use super::*;
use crate::clip::SubjectId;
use crate::hub::testing::expression;

/// The `seq` of every frame that the cursor has for its client.
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
        ring.publish(expression(1, "happy", 0.5, 200 * ring.next_seq() as i64));
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
fn a_stalled_client_keeps_the_newest_and_gets_its_losses_reported() {
    let ring = Arc::new(Ring::default());
    let mut cursor = Cursor::new(ring.clone(), 64);
    publish(&ring, 60);
    cursor.drop_excess();
    assert_eq!(cursor.take_uncounted(), 0);
    publish(&ring, 10);
    cursor.drop_excess();
    assert_eq!(cursor.take_uncounted(), 6);
    publish(&ring, 30);
    cursor.drop_excess();
    assert_eq!(cursor.take_uncounted(), 30);
    assert_eq!(
        cursor.next_frame(),
        Some(Next::Dropped(Missed::range(1, 36)))
    );
    assert_eq!(drain(&mut cursor), (37..=100).collect::<Vec<_>>());
}

#[test]
fn only_subscribed_events_count_as_dropped() {
    let ring = Arc::new(Ring::default());
    let mut cursor = Cursor::new(ring.clone(), 4);
    cursor
        .subscribe(
            Subscription {
                subjects: Some(vec![SubjectId::Face(2)]),
                ..Default::default()
            },
            None,
        )
        .unwrap();
    for i in 0..20 {
        ring.publish(expression(1, "happy", 0.5, i * 200));
        ring.publish(expression(2, "happy", 0.5, i * 200));
    }
    cursor.drop_excess();
    assert_eq!(
        cursor.next_frame(),
        Some(Next::Dropped(Missed {
            count: 16,
            from_seq: 2,
            to_seq: 32
        }))
    );
    assert_eq!(drain(&mut cursor), [34, 36, 38, 40]);
}

#[test]
fn resuming_sends_the_events_in_the_ring_first_and_none_twice() {
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
    assert_eq!(
        cursor.subscribe(Subscription::default(), Some(16)),
        Err(NotPublished { next_seq: 16 })
    );
    cursor.subscribe(Subscription::default(), Some(15)).unwrap();
    assert_eq!(drain(&mut cursor), Vec::<u64>::new());
    // Events that left the ring before this client connected are reported; those that it got are
    // not.
    publish(&ring, 4);
    drain(&mut cursor);
    cursor.subscribe(Subscription::default(), Some(1)).unwrap();
    assert_eq!(
        cursor.next_frame(),
        Some(Next::Dropped(Missed::range(2, 3)))
    );
    assert_eq!(drain(&mut cursor), Vec::<u64>::new());
}

#[test]
fn a_second_replay_repeats_no_event_and_no_report() {
    let ring = Arc::new(Ring::new(16, 1 << 20));
    publish(&ring, 30);
    let mut cursor = Cursor::new(ring.clone(), 64);
    let resume = |cursor: &mut Cursor, after| {
        cursor
            .subscribe(Subscription::default(), Some(after))
            .unwrap();
    };
    resume(&mut cursor, 20);
    assert_eq!(drain(&mut cursor), (21..=30).collect::<Vec<_>>());
    resume(&mut cursor, 0);
    let dropped = |from, to| Some(Next::Dropped(Missed::range(from, to)));
    assert_eq!(cursor.next_frame(), dropped(1, 14));
    assert_eq!(drain(&mut cursor), (15..=20).collect::<Vec<_>>());
    // All of these leave the ring, and some later ones wait too long.
    publish(&ring, 10);
    assert_eq!(drain(&mut cursor), (31..=40).collect::<Vec<_>>());
    publish(&ring, 20);
    resume(&mut cursor, 0);
    assert_eq!(cursor.next_frame(), dropped(41, 44));
    assert_eq!(drain(&mut cursor), (45..=60).collect::<Vec<_>>());
    resume(&mut cursor, 0);
    assert_eq!(drain(&mut cursor), Vec::<u64>::new());
}

#[test]
fn a_replay_reports_waiting_events_that_have_left_the_ring() {
    let ring = Arc::new(Ring::new(16, 1 << 20));
    publish(&ring, 5);
    let mut cursor = Cursor::new(ring.clone(), 64);
    publish(&ring, 10);
    cursor.drop_excess();
    assert!(matches!(
        cursor.next_frame(),
        Some(Next::Frame { seq: 6, .. })
    ));
    publish(&ring, 20);
    cursor.drop_excess();
    cursor.subscribe(Subscription::default(), Some(2)).unwrap();
    let reported: Vec<_> = std::iter::from_fn(|| cursor.take_missed()).collect();
    // 6 lies between and was sent.
    assert_eq!(reported, [Missed::range(3, 5), Missed::range(7, 19)]);
    assert_eq!(drain(&mut cursor), (20..=35).collect::<Vec<_>>());
}

#[test]
fn a_subscription_filters_by_label_confidence_and_rate() {
    let ring = Arc::new(Ring::default());
    let sent = |subscription: Subscription| {
        let mut cursor = Cursor::new(ring.clone(), 64);
        cursor.subscribe(subscription, Some(0)).unwrap();
        drain(&mut cursor)
    };
    ring.publish(expression(1, "happy", 0.9, 0));
    ring.publish(expression(1, "sad", 0.69999, 200));
    ring.publish(expression(2, "happy", 0.6, 200));
    ring.publish(expression(1, "happy", 0.8, 400));
    ring.publish(expression(1, "happy", 0.8, 500));
    assert_eq!(sent(Subscription::default()), [1, 2, 3, 4, 5]);
    assert_eq!(
        sent(Subscription {
            labels: Some(vec!["sad".into()]),
            ..Default::default()
        }),
        [2]
    );
    // The client sees 0.7, so the filter uses 0.7.
    assert_eq!(
        sent(Subscription {
            min_confidence: Some(0.7),
            ..Default::default()
        }),
        [1, 2, 4, 5]
    );
    assert_eq!(
        sent(Subscription {
            max_rate_hz: Some(2.5),
            ..Default::default()
        }),
        [1, 3, 4]
    );
    for none in [
        Subscription {
            events: Some(vec![]),
            ..Default::default()
        },
        Subscription {
            subjects: Some(vec![]),
            ..Default::default()
        },
        Subscription {
            labels: Some(vec![]),
            ..Default::default()
        },
    ] {
        assert_eq!(sent(none), Vec::<u64>::new());
    }
}

proptest! {
    /// For any sequence of publishing, sending and subscribing, every matching event is sent or
    /// counted as dropped, in order and none twice.
    #[test]
    fn every_matching_event_is_sent_or_counted_as_dropped(
        steps in prop::collection::vec((0u8..4, 1usize..40), 1..60),
        limit in 1usize..20,
    ) {
        let ring = Arc::new(Ring::new(64, 1 << 20));
        let mut cursor = Cursor::new(ring.clone(), limit);
        let wanted = Subscription {
            subjects: Some(vec![SubjectId::Face(0)]),
            ..Default::default()
        };
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
                0 | 1 => (0..amount).for_each(|_| {
                    time += 1;
                    ring.publish(expression(time as u32 % 3, "happy", 0.5, time));
                }),
                2 => take(&mut cursor, &mut got, &mut dropped, amount),
                _ => cursor.subscribe(wanted.clone(), None).unwrap(),
            }
            // The ring must not overtake the cursor here; in the daemon, the socket's task prevents
            // that.
            if step < 2 { cursor.drop_excess(); }
        }
        take(&mut cursor, &mut got, &mut dropped, usize::MAX);
        prop_assert!(got.is_sorted_by(|a, b| a < b));
        prop_assert!(got.iter().all(|seq| seq % 3 == 0));
        prop_assert_eq!(got.len() as u64 + dropped, (time / 3) as u64);
    }

    /// For any sequence of replays, each event after the lowest `resume_after` is sent or reported
    /// as dropped. None is sent twice, and none is reported after it was sent.
    #[test]
    fn with_replays_every_event_is_sent_once_or_reported_as_dropped(
        steps in prop::collection::vec((0u8..6, 1usize..40), 1..80),
        limit in 1usize..20,
    ) {
        let ring = Arc::new(Ring::new(32, 1 << 20));
        publish(&ring, 50);
        let mut cursor = Cursor::new(ring.clone(), limit);
        // By seq: how often it was sent, and reported.
        let (mut sent, mut reported) = (vec![0; 4000], vec![0; 4000]);
        // The client has a claim to events after the lowest `resume_after`, except events that a
        // later `resume_after` skips.
        let (mut lowest, mut skipped) = (50, vec![false; 4000]);
        let note = |next: Next, sent: &mut Vec<u32>, reported: &mut Vec<u32>| match next {
            Next::Frame { seq, .. } => sent[seq as usize] += 1,
            Next::Dropped(missed) => {
                // A gap may span events that were reported before.
                assert!(missed.count <= missed.to_seq - missed.from_seq + 1);
                for seq in missed.from_seq..=missed.to_seq {
                    assert_eq!(sent[seq as usize], 0, "{seq} was sent before");
                    reported[seq as usize] += 1;
                }
            }
        };
        for (step, amount) in steps {
            match step {
                0 | 1 => publish(&ring, amount),
                2 => for _ in 0..amount {
                    let Some(next) = cursor.next_frame() else { break };
                    note(next, &mut sent, &mut reported);
                },
                3 => cursor.drop_excess(),
                4 => cursor.subscribe(Subscription::default(), None).unwrap(),
                _ => {
                    let newest = ring.next_seq() - 1;
                    let after = newest.saturating_sub(3 * amount as u64);
                    while let Some(missed) = cursor.take_missed() {
                        note(Next::Dropped(missed), &mut sent, &mut reported);
                    }
                    cursor.subscribe(Subscription::default(), Some(after)).unwrap();
                    lowest = lowest.min(after);
                    (lowest + 1..=after).for_each(|seq| skipped[seq as usize] = true);
                }
            }
        }
        while let Some(next) = cursor.next_frame() {
            note(next, &mut sent, &mut reported);
        }
        for seq in 1..ring.next_seq() {
            let (sent, reported) = (sent[seq as usize], reported[seq as usize]);
            prop_assert!(sent <= 1, "{} was sent {} times", seq, sent);
            if seq > lowest && !skipped[seq as usize] {
                prop_assert!(sent + reported >= 1, "{} is unexplained", seq);
            }
        }
    }
}
