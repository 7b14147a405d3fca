//! JSON Lines: each frame is a line of a file or a pipe.

use std::io::{self, Write};

use super::{Opening, SinksError};
use crate::event::{Event, Form};
use crate::hub::missed::Missed;
use crate::hub::out_file::{LineOutput, OpenMode, OutFile};
use crate::hub::ring::Published;
use crate::hub::sink::{LossPolicy, MayWait, Sink, SinkError};

/// Writes the offline form: `seq` counts the written events. For `replay`, which waits for the disk
/// and loses nothing.
pub struct JsonLines<W: Write> {
    out: W,
    written: u64,
    /// The first member of every line, if several recordings share one file.
    recording: Option<String>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`, for one recording.
    pub fn new(out: W) -> Self {
        JsonLines {
            out,
            written: 0,
            recording: None,
        }
    }

    /// Starts a recording: `seq` starts again at 1.
    pub fn begin(&mut self, recording: Option<String>) {
        (self.written, self.recording) = (0, recording);
    }

    /// Takes the output over: an existing file is truncated now, even if no event follows.
    pub fn start(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the event if it is part of the offline form, and flushes, so that a pipe's reader
    /// gets it at once.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        if !event.is_offline() {
            return Ok(());
        }
        self.written += 1;
        let mut line = event.to_json(self.written, Form::Offline);
        if let Some(recording) = &self.recording {
            line.replace_range(
                ..1,
                &format!(
                    "{{\"recording\":{},",
                    serde_json::Value::from(recording.as_str())
                ),
            );
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }
}

/// Opens the output that `publish.jsonl` names.
pub(super) fn open(opening: &mut Opening) -> Result<Option<Box<dyn Sink>>, SinksError> {
    let Some(path) = &opening.config.jsonl else {
        return Ok(None);
    };
    let out = OutFile::open(path, OpenMode::Append, opening.recording)?;
    let policy = if out.is_stdout() {
        opening.stdout_is_taken = true;
        LossPolicy::ErrorUnlessReaderLeft
    } else {
        LossPolicy::Error
    };
    Ok(Some(Box::new(JsonLinesSink {
        out,
        target: path.display().to_string(),
        policy,
    })))
}

/// Writes every frame of the sockets as a line, at once. Lost events are reported by a `dropped`
/// frame as soon as it can be written.
struct JsonLinesSink<O> {
    out: O,
    target: String,
    policy: LossPolicy,
}

impl<O: LineOutput> Sink for JsonLinesSink<O> {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn loss_policy(&self) -> LossPolicy {
        self.policy
    }

    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError> {
        let line = format!("{}\n", event.frame);
        Ok(self.out.put(line.as_bytes(), may_wait)?)
    }

    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let line = missed.answer().to_json() + "\n";
        Ok(self.out.put(line.as_bytes(), may_wait)?)
    }

    fn finish(&mut self, _may_wait: MayWait) -> u64 {
        self.out.unread_lines() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::hub::Ring;
    use crate::hub::follower::{Follower, Outcome};
    use crate::hub::testing::expression;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Accepts `room` lines, then is full until it gets room again.
    #[derive(Clone, Default)]
    struct Disk {
        lines: Arc<Mutex<Vec<String>>>,
        room: Arc<AtomicU64>,
    }
    impl LineOutput for Disk {
        fn put(&mut self, line: &[u8], _: &dyn Fn() -> bool) -> io::Result<()> {
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

    /// Accepts no line.
    struct Stalled;
    impl LineOutput for Stalled {
        fn put(&mut self, _: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
            while goes_on() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    /// Follows the ring. `on_loss` gets the number of lost frames.
    fn follow(
        ring: &Arc<Ring>,
        out: impl LineOutput + 'static,
        on_loss: impl Fn(u64) + Send + Sync + 'static,
    ) -> Follower {
        let sink = JsonLinesSink {
            out,
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
    fn the_file_holds_the_frames_as_sent_and_reports_losses_of_a_full_disk() {
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
    fn an_end_does_not_wait_for_a_stalled_reader_and_counts_all_its_frames() {
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

    #[test]
    fn the_offline_form_counts_written_events() {
        let mut lines = JsonLines::new(Vec::new());
        lines.write(&expression(1, "happy", 0.5, 0)).unwrap();
        lines.write(&expression(1, "sad", 0.5, 200)).unwrap();
        lines.begin(Some("a.mp4".into()));
        lines.write(&expression(1, "sad", 0.5, 0)).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert!(
            text.lines()
                .nth(2)
                .unwrap()
                .starts_with(r#"{"recording":"a.mp4","type":"expression","seq":1,"#),
            "{text}"
        );
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with(r#"{"type":"expression","seq":2,"#),
            "{text}"
        );
        assert!(
            !text.contains("age_ms") && !text.contains("latency_ms"),
            "{text}"
        );
    }
}
