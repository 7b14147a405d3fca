//! Tests of the ring and its readers under the model checker `shuttle`, which runs their threads in
//! many interleavings.

use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::thread::{self, JoinHandle};

use super::*;
use crate::event::Subscription;
use crate::hub::testing::expression;
use crate::hub::{Cursor, Next};
use crate::sync::schedules::explore;

/// Starts a thread that publishes `count` events and returns their `seq`.
fn publisher(ring: &Arc<Ring>, count: usize) -> JoinHandle<Vec<u64>> {
    let ring = ring.clone();
    let publish = move |at| ring.publish(expression(1, "happy", 0.5, at as i64));
    thread::spawn(move || (0..count).map(publish).collect())
}

/// Waits for the publishers. Checks that each `seq` from 1 to `count` was assigned once, and that
/// `seq` grows within each thread.
fn join(publishers: Vec<JoinHandle<Vec<u64>>>, count: u64) {
    let mut all = Vec::new();
    for publisher in publishers {
        let own = publisher.join().unwrap();
        assert!(own.is_sorted_by(|a, b| a < b), "{own:?}");
        all.extend(own);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=count).collect::<Vec<_>>());
}

/// Checks that a blocking reader of a ring of `max_events` events gets the events 1 to 4 in order,
/// each as an event or as missed. Adds the number of missed events to `all_missed`.
fn a_reader_and_two_publishers(max_events: usize, all_missed: &AtomicU64) {
    let ring = Arc::new(Ring::new(max_events, 1 << 20));
    let mut reader = ring.reader();
    let reading = thread::spawn(move || {
        let (mut next, mut lost) = (1, 0);
        loop {
            match reader.read(Duration::from_secs(60)) {
                Read::Event(published) => {
                    assert_eq!(published.seq, next, "an event twice or out of order");
                    next += 1;
                }
                Read::Missed(missed) => {
                    assert_eq!(missed.from_seq, next);
                    assert_eq!(missed.count, missed.to_seq - missed.from_seq + 1);
                    next = missed.to_seq + 1;
                    lost += missed.count;
                }
                Read::TimedOut => panic!("woken without an event"),
                Read::Ended => return (next, lost),
            }
        }
    });
    join(vec![publisher(&ring, 2), publisher(&ring, 2)], 4);
    ring.close();
    let (next, lost) = reading.join().unwrap();
    assert_eq!(next, 5);
    all_missed.fetch_add(lost, Ordering::Relaxed);
}

/// Runs [`a_reader_and_two_publishers`] in many interleavings. Returns the total number of missed
/// events.
fn missed(max_events: usize) -> u64 {
    let all = Arc::new(AtomicU64::new(0));
    let of_all = all.clone();
    explore(move || a_reader_and_two_publishers(max_events, &of_all));
    all.load(Ordering::Relaxed)
}

#[test]
fn a_reader_gets_every_event_once_and_in_order() {
    assert_eq!(missed(8), 0);
}

#[test]
fn a_reader_gets_events_that_left_the_ring_unread_as_missed() {
    assert!(missed(2) > 0, "no order overtook it");
}

/// Takes the messages of a cursor until it is up to date: adds each event's `seq` to `sent` and
/// `newest`, and the number of lost events to `lost`. Checks that `seq` grows.
fn read(cursor: &mut Cursor, newest: &mut u64, lost: &mut u64, sent: &mut Vec<u64>) {
    while let Some(next) = cursor.next_frame() {
        match next {
            Next::Frame { seq, .. } => {
                assert!(seq > *newest, "{seq} after {newest}");
                *newest = seq;
                sent.push(seq);
            }
            Next::Dropped(missed) => *lost += missed.count,
        }
    }
}

#[test]
fn a_cursor_sends_no_event_twice_or_out_of_order() {
    for (max_events, unsent_limit) in [(8, 8), (2, 8), (8, 1)] {
        let all_lost = Arc::new(AtomicU64::new(0));
        let of_all = all_lost.clone();
        explore(move || {
            let ring = Arc::new(Ring::new(max_events, 1 << 20));
            let mut cursor = Cursor::new(ring.clone(), unsent_limit);
            let publishers = vec![publisher(&ring, 2), publisher(&ring, 2)];
            let (mut newest, mut lost, mut sent) = (0, 0, Vec::new());
            for _ in 0..2 {
                read(&mut cursor, &mut newest, &mut lost, &mut sent);
                cursor.drop_excess();
                thread::yield_now();
            }
            join(publishers, 4);
            read(&mut cursor, &mut newest, &mut lost, &mut sent);
            assert_eq!(sent.len() as u64 + lost, 4, "{sent:?} and {lost} lost");
            of_all.fetch_add(lost, Ordering::Relaxed);
        });
        let is_lossy = (max_events, unsent_limit) != (8, 8);
        assert_eq!(all_lost.load(Ordering::Relaxed) > 0, is_lossy);
    }
}

#[test]
fn a_cursor_that_resumes_sends_no_event_again() {
    explore(|| {
        let ring = Arc::new(Ring::new(8, 1 << 20));
        ring.publish(expression(1, "happy", 0.5, 0));
        let mut cursor = Cursor::new(ring.clone(), 8);
        let publishers = vec![publisher(&ring, 2)];
        let (mut newest, mut lost, mut sent) = (1, 0, Vec::new());
        read(&mut cursor, &mut newest, &mut lost, &mut sent);
        let resumed = cursor.subscribe(Subscription::default(), Some(0));
        assert!(resumed.is_ok(), "event 0 precedes every event");
        // The replay begins at the first event again.
        let mut newest = 0;
        read(&mut cursor, &mut newest, &mut lost, &mut sent);
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap(), [2, 3]);
        }
        read(&mut cursor, &mut newest, &mut lost, &mut sent);
        sent.sort_unstable();
        assert_eq!((sent, lost), (vec![1, 2, 3], 0));
    });
}

#[test]
fn a_publish_hook_is_called_after_each_event_and_may_read_the_ring() {
    explore(|| {
        let ring = Arc::new(Ring::new(8, 1 << 20));
        let newest = Arc::new(AtomicU64::new(0));
        let hook = ring.on_publish({
            let (ring, newest) = (Arc::downgrade(&ring), newest.clone());
            move || {
                let ring = ring.upgrade().expect("it is publishing");
                newest.fetch_max(ring.next_seq() - 1, Ordering::Relaxed);
            }
        });
        let publishers = vec![publisher(&ring, 1), publisher(&ring, 1)];
        let other = ring.on_publish(|| ());
        drop(other);
        join(publishers, 2);
        assert_eq!(
            newest.load(Ordering::Relaxed),
            2,
            "a published event called no hook"
        );
        drop(hook);
        ring.close();
    });
}
