//! The places of clients, and the eviction of unresponsive clients when all places are taken.
//!
//! A responsive client answers a ping at once. If a new client finds no place, the client with the
//! oldest unanswered ping is closed for it, if that ping is older than [`PATIENCE`]. If no ping is
//! unanswered, all clients are pinged, and a client that connects [`PATIENCE`] later gets the place
//! of an unresponsive one. So unresponsive clients cannot lock out others, and responsive clients
//! can hold all places.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a ping may stay unanswered while a new client waits for a place.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_NANOS: i64 = PATIENCE.as_nanos() as i64;

/// No ping is unanswered.
const ANSWERED: i64 = i64::MIN;

pub(super) struct Places {
    taken: Mutex<HashMap<u64, Arc<Seat>>>,
    most: usize,
    numbers: AtomicU64,
    /// When all clients were last pinged.
    pinged_nanos: AtomicI64,
    /// One permit for each connection, including those that are still closing.
    connections: Arc<Semaphore>,
}

/// The state that a place shares with its client's task.
pub(super) struct Seat {
    /// `CLOCK_MONOTONIC` of the oldest ping without a pong, or [`ANSWERED`].
    unanswered_since_nanos: AtomicI64,
    ping_wanted: AtomicBool,
    is_evicted: AtomicBool,
    changed: Notify,
}

/// A command to a client's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send a ping now.
    Ping,
    /// Close: the place was given to another client.
    Leave,
}

/// One client's place; dropping it frees it.
pub(super) struct Place {
    places: Arc<Places>,
    pub seat: Arc<Seat>,
    /// Counts the clients of this server from 0.
    pub number: u64,
    _connection: OwnedSemaphorePermit,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Places {
            taken: Mutex::default(),
            most,
            numbers: AtomicU64::new(0),
            pinged_nanos: AtomicI64::new(ANSWERED),
            connections: Arc::new(Semaphore::new(2 * most)),
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seat>>> {
        self.taken.lock().expect("places")
    }

    /// A place for a new client. `None` if all are taken and no client is known to be unresponsive.
    pub fn take(self: &Arc<Self>, now_nanos: i64) -> Option<Place> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let mut taken = self.taken();
        if taken.len() >= self.most {
            let silent = taken
                .iter()
                .map(|(number, seat)| {
                    (seat.unanswered_since_nanos.load(Ordering::Relaxed), *number)
                })
                .filter(|(since, _)| {
                    *since != ANSWERED && now_nanos.saturating_sub(*since) >= PATIENCE_NANOS
                })
                .min();
            let Some((_, number)) = silent else {
                self.ping_all(&taken, now_nanos);
                return None;
            };
            let seat = taken.remove(&number).expect("it was found there");
            seat.is_evicted.store(true, Ordering::Relaxed);
            seat.changed.notify_one();
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat {
            unanswered_since_nanos: AtomicI64::new(ANSWERED),
            ping_wanted: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            changed: Notify::new(),
        });
        taken.insert(number, seat.clone());
        Some(Place {
            places: self.clone(),
            seat,
            number,
            _connection: connection,
        })
    }

    /// Pings every client without an unanswered ping; at most once in [`PATIENCE`].
    fn ping_all(&self, taken: &HashMap<u64, Arc<Seat>>, now_nanos: i64) {
        let pinged = self.pinged_nanos.load(Ordering::Relaxed);
        if pinged != ANSWERED && now_nanos.saturating_sub(pinged) < PATIENCE_NANOS {
            return;
        }
        self.pinged_nanos.store(now_nanos, Ordering::Relaxed);
        for seat in taken.values() {
            if seat.unanswered_since_nanos.load(Ordering::Relaxed) == ANSWERED {
                seat.ping_wanted.store(true, Ordering::Relaxed);
                seat.changed.notify_one();
            }
        }
    }

    /// Waits until every connection has ended. New clients get no place from then on.
    pub async fn emptied(&self) {
        let all = u32::try_from(2 * self.most).expect("a sane limit");
        let _ = self.connections.acquire_many(all).await;
    }
}

impl Seat {
    /// A ping was sent.
    pub fn pinged(&self, now_nanos: i64) {
        let _ = self.unanswered_since_nanos.compare_exchange(
            ANSWERED,
            now_nanos,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The client has answered a ping.
    pub fn answered(&self) {
        self.unanswered_since_nanos
            .store(ANSWERED, Ordering::Relaxed);
    }

    /// Waits for the next command.
    pub async fn command(&self) -> Command {
        loop {
            if self.is_evicted.load(Ordering::Relaxed) {
                return Command::Leave;
            }
            if self.ping_wanted.swap(false, Ordering::Relaxed) {
                return Command::Ping;
            }
            self.changed.notified().await;
        }
    }
}

impl Place {
    /// Frees the place while the connection still closes; that stays counted until the drop.
    pub fn leave(&self) {
        self.places.taken().remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn command(place: &Place) -> Option<Command> {
        place.seat.command().now_or_never()
    }

    #[test]
    fn the_client_with_the_oldest_unanswered_ping_is_evicted() {
        let places = Places::new(3);
        let held: Vec<Place> = (0..3).map(|_| places.take(0).expect("a place")).collect();
        held[0].seat.pinged(20);
        held[1].seat.pinged(10);
        // A second ping changes nothing.
        held[1].seat.pinged(PATIENCE_NANOS);
        assert!(places.take(9 + PATIENCE_NANOS).is_none());
        assert!(places.take(30 + PATIENCE_NANOS).is_some());
        assert_eq!(command(&held[1]), Some(Command::Leave));
        assert_eq!(command(&held[0]), None);
        // The new client has left again.
        assert_eq!(places.taken().len(), 2);
        drop(held);
        assert!(places.taken().is_empty());
    }

    #[test]
    fn clients_that_answer_keep_their_places() {
        let places = Places::new(2);
        let held: Vec<Place> = (0..2).map(|_| places.take(0).expect("a place")).collect();
        assert!(places.take(5).is_none());
        for place in &held {
            assert_eq!(command(place), Some(Command::Ping));
            place.seat.pinged(6);
        }
        // They are pinged once, however many clients wait.
        assert!(places.take(7).is_none());
        assert!(held.iter().all(|place| command(place).is_none()));
        for place in &held {
            place.seat.answered();
        }
        assert!(places.take(10 * PATIENCE_NANOS).is_none());
    }

    #[test]
    fn a_client_that_closes_frees_its_place_at_once() {
        let places = Places::new(1);
        let closing = places.take(0).expect("a place");
        assert!(places.take(1).is_none());
        closing.leave();
        let next = places.take(2).expect("the place of the client that closes");
        assert!(places.take(3).is_none());
        next.leave();
        assert!(
            places.take(4).is_none(),
            "two connections are still closing"
        );
        drop(closing);
        let _place = places.take(5).expect("a place");
        drop(next);
        assert_eq!(places.taken().len(), 1, "a drop frees no other place");
    }

    #[test]
    fn closing_connections_are_bounded() {
        let places = Places::new(2);
        let mut held = Vec::new();
        // Evicted clients are still closing.
        for now in 0..4 {
            let place = places.take(now * PATIENCE_NANOS).expect("a place");
            place.seat.pinged(now * PATIENCE_NANOS);
            held.push(place);
        }
        assert!(places.take(9 * PATIENCE_NANOS).is_none());
        held.remove(0);
        assert!(places.take(9 * PATIENCE_NANOS).is_some());
    }
}
