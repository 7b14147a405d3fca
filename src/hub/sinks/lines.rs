//! Line-based outputs: a file, a FIFO or standard output gets one line for each event. A new format
//! needs a configuration key and an entry in [`FORMATS`].

use std::path::PathBuf;

use super::{Opening, SinksError};
use crate::config::PublishConfig;
use crate::hub::missed::Missed;
use crate::hub::out_file::{LineOutput, OpenMode, OutFile};
use crate::hub::ring::Published;
use crate::hub::sink::{LossPolicy, MayWait, Sink, SinkError};

/// A line-based output format.
struct Format {
    /// The sink's name.
    name: &'static str,
    /// Returns the output's path in the configuration; `None`: the output is not configured.
    path: fn(&PublishConfig) -> Option<&PathBuf>,
    /// Returns the line for an event, without a newline.
    event: fn(&Published) -> String,
    /// Returns the line that reports lost events, without a newline.
    missed: fn(Missed) -> String,
}

const FORMATS: &[Format] = &[
    // JSON Lines: the same frames as on the sockets.
    Format {
        name: "jsonl",
        path: |config| config.jsonl.as_ref(),
        event: |published| published.frame.to_string(),
        missed: |missed| missed.answer().to_json(),
    },
];

/// Opens the line-based outputs that are configured.
pub(super) fn open(opening: &mut Opening) -> Result<Vec<Box<dyn Sink>>, SinksError> {
    let mut opened: Vec<Box<dyn Sink>> = Vec::new();
    for format in FORMATS {
        let Some(path) = (format.path)(opening.config) else {
            continue;
        };
        let out = OutFile::open(path, OpenMode::Append, opening.recording)?;
        let policy = if out.is_stdout() {
            opening.stdout_is_taken = true;
            LossPolicy::ErrorUnlessReaderLeft
        } else {
            LossPolicy::Error
        };
        opened.push(Box::new(LineSink {
            out,
            format,
            target: path.display().to_string(),
            policy,
        }));
    }
    Ok(opened)
}

/// A sink that writes each event as one line without delay. Lost events are reported by a line of
/// their own as soon as it can be written.
struct LineSink<O> {
    out: O,
    format: &'static Format,
    target: String,
    policy: LossPolicy,
}

impl<O: LineOutput> Sink for LineSink<O> {
    fn name(&self) -> &'static str {
        self.format.name
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn loss_policy(&self) -> LossPolicy {
        self.policy
    }

    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError> {
        let line = (self.format.event)(event) + "\n";
        Ok(self.out.write_line(line.as_bytes(), may_wait)?)
    }

    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let line = (self.format.missed)(missed) + "\n";
        Ok(self.out.write_line(line.as_bytes(), may_wait)?)
    }

    fn finish(&mut self, _may_wait: MayWait) -> u64 {
        self.out.unread_lines() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::event::Form;
    use crate::hub::Ring;
    use crate::hub::follower::{Follower, Outcome};
    use crate::hub::testing::expression;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A test output that accepts `room` lines and then fails with "storage full" until `room` is
    /// raised.
    #[derive(Clone, Default)]
    struct Disk {
        lines: Arc<Mutex<Vec<String>>>,
        room: Arc<AtomicU64>,
    }
    impl LineOutput for Disk {
        fn write_line(&mut self, line: &[u8], _: &dyn Fn() -> bool) -> io::Result<()> {
            let take = |room: u64| room.checked_sub(1);
            if self
                .room
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
                .is_err()
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let line = String::from_utf8(line.to_vec()).unwrap();
            self.lines.lock().unwrap().push(line);
            Ok(())
        }
    }

    /// A test output that accepts no line, as if its reader had stalled.
    struct Stalled;
    impl LineOutput for Stalled {
        fn write_line(&mut self, _: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
            while goes_on() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// Runs a line sink with the output `out`. `on_loss` gets the number of newly lost events.
    fn follow(
        ring: &Arc<Ring>,
        out: impl LineOutput + 'static,
        on_loss: impl Fn(u64) + Send + Sync + 'static,
    ) -> Follower {
        let sink = LineSink {
            out,
            format: &FORMATS[0],
            target: "events.jsonl".into(),
            policy: LossPolicy::Error,
        };
        let on_loss = move |name, frames| {
            assert_eq!(name, "jsonl");
            on_loss(frames);
        };
        Follower::spawn(Box::new(sink), ring.reader(), Arc::new(on_loss)).unwrap()
    }

    fn finish(follower: Follower, limit: Duration) -> Outcome {
        Follower::finish(vec![follower], limit).remove(0)
    }

    #[test]
    fn a_file_holds_the_frames_and_a_report_of_events_lost_on_a_full_disk() {
        let ring = Arc::new(Ring::default());
        let disk = Disk::default();
        disk.room.store(3, Ordering::Release);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        let on_loss = move |frames| _ = counter.fetch_add(frames, Ordering::Release);
        let follower = follow(&ring, disk.clone(), on_loss);
        let publish = || ring.publish(expression(1, "happy", 0.5, 0));
        (0..5).for_each(|_| _ = publish());
        let waits = crate::output::at_most(PATIENCE);
        while lost.load(Ordering::Acquire) < 2 && waits() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(lost.load(Ordering::Acquire), 2);
        disk.room.store(100, Ordering::Release);
        publish();
        ring.close();
        let written = finish(follower, PATIENCE);
        assert_eq!((written.written, written.lost), (4, 2));
        assert_eq!(written.cause.unwrap().kind(), io::ErrorKind::StorageFull);
        let lines = disk.lines.lock().unwrap().clone();
        let one = |seq| expression(1, "happy", 0.5, 0).to_json(seq, Form::Live) + "\n";
        let dropped = Missed::range(4, 5).answer().to_json() + "\n";
        assert_eq!(lines, [one(1), one(2), one(3), dropped, one(6)]);
    }

    #[test]
    fn finish_does_not_wait_for_a_stalled_reader_and_counts_its_events_as_lost() {
        let ring = Arc::new(Ring::new(4, 1 << 20));
        let follower = follow(&ring, Stalled, |_| ());
        for _ in 0..10 {
            ring.publish(expression(1, "happy", 0.5, 0));
        }
        ring.close();
        let written = finish(follower, Duration::from_millis(20));
        assert_eq!((written.written, written.lost), (0, 10));
        assert_eq!(written.cause.unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
