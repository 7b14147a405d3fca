//! Synchronisation primitives of the queues between threads: [`crate::lane`], the inference queue
//! and the ring of events.
//!
//! They are those of `std::sync`; counters and `Arc` are not among them. The tests of the feature
//! `shuttle` replace them by the primitives of the model checker Shuttle, which runs the threads of
//! a test one at a time and chooses the order. No program contains Shuttle, with any feature.

#[cfg(not(all(test, feature = "shuttle")))]
mod primitives {
    pub(crate) use std::sync::{Condvar, Mutex};
    #[cfg(feature = "serve")]
    pub(crate) use std::sync::{MutexGuard, RwLock};
}

#[cfg(all(test, feature = "shuttle"))]
mod primitives {
    pub(crate) use shuttle::sync::{Condvar, Mutex};
    #[cfg(feature = "serve")]
    pub(crate) use shuttle::sync::{MutexGuard, RwLock};
}

pub(crate) use primitives::*;

/// Runs of a test under the model checker.
#[cfg(all(test, feature = "shuttle"))]
pub(crate) mod schedules {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, Runner};

    /// Orders of threads for each of the two strategies; `EXPRESSD_SCHEDULES` sets another number.
    const SCHEDULES: usize = 5000;
    /// The same orders in every run.
    const SEED: u64 = 0x1234_5678_9abc_def1;
    /// Depth of the strategy PCT (Burckhardt et al. 2010): preemptions of an order, and one. Most
    /// known faults need three preemptions at most.
    const DEPTH: usize = 4;
    /// Serialisation of an event needs more than Shuttle's default of 32 KiB.
    const STACK_BYTES: usize = 1 << 18;

    /// Runs `test` in many orders of its threads. A failed order is printed, for
    /// `shuttle::replay`. A deadlock fails too.
    ///
    /// A wait with a timeout never times out here: each wake-up must come from a notification.
    pub(crate) fn explore(test: impl Fn() + Send + Sync + Clone + 'static) {
        let count = std::env::var("EXPRESSD_SCHEDULES")
            .map_or(SCHEDULES, |text| text.parse().expect("a number"));
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        let random = RandomScheduler::new_from_seed(SEED, count);
        Runner::new(random, config.clone()).run(test.clone());
        let preempting = PctScheduler::new_from_seed(SEED, DEPTH, count);
        Runner::new(preempting, config).run(test);
    }
}
