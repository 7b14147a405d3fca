//! Tests of a lane under the model checker, which tries many orders of the threads.

use std::sync::Arc;

use shuttle::thread;

use super::*;
use crate::sync::schedules::explore;

/// An item: the number of its sender, its number in the order of this sender, and whether it is a
/// control item.
type Item = (u8, u32, bool);

fn is_control(item: &Item) -> bool {
    item.2
}

/// Receives until the lane ends.
fn drain(receiver: &LaneReceiver<Item>) -> Vec<Item> {
    let mut received = Vec::new();
    loop {
        match receiver.recv(None) {
            Received::Item(item) => received.push(item),
            Received::Ended => return received,
            Received::TimedOut => panic!("a receiver without a timeout has timed out"),
        }
    }
}

/// Two senders send three items each, of which the second is a control item, while the receiver
/// drains the lane. Checks the counters and the order, and returns the number of lost items.
fn senders_and_a_receiver(when_full: WhenFull, capacity: usize) -> u64 {
    let (sender, receiver) = lane_with_control("test", capacity, when_full, is_control);
    let sending: Vec<_> = [(0, sender.clone()), (1, sender)]
        .into_iter()
        .map(|(name, sender)| {
            thread::spawn(move || {
                for number in 0..3 {
                    sender.send((name, number, number == 1)).expect("open");
                }
            })
        })
        .collect();
    let received = drain(&receiver);
    sending
        .into_iter()
        .for_each(|thread| thread.join().unwrap());

    let counters = receiver.counters();
    let [sent, lost, depth] = [&counters.sent, &counters.lost, &counters.depth]
        .map(|counter| counter.load(Ordering::Relaxed));
    assert_eq!(
        received.len() as u64 + lost,
        6,
        "an item is not accounted for"
    );
    assert_eq!(depth, 0);
    match when_full {
        WhenFull::Block => assert_eq!((sent, lost), (6, 0)),
        // A dropped item was sent before, unless only control items wait.
        WhenFull::DropOldest => assert!((received.len() as u64..=6).contains(&sent)),
        WhenFull::DropNewest => assert_eq!(sent + lost, 6),
    }
    for name in 0..2 {
        let own: Vec<_> = received.iter().filter(|item| item.0 == name).collect();
        assert!(own.is_sorted_by_key(|item| item.1), "{own:?}");
        assert!(own.iter().any(|item| item.2), "a control item was dropped");
    }
    lost
}

/// Runs [`senders_and_a_receiver`] in many orders of its threads. Returns the number of lost items
/// of all runs.
fn losses(when_full: WhenFull, capacity: usize) -> u64 {
    let all = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let of_all = all.clone();
    explore(move || {
        of_all.fetch_add(
            senders_and_a_receiver(when_full, capacity),
            Ordering::Relaxed,
        );
    });
    all.load(Ordering::Relaxed)
}

#[test]
fn a_blocking_lane_loses_nothing() {
    assert_eq!(losses(WhenFull::Block, 1), 0);
    assert_eq!(losses(WhenFull::Block, 2), 0);
}

#[test]
fn a_dropping_lane_counts_every_loss_and_drops_no_control_item() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        assert!(losses(when_full, 1) > 0, "no order filled the lane");
        assert!(losses(when_full, 2) > 0, "no order filled the lane");
    }
}

#[test]
fn a_closed_lane_releases_its_blocked_senders() {
    explore(|| {
        let (sender, receiver) = lane("test", 1, WhenFull::Block);
        let sending: Vec<_> = (0..2)
            .map(|name| {
                let sender = sender.clone();
                thread::spawn(move || {
                    let results = [0, 1].map(|number| sender.send((name, number, false)));
                    // A closed lane does not open again.
                    assert!(results[0].is_ok() || results[1].is_err());
                })
            })
            .collect();
        drop(sender);
        let first = receiver.recv(None);
        assert!(matches!(first, Received::Item((_, 0, _))), "{first:?}");
        drop(receiver);
        sending
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_weak_sender_delivers_or_gets_its_item_back() {
    explore(|| {
        let (sender, receiver) = lane("test", 1, WhenFull::Block);
        let weak = sender.downgrade();
        let strong = thread::spawn(move || sender.send((0, 0, false)).expect("open"));
        let weak_sender = thread::spawn(move || match weak.send((1, 0, false)) {
            Ok(kept_all) => kept_all,
            Err(Closed(item)) => {
                assert_eq!(item, (1, 0, false));
                false
            }
        });
        let received = drain(&receiver);
        assert!(strong.join().unwrap());
        let delivered = weak_sender.join().unwrap();
        assert_eq!(received.contains(&(1, 0, false)), delivered);
        assert!(received.contains(&(0, 0, false)));
        assert_eq!(receiver.recv(None), Received::Ended, "an end stays");
    });
}

#[test]
fn a_polling_receiver_never_blocks_and_loses_nothing() {
    explore(|| {
        let (sender, receiver) = lane("test", 2, WhenFull::DropOldest);
        let counters: Arc<LaneCounters> = sender.counters();
        let sending = thread::spawn(move || {
            for number in 0..4 {
                sender.send((0, number, false)).expect("open");
            }
        });
        let mut received = Vec::new();
        for _ in 0..3 {
            match receiver.recv(Some(Duration::ZERO)) {
                Received::Item(item) => received.push(item),
                Received::TimedOut => thread::yield_now(),
                Received::Ended => break,
            }
        }
        received.extend(drain(&receiver));
        sending.join().unwrap();
        let lost = counters.lost.load(Ordering::Relaxed);
        assert_eq!(received.len() as u64 + lost, 4);
        assert!(received.is_sorted());
    });
}
