use proptest::prelude::*;

use super::*;
use crate::hub::testing::{any_event, expression, words};

#[test]
fn the_ring_is_bounded_in_events_and_in_bytes() {
    let ring = Ring::new(8, 1 << 20);
    (0..20).for_each(|i| assert_eq!(ring.publish(expression(1, "happy", 0.5, i)), i as u64 + 1));
    assert_eq!(ring.content().oldest_seq(), 13);
    assert_eq!(ring.next_seq(), 21);
    let one = ring.held_bytes() / 8;
    let small = Ring::new(1000, 3 * one);
    for i in 0..20 {
        small.publish(expression(1, "happy", 0.5, i));
    }
    assert!(
        small.held_bytes() <= 3 * one && small.held_bytes() > one,
        "{} of {}",
        small.held_bytes(),
        3 * one
    );
}

#[test]
fn events_with_large_texts_displace_only_older_events_with_text() {
    let ring = Arc::new(Ring::new(1024, 2 << 20));
    let mut reader = ring.reader();
    for i in 0..400 {
        ring.publish(expression(1, "happy", 0.5, i));
        ring.publish(words(64 << 10));
    }
    let content = ring.content();
    assert!(content.bytes() <= 2 << 20, "{} bytes", content.bytes());
    assert_eq!(content.oldest_seq(), 1, "the oldest expression is there");
    let (mut expressions, mut texts) = (0, Vec::new());
    for seq in 1..content.next_seq() {
        let kind = content.keys(seq).unwrap().kind;
        match content.get(seq) {
            Some(_) if kind == "expression" => expressions += 1,
            Some(_) => texts.push(seq),
            None => assert_eq!(kind, "speech"),
        }
    }
    assert_eq!(expressions, 400);
    let newest = content.next_seq() - 1;
    assert!(texts.len() > 5 && texts.is_sorted() && texts[texts.len() - 1] == newest);
    assert!(
        texts[0] > newest - 2 * texts.len() as u64,
        "the newest stay"
    );
    drop(content);

    // A late reader gets each event, or its loss.
    let (mut next, mut lost) = (1, 0);
    while next <= newest {
        match reader.read(Duration::ZERO) {
            Read::Event(published) => {
                assert_eq!(published.seq, next);
                next += 1;
            }
            Read::Missed(missed) => {
                assert_eq!(missed.from_seq, next);
                next = missed.to_seq + 1;
                lost += missed.count;
            }
            other => panic!("{other:?} before {next}"),
        }
    }
    assert_eq!(lost, 400 - texts.len() as u64);
}

#[test]
fn a_replay_reports_events_whose_frames_the_ring_dropped() {
    use crate::hub::{Cursor, Next};
    let ring = Arc::new(Ring::new(1024, 64 << 10));
    for i in 0..10 {
        ring.publish(expression(1, "happy", 0.5, i));
        ring.publish(words(30 << 10));
    }
    let mut cursor = Cursor::new(ring.clone(), 64);
    let all = crate::event::Subscription::default();
    cursor.subscribe(all, Some(0)).unwrap();
    let (mut sent, mut dropped) = (0, 0);
    while let Some(next) = cursor.next_frame() {
        match next {
            Next::Frame { .. } => sent += 1,
            Next::Dropped(missed) => dropped += missed.count,
        }
    }
    assert!(dropped >= 8, "{dropped} were let go of");
    assert_eq!(sent + dropped, 20);
}

#[test]
fn a_blocking_reader_gets_events_in_order_and_displaced_ones_as_missed() {
    let ring = Arc::new(Ring::new(4, 1 << 20));
    let mut reader = ring.reader();
    assert!(matches!(reader.read(Duration::ZERO), Read::TimedOut));
    for i in 0..6 {
        ring.publish(expression(1, "happy", 0.5, i));
    }
    let Read::Missed(missed) = reader.read(Duration::ZERO) else {
        panic!("nothing is missed");
    };
    assert_eq!(missed, Missed::range(1, 2));
    for expected in 3..=6 {
        let Read::Event(published) = reader.read(Duration::ZERO) else {
            panic!("an event is missing");
        };
        assert_eq!(published.seq, expected);
    }
    ring.close();
    assert!(matches!(reader.read(Duration::from_secs(60)), Read::Ended));
}

#[test]
fn publishers_on_many_threads_leave_no_gap() {
    let ring = Arc::new(Ring::new(4096, 64 << 20));
    std::thread::scope(|scope| {
        for subject in 0..4 {
            let ring = &ring;
            scope.spawn(move || {
                for i in 0..250 {
                    ring.publish(expression(subject, "happy", 0.5, i));
                }
            });
        }
    });
    let content = ring.content();
    for seq in 1..=1000 {
        let frame: serde_json::Value =
            serde_json::from_str(&content.get(seq).unwrap().frame).unwrap();
        assert_eq!(frame["seq"], seq);
    }
}

#[test]
fn an_event_whose_frame_was_dropped_keeps_no_text() {
    let ring = Arc::new(Ring::new(1024, 64 << 10));
    ring.publish(expression(1, "happy", 0.5, 0));
    let texts = Arc::new(words(20 << 10));
    let text = Arc::downgrade(&texts);
    let lost = ring.publish(texts);
    assert!(ring.content().get(lost).is_some() && text.strong_count() == 1);
    ring.publish(words(20 << 10));
    let content = ring.content();
    assert_eq!(content.oldest_seq(), 1, "its slot is there");
    assert!(content.get(lost).is_none());
    assert_eq!(content.keys(lost).unwrap().kind, "speech");
    assert_eq!(text.strong_count(), 0, "its words are not");
}

#[test]
fn the_debug_output_of_a_speech_event_has_no_text() {
    let ring = Arc::new(Ring::default());
    let mut reader = ring.reader();
    ring.publish(words(100));
    let line = format!("{:?}", reader.read(Duration::ZERO));
    assert!(line.contains("speech") && !line.contains("xx"), "{line}");
}

proptest! {
    #[test]
    fn the_frame_of_a_published_event_is_the_json_of_its_typed_event(
        events in prop::collection::vec(any_event(), 1..40),
    ) {
        let ring = Arc::new(Ring::new(1024, 64 << 20));
        let mut reader = ring.reader();
        for event in &events {
            ring.publish(event);
        }
        for event in &events {
            let Read::Event(published) = reader.read(Duration::ZERO) else {
                panic!("an event is missing");
            };
            let frame = published.frame.as_str();
            prop_assert_eq!(frame, published.event.to_json(published.seq, Form::Live));
            prop_assert_eq!(frame, event.to_json(published.seq, Form::Live));
        }
    }

    /// The ring's count of bytes equals the size of the stored frames and events, and stays below
    /// the limit.
    #[test]
    fn the_ring_counts_its_bytes_exactly_and_keeps_the_limit(
        events in prop::collection::vec(any_event(), 1..60),
    ) {
        let ring = Ring::new(32, 8 << 10);
        for event in &events {
            ring.publish(event);
            let content = ring.content();
            let there: Vec<usize> = (content.oldest_seq()..content.next_seq())
                .filter_map(|seq| content.get(seq))
                .map(|published| published.frame.len() + memory(&published.event))
                .collect();
            prop_assert_eq!(there.iter().sum::<usize>(), content.bytes());
            prop_assert!(content.bytes() <= 8 << 10 || there.len() == 1);
        }
    }
}
