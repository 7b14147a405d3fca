//! The queues between stages: bounded and named, with loss counters and a policy for a full queue.
//! Stages use no other queues.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

#[cfg(all(test, feature = "shuttle"))]
mod concurrency;

/// Policy of a full lane. Live lanes drop items, replaying lanes block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The sender waits: nothing is lost, and backpressure slows the stages upstream.
    Block,
    /// The oldest waiting item is dropped: the receiver gets the newest ones.
    DropOldest,
    /// The new item is dropped: the waiting items stay.
    DropNewest,
}

/// Counters of one lane, read by `/metrics` and `status`.
#[derive(Debug)]
pub struct LaneCounters {
    /// The lane's name in `/metrics`.
    pub name: &'static str,
    /// Largest number of waiting items, control items aside.
    pub capacity: usize,
    /// Number of items that were put into the lane.
    pub sent: AtomicU64,
    /// Number of items that were dropped because the lane was full, or counted as useless.
    pub lost: AtomicU64,
    /// Number of items that are waiting now.
    pub depth: AtomicU64,
}

/// The state that the senders and the receiver of a lane share.
#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    when_full: WhenFull,
    /// Whether an item is a control item, which is never dropped.
    is_control: fn(&T) -> bool,
    counters: Arc<LaneCounters>,
}

/// The part of a lane's state that its lock protects.
#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    senders: usize,
    receiver_alive: bool,
}

/// Creates a bounded lane of `capacity` items. `name` identifies it in `/metrics`; `when_full` is
/// its policy when it is full.
pub fn lane<T>(
    name: &'static str,
    capacity: usize,
    when_full: WhenFull,
) -> (LaneSender<T>, LaneReceiver<T>) {
    lane_with_control(name, capacity, when_full, |_| false)
}

/// Creates a lane that never drops a control item: an item for which `is_control` is `true`. If the
/// lane is full, [`WhenFull::DropOldest`] drops the oldest other item. If no item can be dropped, a
/// new control item is added beyond `capacity`, and any other new item is dropped. With
/// [`WhenFull::Block`] the sender waits.
pub fn lane_with_control<T>(
    name: &'static str,
    capacity: usize,
    when_full: WhenFull,
    is_control: fn(&T) -> bool,
) -> (LaneSender<T>, LaneReceiver<T>) {
    assert!(capacity > 0, "lane {name} needs room for one item");
    let counters = Arc::new(LaneCounters {
        name,
        capacity,
        sent: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        depth: AtomicU64::new(0),
    });
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            items: VecDeque::with_capacity(capacity),
            senders: 1,
            receiver_alive: true,
        }),
        changed: Condvar::new(),
        when_full,
        is_control,
        counters,
    });
    (
        LaneSender {
            shared: shared.clone(),
        },
        LaneReceiver { shared },
    )
}

/// Error of sending to a lane whose receiver is gone; it contains the item.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// The sending end of a lane; clones send to the same lane.
#[derive(Debug)]
pub struct LaneSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> LaneSender<T> {
    /// Sends an item; a full lane follows its policy. Returns `Ok(true)` if no item was dropped.
    ///
    /// # Errors
    /// [`Closed`] with the item if the receiver is gone.
    pub fn send(&self, item: T) -> Result<bool, Closed<T>> {
        let shared = &*self.shared;
        let mut state = shared.state.lock().expect("lane lock");
        let mut kept_all = true;
        while state.receiver_alive && state.items.len() >= shared.counters.capacity {
            let is_control = shared.is_control;
            let oldest = match shared.when_full {
                WhenFull::Block => {
                    state = shared.changed.wait(state).expect("lane lock");
                    continue;
                }
                WhenFull::DropOldest => state.items.iter().position(|item| !is_control(item)),
                WhenFull::DropNewest => None,
            };
            match oldest {
                Some(oldest) => {
                    state.items.remove(oldest);
                    shared.counters.lost.fetch_add(1, Ordering::Relaxed);
                    kept_all = false;
                }
                None if is_control(&item) => break,
                None => {
                    shared.counters.lost.fetch_add(1, Ordering::Relaxed);
                    return Ok(false);
                }
            }
        }
        if !state.receiver_alive {
            return Err(Closed(item));
        }
        state.items.push_back(item);
        shared.counters.sent.fetch_add(1, Ordering::Relaxed);
        shared
            .counters
            .depth
            .store(state.items.len() as u64, Ordering::Relaxed);
        drop(state);
        shared.changed.notify_all();
        Ok(kept_all)
    }

    /// The counters of the lane, shared by both ends.
    pub fn counters(&self) -> Arc<LaneCounters> {
        self.shared.counters.clone()
    }
}

impl<T> Clone for LaneSender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().expect("lane lock").senders += 1;
        LaneSender {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for LaneSender<T> {
    fn drop(&mut self) {
        self.shared.state.lock().expect("lane lock").senders -= 1;
        self.shared.changed.notify_all();
    }
}

/// A sender that does not keep the lane open. Once the last [`LaneSender`] is dropped, sending
/// fails.
#[derive(Debug)]
pub struct WeakLaneSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> LaneSender<T> {
    /// Creates a sender that does not keep the lane open.
    pub fn downgrade(&self) -> WeakLaneSender<T> {
        WeakLaneSender {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Clone for WeakLaneSender<T> {
    fn clone(&self) -> Self {
        WeakLaneSender {
            shared: self.shared.clone(),
        }
    }
}

impl<T> WeakLaneSender<T> {
    /// Sends an item as [`LaneSender::send`] does.
    ///
    /// # Errors
    /// [`Closed`] with the item if the receiver or the last [`LaneSender`] is gone.
    pub fn send(&self, item: T) -> Result<bool, Closed<T>> {
        {
            let mut state = self.shared.state.lock().expect("lane lock");
            if state.senders == 0 {
                return Err(Closed(item));
            }
            // This call counts as a sender while it lasts.
            state.senders += 1;
        }
        LaneSender {
            shared: self.shared.clone(),
        }
        .send(item)
    }
}

/// The result of [`LaneReceiver::recv`].
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    Item(T),
    /// The timeout passed without an item.
    TimedOut,
    /// The lane is empty and has no sender left.
    Ended,
}

/// The receiving end of a lane.
#[derive(Debug)]
pub struct LaneReceiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> LaneReceiver<T> {
    /// Waits for the next item, at most `timeout` (`None`: without a limit).
    pub fn recv(&self, timeout: Option<Duration>) -> Received<T> {
        let shared = &*self.shared;
        let until = timeout.map(|t| instant() + t);
        let mut state = shared.state.lock().expect("lane lock");
        loop {
            if let Some(item) = state.items.pop_front() {
                shared
                    .counters
                    .depth
                    .store(state.items.len() as u64, Ordering::Relaxed);
                drop(state);
                shared.changed.notify_all();
                return Received::Item(item);
            }
            if state.senders == 0 {
                return Received::Ended;
            }
            state = match until {
                None => shared.changed.wait(state).expect("lane lock"),
                Some(until) => {
                    let left = until.saturating_duration_since(instant());
                    if left.is_zero() {
                        return Received::TimedOut;
                    }
                    shared
                        .changed
                        .wait_timeout(state, left)
                        .expect("lane lock")
                        .0
                }
            };
        }
    }

    /// Counts `items` received items as lost, because they are useless without earlier items that
    /// were dropped.
    pub fn count_lost(&self, items: u64) {
        self.shared
            .counters
            .lost
            .fetch_add(items, Ordering::Relaxed);
    }

    /// The counters of the lane, shared by both ends.
    pub fn counters(&self) -> Arc<LaneCounters> {
        self.shared.counters.clone()
    }
}

/// The current time for timeouts, which are not media time. This is the only use of the system's
/// clock outside `time.rs`.
#[expect(clippy::disallowed_methods)]
fn instant() -> Instant {
    Instant::now()
}

impl<T> Drop for LaneReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().expect("lane lock");
        state.receiver_alive = false;
        state.items.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A lane never exceeds its capacity, keeps the order, and accounts for every item.
        #[test]
        fn every_item_is_received_or_counted_lost(
            ops in prop::collection::vec(prop::bool::ANY, 1..200),
            drop_oldest: bool,
        ) {
            let when_full =
                if drop_oldest { WhenFull::DropOldest } else { WhenFull::DropNewest };
            let (sender, receiver) = lane("test", 3, when_full);
            let (mut next, mut received) = (0u64, Vec::new());
            for send in ops {
                if send {
                    sender.send(next).unwrap();
                    next += 1;
                } else if let Received::Item(item) = receiver.recv(Some(Duration::ZERO)) {
                    received.push(item);
                }
                prop_assert!(sender.counters().depth.load(Ordering::Relaxed) <= 3);
            }
            drop(sender);
            let counters = receiver.counters();
            while let Received::Item(item) = receiver.recv(None) {
                received.push(item);
            }
            prop_assert!(received.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(received.len() as u64 + counters.lost.load(Ordering::Relaxed), next);
        }
    }

    proptest! {
        /// A lane that drops the oldest items delivers every control item, in order.
        #[test]
        fn control_items_are_never_dropped(ops in prop::collection::vec(0u8..3, 1..200)) {
            let (sender, receiver) =
                lane_with_control("test", 3, WhenFull::DropOldest, |item: &(u64, bool)| item.1);
            let (mut next, mut control, mut received) = (0u64, Vec::new(), Vec::new());
            for op in ops {
                if op == 0 {
                    if let Received::Item(item) = receiver.recv(Some(Duration::ZERO)) {
                        received.push(item);
                    }
                    continue;
                }
                sender.send((next, op == 1)).unwrap();
                if op == 1 {
                    control.push(next);
                }
                next += 1;
            }
            drop(sender);
            let lost = receiver.counters().lost.load(Ordering::Relaxed);
            while let Received::Item(item) = receiver.recv(None) {
                received.push(item);
            }
            prop_assert!(received.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(received.len() as u64 + lost, next);
            let arrived: Vec<u64> =
                received.iter().filter(|item| item.1).map(|item| item.0).collect();
            prop_assert_eq!(arrived, control);
        }
    }

    #[test]
    fn a_blocking_lane_loses_nothing_across_threads() {
        let (sender, receiver) = lane("test", 2, WhenFull::Block);
        let sending = std::thread::Builder::new()
            .name("sender".into())
            .spawn(move || (0..1000).for_each(|i| assert!(sender.send(i).unwrap())))
            .unwrap();
        let mut expected = 0;
        while let Received::Item(item) = receiver.recv(None) {
            assert_eq!(item, expected);
            expected += 1;
        }
        sending.join().unwrap();
        assert_eq!(expected, 1000);
    }

    #[test]
    fn a_weak_sender_does_not_keep_the_lane_open() {
        let (sender, receiver) = lane("test", 2, WhenFull::DropOldest);
        let weak = sender.downgrade();
        assert_eq!(weak.send(1), Ok(true));
        drop(sender);
        assert_eq!(weak.send(2), Err(Closed(2)));
        assert_eq!(
            (receiver.recv(None), receiver.recv(None)),
            (Received::Item(1), Received::Ended)
        );
    }

    #[test]
    fn sending_without_a_receiver_is_an_error() {
        let (sender, receiver) = lane("test", 1, WhenFull::Block);
        drop(receiver);
        assert_eq!(sender.send(7), Err(Closed(7)));
    }
}
