//! The thread of a sink: it reads the ring and writes each event to the sink. It ends after the
//! ring is closed, even if the sink's output stalls.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::missed::Missed;
use super::ring::{Published, Read, Reader, Ring};
use super::sink::{LossPolicy, Sink, SinkError};
use crate::output::at_most;

/// Interval of attempts to report lost events in the output while no event is published.
const IDLE: Duration = Duration::from_secs(1);
/// How long a sink's thread may take to return from a write once waiting is forbidden.
const LEAVING: Duration = Duration::from_millis(200);

/// A function that is called with a sink's name and the number of newly lost events, on the sink's
/// thread.
pub(super) type OnLoss = Arc<dyn Fn(&'static str, u64) + Send + Sync>;

/// A running sink, seen from the thread that started it.
pub(super) struct Follower {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
    ring: Arc<Ring>,
    /// The `seq` of the first event that the sink was to write.
    first_seq: u64,
    target: String,
    policy: LossPolicy,
}

/// State that the sink's thread shares with the [`Follower`].
#[derive(Default)]
struct Shared {
    /// Whether the sink must no longer wait for the reader of its output.
    must_not_wait: AtomicBool,
    /// Number of written events.
    written: AtomicU64,
    /// Number of events that could not be written, or that left the ring unread.
    lost: AtomicU64,
    /// The newest error of a write.
    cause: Mutex<Option<io::Error>>,
}

/// How many events a sink wrote and lost, once it has ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The output's name in messages.
    pub target: String,
    pub policy: LossPolicy,
    /// Number of written events.
    pub written: u64,
    /// Number of events since the start of the sink that are not in its output.
    pub lost: u64,
    /// The newest error of a write; `None` if no write failed.
    pub cause: Option<io::Error>,
}

impl Follower {
    /// Starts the thread of `sink`, which writes every event of `reader` until the ring is closed.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(sink: Box<dyn Sink>, reader: Reader, on_loss: OnLoss) -> io::Result<Follower> {
        let (ring, first_seq) = reader.position();
        let (target, policy) = (sink.target(), sink.loss_policy());
        let shared = Arc::new(Shared::default());
        let work = Work {
            name: sink.name(),
            target: target.clone(),
            first_seq,
            reader,
            on_loss,
            shared: shared.clone(),
            missed: None,
            failed: false,
        };
        let thread = std::thread::Builder::new()
            .name(work.name.into())
            .spawn(move || work.run(sink))?;
        Ok(Follower {
            thread,
            shared,
            ring,
            first_seq,
            target,
            policy,
        })
    }

    /// Ends the sinks of a closed ring. Waits at most `limit`, for all of them together, until the
    /// remaining events are written. After that the sinks no longer wait for their readers, and
    /// unwritten events are lost. A thread that still hangs in a system call is abandoned.
    pub fn finish(followers: Vec<Follower>, limit: Duration) -> Vec<Outcome> {
        let wait = |limit| {
            let goes_on = at_most(limit);
            while !followers.iter().all(|f| f.thread.is_finished()) && goes_on() {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait(limit);
        for follower in &followers {
            follower.shared.must_not_wait.store(true, Ordering::Release);
        }
        wait(LEAVING);
        followers.into_iter().map(Follower::outcome).collect()
    }

    fn outcome(self) -> Outcome {
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
        let written = self.shared.written.load(Ordering::Relaxed);
        Outcome {
            target: self.target,
            policy: self.policy,
            written,
            lost: (self.ring.next_seq() - self.first_seq).saturating_sub(written),
            cause: self.shared.cause.lock().expect("cause lock").take(),
        }
    }
}

/// The state of a sink's thread.
struct Work {
    /// The sink's name.
    name: &'static str,
    /// The output's name in messages.
    target: String,
    /// The `seq` of the first event to write.
    first_seq: u64,
    reader: Reader,
    on_loss: OnLoss,
    shared: Arc<Shared>,
    /// Lost events that are not yet reported in the output.
    missed: Option<Missed>,
    /// Whether the newest call of the sink failed; its error was then logged.
    failed: bool,
}

impl Work {
    /// Runs the sink. If it panics, all later events are counted as lost.
    fn run(mut self, mut sink: Box<dyn Sink>) {
        let followed = catch_unwind(AssertUnwindSafe(|| self.follow(&mut *sink)));
        if followed.is_ok() {
            return;
        }
        tracing::error!(
            "the output to {} panicked, which is a defect; all later events of it are lost",
            self.target
        );
        let (_, next) = self.reader.position();
        let counted =
            self.shared.written.load(Ordering::Relaxed) + self.shared.lost.load(Ordering::Relaxed);
        self.count_lost((next - self.first_seq).saturating_sub(counted));
        loop {
            match self.reader.read(IDLE) {
                Read::Event(_) => self.count_lost(1),
                Read::Missed(missed) => self.count_lost(missed.count),
                Read::TimedOut => {}
                Read::Ended => break,
            }
        }
    }

    /// Writes events until the ring is closed or the output needs no more events.
    fn follow(&mut self, sink: &mut dyn Sink) {
        loop {
            let done = match self.reader.read(IDLE) {
                Read::Event(event) => self.write(sink, &event),
                Read::Missed(missed) => {
                    self.note_missed(missed);
                    Ok(())
                }
                Read::TimedOut => self.report_missed(sink).map(|_| ()),
                Read::Ended => break,
            };
            if done.is_err() {
                tracing::debug!("the output to {} has ended", self.target);
                return;
            }
        }
        let _ = self.report_missed(sink);
        let shared = self.shared.clone();
        let unread = sink.finish(&|| !shared.must_not_wait.load(Ordering::Acquire));
        if unread > 0 {
            // The unread lines may include a report of lost events, which does not count as
            // written.
            let less = unread.min(shared.written.load(Ordering::Relaxed));
            shared.written.fetch_sub(less, Ordering::Relaxed);
            self.count_lost(less);
        }
    }

    fn write(&mut self, sink: &mut dyn Sink, event: &Published) -> Result<(), OutputEnded> {
        let is_written =
            self.report_missed(sink)? && self.call(|may_wait| sink.write(event, may_wait))?;
        if is_written {
            self.shared.written.fetch_add(1, Ordering::Relaxed);
        } else {
            self.note_missed(Missed::range(event.seq, event.seq));
        }
        Ok(())
    }

    fn note_missed(&mut self, more: Missed) {
        self.count_lost(more.count);
        self.missed = Some(self.missed.map_or(more, |missed| missed.merge(more)));
    }

    fn count_lost(&self, events: u64) {
        self.shared.lost.fetch_add(events, Ordering::Relaxed);
        (self.on_loss)(self.name, events);
    }

    /// Reports lost events in the output. Returns whether none is left to report.
    fn report_missed(&mut self, sink: &mut dyn Sink) -> Result<bool, OutputEnded> {
        let Some(missed) = self.missed else {
            return Ok(true);
        };
        let reported = self.call(|may_wait| sink.missed(missed, may_wait))?;
        if reported {
            self.missed = None;
        }
        Ok(reported)
    }

    /// Calls the sink, and returns whether the call succeeded. Of consecutive errors, only the
    /// first is logged.
    fn call(
        &mut self,
        call: impl FnOnce(&dyn Fn() -> bool) -> Result<(), SinkError>,
    ) -> Result<bool, OutputEnded> {
        let shared = &self.shared;
        match call(&|| !shared.must_not_wait.load(Ordering::Acquire)) {
            Ok(()) => self.failed = false,
            Err(SinkError::Ended) => return Err(OutputEnded),
            Err(SinkError::Failed(error)) => {
                if !self.failed {
                    tracing::error!(
                        "cannot write to {}: {error}; its events are lost until a write succeeds",
                        self.target
                    );
                }
                self.failed = true;
                *self.shared.cause.lock().expect("cause lock") = Some(error);
            }
        }
        Ok(!self.failed)
    }
}

/// The output has ended and needs no more events.
struct OutputEnded;

#[cfg(test)]
mod tests;
