//! Limits the number of clients: each takes a slot. If all slots are taken, an unresponsive client
//! is closed for a new one.
//!
//! A responsive client answers a ping at once. If a new client finds no slot, the client with the
//! oldest unanswered ping is closed for it, if that ping is older than [`PATIENCE`]. If no ping is
//! unanswered, all clients are pinged, and a client that connects [`PATIENCE`] later gets the slot
//! of an unresponsive one. So unresponsive clients cannot lock out others, and responsive clients
//! can hold all slots.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a client may leave a ping unanswered before its slot can go to a new client.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_NANOS: i64 = PATIENCE.as_nanos() as i64;

/// Value of a time that stands for "no ping is unanswered".
const ANSWERED: i64 = i64::MIN;

/// The slots of all clients.
pub(super) struct ClientSlots {
    /// The taken slots, by client number.
    occupied: Mutex<HashMap<u64, Arc<SlotState>>>,
    /// Largest number of taken slots.
    limit: usize,
    /// Number of the next client.
    numbers: AtomicU64,
    /// `CLOCK_MONOTONIC` in nanoseconds when all clients were last pinged, or [`ANSWERED`].
    pinged_nanos: AtomicI64,
    /// Permits for connections, twice as many as slots: a closing connection keeps its permit after
    /// it has freed its slot.
    connections: Arc<Semaphore>,
}

/// The state that a slot shares with its client's task.
pub(super) struct SlotState {
    /// `CLOCK_MONOTONIC` in nanoseconds of the oldest ping without a pong, or [`ANSWERED`].
    unanswered_since_nanos: AtomicI64,
    /// Whether [`Command::Ping`] waits for the client's task.
    ping_wanted: AtomicBool,
    /// Whether [`Command::Evict`] waits for the client's task.
    is_evicted: AtomicBool,
    /// Notified when a command waits.
    changed: Notify,
}

/// A command to a client's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send a ping now.
    Ping,
    /// Close the connection, because its slot was given to another client.
    Evict,
}

/// A client's slot; dropping this value frees the slot.
pub(super) struct ClientSlot {
    slots: Arc<ClientSlots>,
    pub state: Arc<SlotState>,
    /// Number of the client, counted from 0 since the server's start.
    pub number: u64,
    _connection: OwnedSemaphorePermit,
}

impl ClientSlots {
    /// Slots for at most `limit` clients.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(ClientSlots {
            occupied: Mutex::default(),
            limit,
            numbers: AtomicU64::new(0),
            pinged_nanos: AtomicI64::new(ANSWERED),
            connections: Arc::new(Semaphore::new(2 * limit)),
        })
    }

    fn occupied(&self) -> MutexGuard<'_, HashMap<u64, Arc<SlotState>>> {
        self.occupied.lock().expect("slots")
    }

    /// Takes a slot for a new client at time `now_nanos`. If all slots are taken, closes an
    /// unresponsive client. `None` if there is none, or if too many connections are still closing.
    pub fn take(self: &Arc<Self>, now_nanos: i64) -> Option<ClientSlot> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let mut occupied = self.occupied();
        if occupied.len() >= self.limit {
            let silent = occupied
                .iter()
                .map(|(number, state)| {
                    (
                        state.unanswered_since_nanos.load(Ordering::Relaxed),
                        *number,
                    )
                })
                .filter(|(since, _)| {
                    *since != ANSWERED && now_nanos.saturating_sub(*since) >= PATIENCE_NANOS
                })
                .min();
            let Some((_, number)) = silent else {
                self.ping_all(&occupied, now_nanos);
                return None;
            };
            let state = occupied.remove(&number).expect("it was found there");
            state.is_evicted.store(true, Ordering::Relaxed);
            state.changed.notify_one();
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(SlotState {
            unanswered_since_nanos: AtomicI64::new(ANSWERED),
            ping_wanted: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            changed: Notify::new(),
        });
        occupied.insert(number, state.clone());
        Some(ClientSlot {
            slots: self.clone(),
            state,
            number,
            _connection: connection,
        })
    }

    /// Pings every client without an unanswered ping; at most once in [`PATIENCE`].
    fn ping_all(&self, occupied: &HashMap<u64, Arc<SlotState>>, now_nanos: i64) {
        let pinged = self.pinged_nanos.load(Ordering::Relaxed);
        if pinged != ANSWERED && now_nanos.saturating_sub(pinged) < PATIENCE_NANOS {
            return;
        }
        self.pinged_nanos.store(now_nanos, Ordering::Relaxed);
        for state in occupied.values() {
            if state.unanswered_since_nanos.load(Ordering::Relaxed) == ANSWERED {
                state.ping_wanted.store(true, Ordering::Relaxed);
                state.changed.notify_one();
            }
        }
    }

    /// Waits until every connection has ended. New clients get no slot from then on.
    pub async fn all_closed(&self) {
        let all = u32::try_from(2 * self.limit).expect("a sane limit");
        let _ = self.connections.acquire_many(all).await;
    }
}

impl SlotState {
    /// Records that a ping was sent at `now_nanos`.
    pub fn pinged(&self, now_nanos: i64) {
        let _ = self.unanswered_since_nanos.compare_exchange(
            ANSWERED,
            now_nanos,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Records that the client has answered a ping.
    pub fn answered(&self) {
        self.unanswered_since_nanos
            .store(ANSWERED, Ordering::Relaxed);
    }

    /// Waits for the next command.
    pub async fn command(&self) -> Command {
        loop {
            if self.is_evicted.load(Ordering::Relaxed) {
                return Command::Evict;
            }
            if self.ping_wanted.swap(false, Ordering::Relaxed) {
                return Command::Ping;
            }
            self.changed.notified().await;
        }
    }
}

impl ClientSlot {
    /// Frees the slot while the connection still closes. The connection stays counted until this
    /// value is dropped.
    pub fn leave(&self) {
        self.slots.occupied().remove(&self.number);
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn command(slot: &ClientSlot) -> Option<Command> {
        slot.state.command().now_or_never()
    }

    #[test]
    fn the_client_with_the_oldest_unanswered_ping_is_evicted() {
        let slots = ClientSlots::new(3);
        let held: Vec<ClientSlot> = (0..3).map(|_| slots.take(0).expect("a slot")).collect();
        held[0].state.pinged(20);
        held[1].state.pinged(10);
        // A second ping changes nothing.
        held[1].state.pinged(PATIENCE_NANOS);
        assert!(slots.take(9 + PATIENCE_NANOS).is_none());
        assert!(slots.take(30 + PATIENCE_NANOS).is_some());
        assert_eq!(command(&held[1]), Some(Command::Evict));
        assert_eq!(command(&held[0]), None);
        // The new client has left again.
        assert_eq!(slots.occupied().len(), 2);
        drop(held);
        assert!(slots.occupied().is_empty());
    }

    #[test]
    fn clients_that_answer_pings_keep_their_slots() {
        let slots = ClientSlots::new(2);
        let held: Vec<ClientSlot> = (0..2).map(|_| slots.take(0).expect("a slot")).collect();
        assert!(slots.take(5).is_none());
        for slot in &held {
            assert_eq!(command(slot), Some(Command::Ping));
            slot.state.pinged(6);
        }
        // They are pinged once, however many clients wait.
        assert!(slots.take(7).is_none());
        assert!(held.iter().all(|slot| command(slot).is_none()));
        for slot in &held {
            slot.state.answered();
        }
        assert!(slots.take(10 * PATIENCE_NANOS).is_none());
    }

    #[test]
    fn a_client_that_closes_frees_its_slot_at_once() {
        let slots = ClientSlots::new(1);
        let closing = slots.take(0).expect("a slot");
        assert!(slots.take(1).is_none());
        closing.leave();
        let next = slots.take(2).expect("the slot of the client that closes");
        assert!(slots.take(3).is_none());
        next.leave();
        assert!(slots.take(4).is_none(), "two connections are still closing");
        drop(closing);
        let _slot = slots.take(5).expect("a slot");
        drop(next);
        assert_eq!(slots.occupied().len(), 1, "a drop frees no other slot");
    }

    #[test]
    fn no_slot_is_given_while_too_many_connections_are_closing() {
        let slots = ClientSlots::new(2);
        let mut held = Vec::new();
        // Evicted clients are still closing.
        for now in 0..4 {
            let slot = slots.take(now * PATIENCE_NANOS).expect("a slot");
            slot.state.pinged(now * PATIENCE_NANOS);
            held.push(slot);
        }
        assert!(slots.take(9 * PATIENCE_NANOS).is_none());
        held.remove(0);
        assert!(slots.take(9 * PATIENCE_NANOS).is_some());
    }
}
