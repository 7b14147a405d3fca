//! Synchronisation primitives of the queues between threads: [`crate::lane`], the inference queue
//! and the ring of events.
//!
//! They are the primitives of `std::sync`; counters and `Arc` are not replaced. The tests of the
//! feature `shuttle` use the primitives of the model checker Shuttle instead, which runs the
//! threads of a test one at a time and chooses the order. No program contains Shuttle, with any
//! feature.

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

    /// Number of thread orders that each of the two strategies tries; `EXPRESSD_SCHEDULES`
    /// overrides it.
    const SCHEDULES: usize = 5000;
    /// Seed of the strategies, so that every run tries the same orders.
    const SEED: u64 = 0x1234_5678_9abc_def1;
    /// Depth of the strategy PCT (Burckhardt et al. 2010): the number of preemptions in an order,
    /// plus 1. Most known faults need three preemptions at most.
    const DEPTH: usize = 4;
    /// Stack size of a test thread. Serialisation of an event needs more than Shuttle's default of
    /// 32 KiB.
    const STACK_BYTES: usize = 1 << 18;

    /// Runs `test` in many orders of its threads. It fails if `test` panics or deadlocks in one of
    /// them, and prints this order for `shuttle::replay`.
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
