//! Several workers over one list of items, each on a thread of its own; what they find is written by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::worker::{Outcome, Worker};
use crate::lane::{Received, WhenFull, lane};
use crate::time::monotonic_nanos;
use crate::train::data::Item;

/// How often a line of progress is written.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Sends `items` through `workers` and hands every outcome to `write`, in the order in which they are ready. Ends at the first error of
/// `write` (a disk that is full); a broken item is none. Returns the seconds it took.
pub fn work(items: &[&Item], workers: Vec<Worker>, mut write: impl FnMut(&Item, Outcome) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let next = AtomicUsize::new(0);
    let (sender, outcomes) = lane("outcomes", 16, WhenFull::Block);
    let started = monotonic_nanos();
    let seconds_since = || (monotonic_nanos() - started) as f64 * 1e-9;
    std::thread::scope(|scope| {
        let outcomes = outcomes;
        for (number, mut worker) in workers.into_iter().enumerate() {
            let (sender, next) = (sender.clone(), &next);
            let body = move || {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((*item, worker.extract(item))).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new().name(format!("extract-{number}")).spawn_scoped(scope, body).context("the system gives no thread")?;
        }
        drop(sender);
        let (mut done, mut reported) = (0, 0.0);
        loop {
            match outcomes.recv(Some(Duration::from_millis(500))) {
                Received::Item((item, outcome)) => {
                    write(item, outcome)?;
                    done += 1;
                }
                Received::TimedOut => {}
                Received::Ended => break,
            }
            let seconds = seconds_since();
            if seconds - reported >= REPORT_EVERY.as_secs_f64() {
                reported = seconds;
                eprintln!("{}", progress(done, items.len(), seconds));
            }
        }
        if done < items.len() {
            bail!("a worker ended before its work was done; run the same command again to go on");
        }
        Ok(seconds_since())
    })
}

/// `120/4000 items, 3.1 items/s, 20 min 51 s left`.
fn progress(done: usize, all: usize, seconds: f64) -> String {
    let rate = done as f64 / seconds.max(1e-9);
    let left = if done == 0 { "time left unknown".into() } else { format!("{} left", duration((all - done) as f64 / rate)) };
    format!("{done}/{all} items, {rate:.2} items/s, {left}")
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_says_when_it_will_be_done() {
        assert_eq!(progress(0, 10, 5.0), "0/10 items, 0.00 items/s, time left unknown");
        assert_eq!(progress(50, 300, 20.0), "50/300 items, 2.50 items/s, 1 min 40 s left");
        assert_eq!(progress(1, 7201, 1.0), "1/7201 items, 1.00 items/s, 2 h 0 min left");
    }
}
