//! A pool of workers, one thread each, that share one list of jobs. All outcomes go to one sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use super::worker::{Outcome, Worker};
use crate::lane::{Received, WhenFull, lane};
use crate::time::{monotonic_nanos, thread_cpu_nanos};
use crate::train::data::{Item, Media};
use crate::train::store::FileStamp;

/// Items that one worker extracts together: a single item, or intervals of one recording, which is
/// then played once.
pub type Job<'a> = Vec<&'a Item>;

/// Divides items into jobs. Intervals of one recording that do not overlap form a job, sorted by
/// time; every other item is a job of its own. Jobs are in the order of their first items in
/// `items`.
pub fn jobs<'a>(items: &[&'a Item]) -> Vec<Job<'a>> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    let start = |i: usize| items[i].interval.map_or(0.0, |[start, _]| start);
    order.sort_by(|a, b| start(*a).total_cmp(&start(*b)));
    let mut jobs: Vec<(usize, Job)> = Vec::new();
    let mut open: std::collections::HashMap<MediaKey, Vec<usize>> = Default::default();
    for i in order {
        let item = items[i];
        let Some(([start, _], key)) = item
            .interval
            .filter(|[start, end]| end > start)
            .zip(media_key(&item.media))
        else {
            jobs.push((i, vec![item]));
            continue;
        };
        let of_media = open.entry(key).or_default();
        let follows = |job: &usize| {
            jobs[*job]
                .1
                .last()
                .and_then(|last| last.interval)
                .is_some_and(|[_, end]| end <= start)
        };
        match of_media.iter().copied().find(follows) {
            Some(job) => {
                jobs[job].0 = jobs[job].0.min(i);
                jobs[job].1.push(item);
            }
            None => {
                of_media.push(jobs.len());
                jobs.push((i, vec![item]));
            }
        }
    }
    jobs.sort_by_key(|(first, _)| *first);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// The recording or video file of an item, and its separate sound file.
type MediaKey<'a> = (&'a std::path::Path, Option<&'a std::path::Path>);

/// Identifies the files of an item; `None` for an item without a recording.
fn media_key(media: &Media) -> Option<MediaKey<'_>> {
    match media {
        Media::Recording(path) => Some((path, None)),
        Media::Separate { video, audio } => Some((video, Some(audio))),
        Media::Picture(_) | Media::None => None,
    }
}

/// Receives the outcomes of the workers, on the thread that called [`work`].
pub trait OutcomeSink {
    /// Receives the outcome of `item`. `media`: stamps of the item's files from before its
    /// extraction; empty if they could not be read. An error ends the work.
    fn write(&mut self, item: &Item, media: &[FileStamp], outcome: Outcome) -> anyhow::Result<()>;
    /// Called after each outcome and at least every 0.5 s. `seconds`: time since the start.
    fn report_progress(&mut self, seconds: f64);
}

/// Statistics of one call of [`work`].
#[derive(Clone, Copy, Debug)]
pub struct PoolStats {
    /// Duration of the work in seconds.
    pub seconds: f64,
    /// CPU time of the workers' threads and of the calling thread, in nanoseconds. Decoding and the
    /// opening of decoders are not included.
    pub cpu_nanos: i64,
    /// Whether `stop` ended the work before all items were done.
    pub stopped: bool,
}

/// Distributes `jobs` over `workers`, and passes every outcome to `sink` in the order of
/// completion. Once `stop` is set, the work ends after the current items.
///
/// # Errors
/// The first error of `sink` (such as a full disk), or the end of a worker before its jobs are
/// done. An item without rows is not an error.
pub fn work(
    jobs: &[Job],
    workers: Vec<Worker>,
    stop: &AtomicBool,
    sink: &mut impl OutcomeSink,
) -> anyhow::Result<PoolStats> {
    let (next, cpu_nanos) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (sender, outcomes) = lane("outcomes", 16, WhenFull::Block);
    let (started, cpu_started) = (monotonic_nanos(), thread_cpu_nanos());
    let seconds_since = || (monotonic_nanos() - started) as f64 * 1e-9;
    let all: usize = jobs.iter().map(Vec::len).sum();
    std::thread::scope(|scope| {
        let outcomes = outcomes;
        for (number, mut worker) in workers.into_iter().enumerate() {
            let (sender, next, cpu_nanos) = (sender.clone(), &next, &cpu_nanos);
            let body = move || {
                let closed = AtomicBool::new(false);
                let goes_on = || !stop.load(Ordering::Relaxed) && !closed.load(Ordering::Relaxed);
                while goes_on()
                    && let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    // All items of a job have the same media.
                    let media: Arc<[FileStamp]> =
                        FileStamp::read(&job[0].media).unwrap_or_default().into();
                    worker.extract_all(job, &goes_on, &mut |item, outcome| {
                        let sent = sender.send((item, media.clone(), outcome));
                        closed.fetch_or(sent.is_err(), Ordering::Relaxed);
                    });
                }
                cpu_nanos.fetch_add(
                    (thread_cpu_nanos() - worker.opening_cpu_nanos()) as usize,
                    Ordering::Relaxed,
                );
            };
            std::thread::Builder::new()
                .name(format!("extract-{number}"))
                .spawn_scoped(scope, body)
                .context("the system gives no thread")?;
        }
        drop(sender);
        let mut done = 0;
        loop {
            match outcomes.recv(Some(Duration::from_millis(500))) {
                Received::Item((item, media, outcome)) => {
                    sink.write(item, &media, outcome)?;
                    done += 1;
                }
                Received::TimedOut => {}
                Received::Ended => break,
            }
            sink.report_progress(seconds_since());
        }
        let stopped = done < all && stop.load(Ordering::Relaxed);
        if done < all && !stopped {
            bail!("a worker ended before its work was done; run the same command again to go on");
        }
        Ok(PoolStats {
            seconds: seconds_since(),
            cpu_nanos: cpu_nanos.load(Ordering::Relaxed) as i64 + thread_cpu_nanos() - cpu_started,
            stopped,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::Split;

    #[test]
    fn intervals_of_one_recording_share_a_job_if_they_do_not_overlap() {
        let item = |id: &str, path: &str, interval| Item {
            id: id.into(),
            split: Split::Train,
            group: String::new(),
            media: Media::Recording(path.into()),
            interval,
            text: None,
            target: None,
        };
        let items = [
            item("a0", "a", Some([4.0, 6.0])),
            item("a1", "a", Some([0.0, 3.0])),
            item("b", "b", None),
            item("a2", "a", Some([2.0, 4.0])),
            item("a3", "a", Some([3.0, 4.0])),
            item("c", "c", Some([1.0, 2.0])),
            item("empty", "c", Some([5.0, 5.0])),
        ];
        let jobs = jobs(&items.iter().collect::<Vec<_>>());
        let ids: Vec<Vec<&str>> = jobs
            .iter()
            .map(|job| job.iter().map(|item| item.id.as_str()).collect())
            .collect();
        assert_eq!(
            ids,
            [
                vec!["a1", "a3", "a0"],
                vec!["b"],
                vec!["a2"],
                vec!["c"],
                vec!["empty"]
            ]
        );
    }
}
