//! A thread that follows the ring and ends with it, however its output stalls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::output::at_most;

/// Time for a thread to return from a write once it must not wait any more.
const LEAVING: Duration = Duration::from_millis(200);

/// To be asked by the thread while it waits for its reader.
#[derive(Clone, Debug, Default)]
pub struct GoesOn(Arc<AtomicBool>);

impl GoesOn {
    pub fn holds(&self) -> bool {
        !self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub struct SinkThread {
    thread: JoinHandle<()>,
    goes_on: GoesOn,
}

impl SinkThread {
    pub fn spawn(name: &str, work: impl FnOnce(GoesOn) + Send + 'static) -> io::Result<SinkThread> {
        let goes_on = GoesOn::default();
        let theirs = goes_on.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(theirs))?;
        Ok(SinkThread { thread, goes_on })
    }

    /// Once the ring is closed: waits for the thread to write what is left, at most `limit`; then
    /// it no longer waits for its reader. A thread that hangs in the system all the same is left.
    pub fn finish(self, limit: Duration) {
        self.wait(limit);
        self.goes_on.0.store(true, Ordering::Release);
        self.wait(LEAVING);
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
    }

    fn wait(&self, limit: Duration) {
        let goes_on = at_most(limit);
        while !self.thread.is_finished() && goes_on() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
