//! The clients' places, and who gives one up when all are taken.
//!
//! A client that reads answers pings at once. When there is no place for a new client, the one that has owed a pong longest, and for
//! longer than [`PATIENCE`], is ended for it. Where none owes one yet, all are asked: whoever comes [`PATIENCE`] later gets the place of
//! one that did not answer. So clients that never read keep no one out, and all places may be held by clients that do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a client may owe a pong while another one wants its place.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_NANOS: i64 = PATIENCE.as_nanos() as i64;

/// Nothing is owed.
const ANSWERED: i64 = i64::MIN;

pub(super) struct Places {
    taken: Mutex<HashMap<u64, Arc<Seat>>>,
    most: usize,
    numbers: AtomicU64,
    /// When all clients were last asked for a pong.
    asked_nanos: AtomicI64,
    /// One permit for each connection, those among them that say goodbye to a client whose place is another's already.
    connections: Arc<Semaphore>,
}

/// A place's state, for those who want it and for the client that has it.
pub(super) struct Seat {
    /// `CLOCK_MONOTONIC` of the oldest ping without a pong, or [`ANSWERED`].
    owed_since_nanos: AtomicI64,
    asked: AtomicBool,
    given_away: AtomicBool,
    changed: Notify,
}

/// What a client is told of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Others want in: send a ping now.
    Ping,
    /// The place is another client's.
    Leave,
}

/// One client's place, free again when this is dropped.
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
            asked_nanos: AtomicI64::new(ANSWERED),
            connections: Arc::new(Semaphore::new(2 * most)),
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seat>>> {
        self.taken.lock().expect("places")
    }

    /// A place for a new client, or none: all are taken by clients that answer, or have not been asked for long enough.
    pub fn take(self: &Arc<Self>, now_nanos: i64) -> Option<Place> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let mut taken = self.taken();
        if taken.len() >= self.most {
            let silent = taken
                .iter()
                .map(|(number, seat)| (seat.owed_since_nanos.load(Ordering::Relaxed), *number))
                .filter(|(since, _)| {
                    *since != ANSWERED && now_nanos.saturating_sub(*since) >= PATIENCE_NANOS
                })
                .min();
            let Some((_, number)) = silent else {
                self.ask_all(&taken, now_nanos);
                return None;
            };
            let seat = taken.remove(&number).expect("it was found there");
            seat.given_away.store(true, Ordering::Relaxed);
            seat.changed.notify_one();
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat {
            owed_since_nanos: AtomicI64::new(ANSWERED),
            asked: AtomicBool::new(false),
            given_away: AtomicBool::new(false),
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

    /// Asks every client that owes no pong for one; at most once in [`PATIENCE`].
    fn ask_all(&self, taken: &HashMap<u64, Arc<Seat>>, now_nanos: i64) {
        let asked = self.asked_nanos.load(Ordering::Relaxed);
        if asked != ANSWERED && now_nanos.saturating_sub(asked) < PATIENCE_NANOS {
            return;
        }
        self.asked_nanos.store(now_nanos, Ordering::Relaxed);
        for seat in taken.values() {
            if seat.owed_since_nanos.load(Ordering::Relaxed) == ANSWERED {
                seat.asked.store(true, Ordering::Relaxed);
                seat.changed.notify_one();
            }
        }
    }

    /// Waits until every connection has ended; no client gets a place any more.
    pub async fn emptied(&self) {
        let all = u32::try_from(2 * self.most).expect("a sane limit");
        let _ = self.connections.acquire_many(all).await;
    }
}

impl Seat {
    /// A ping was sent.
    pub fn pinged(&self, now_nanos: i64) {
        let _ = self.owed_since_nanos.compare_exchange(
            ANSWERED,
            now_nanos,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The client has answered a ping.
    pub fn answered(&self) {
        self.owed_since_nanos.store(ANSWERED, Ordering::Relaxed);
    }

    /// Waits until there is something to do about this place.
    pub async fn word(&self) -> Word {
        loop {
            if self.given_away.load(Ordering::Relaxed) {
                return Word::Leave;
            }
            if self.asked.swap(false, Ordering::Relaxed) {
                return Word::Ping;
            }
            self.changed.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn word(place: &Place) -> Option<Word> {
        place.seat.word().now_or_never()
    }

    #[test]
    fn the_client_that_has_owed_a_pong_longest_gives_its_place_up() {
        let places = Places::new(3);
        let held: Vec<Place> = (0..3).map(|_| places.take(0).expect("a place")).collect();
        held[0].seat.pinged(20);
        held[1].seat.pinged(10);
        // A second ping changes nothing.
        held[1].seat.pinged(PATIENCE_NANOS);
        assert!(places.take(9 + PATIENCE_NANOS).is_none());
        assert!(places.take(30 + PATIENCE_NANOS).is_some());
        assert_eq!(word(&held[1]), Some(Word::Leave));
        assert_eq!(word(&held[0]), None);
        // What was free for a moment: the new client has gone.
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
            assert_eq!(word(place), Some(Word::Ping));
            place.seat.pinged(6);
        }
        // They are asked once, however many want in.
        assert!(places.take(7).is_none());
        assert!(held.iter().all(|place| word(place).is_none()));
        for place in &held {
            place.seat.answered();
        }
        assert!(places.take(10 * PATIENCE_NANOS).is_none());
    }

    #[test]
    fn goodbyes_are_bounded() {
        let places = Places::new(2);
        let mut held = Vec::new();
        // Places are given away, but those who held them have not gone yet.
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
