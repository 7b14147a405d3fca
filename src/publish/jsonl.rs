//! JSON Lines: the frames in a file or a pipe, one a line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cursor::Missed;
use super::out_file::LineSink;
use super::ring::{Read, Reader, Ring};
use super::sink_thread::{GoesOn, SinkThread};
use crate::event::{Event, Form};

/// Writes the offline form: `seq` counts what is written. For `replay`, which waits for the disk and loses nothing.
pub struct JsonLines<W: Write> {
    out: W,
    written: u64,
    /// Put first into every line where several recordings share one file.
    recording: Option<String>,
}

impl<W: Write> JsonLines<W> {
    pub fn new(out: W) -> Self {
        JsonLines {
            out,
            written: 0,
            recording: None,
        }
    }

    /// The lines that follow belong to this recording: `seq` begins anew.
    pub fn begin(&mut self, recording: Option<String>) {
        (self.written, self.recording) = (0, recording);
    }

    /// Something will be written, or nothing is to be: the output is ours from here on.
    pub fn start(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the event if it is part of the offline form, and flushes: whoever reads the pipe sees it at once.
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

/// What happened to the output of [`follow`].
#[derive(Debug, Default)]
pub struct JsonLinesCounters {
    pub written: AtomicU64,
    /// Frames that could not be written, or that the ring overwrote before they were.
    pub lost: AtomicU64,
    /// Why frames could not be written, the newest cause.
    cause: Mutex<Option<io::Error>>,
}

/// The thread of [`follow`].
pub struct Follower {
    thread: SinkThread,
    counters: Arc<JsonLinesCounters>,
    ring: Arc<Ring>,
    first_seq: u64,
}

/// How the output of [`follow`] ended.
#[derive(Debug)]
pub struct Written {
    pub written: u64,
    pub lost: u64,
    /// Why frames could not be written, the newest cause.
    pub cause: Option<io::Error>,
}

impl Follower {
    pub fn counters(&self) -> Arc<JsonLinesCounters> {
        self.counters.clone()
    }

    /// Once the ring is closed: what is left gets `limit` to be written, and is lost then.
    pub fn finish(self, limit: Duration) -> Written {
        self.thread.finish(limit);
        let written = self.counters.written.load(Ordering::Relaxed);
        Written {
            written,
            lost: (self.ring.next_seq() - self.first_seq).saturating_sub(written),
            cause: self.counters.cause.lock().expect("cause lock").take(),
        }
    }
}

/// Follows the ring on a thread of its own ("publish") and writes every frame as it goes over the sockets, until the ring is closed.
/// A full disk is logged once, counted, and told to `on_loss` with the number of frames; the
/// sockets do not notice. What is not in the output stands there as a `dropped` frame, as soon as
/// it can be written.
pub fn follow(
    reader: Reader,
    out: impl LineSink + 'static,
    name: String,
    on_loss: impl Fn(u64) + Send + 'static,
) -> io::Result<Follower> {
    let counters = Arc::new(JsonLinesCounters::default());
    let (ring, first_seq) = reader.position();
    let writer = FrameWriter {
        out,
        name,
        on_loss,
        counters: counters.clone(),
        missed: None,
        failed: false,
    };
    let thread = SinkThread::spawn("publish", move |goes_on| writer.follow(reader, &goes_on))?;
    Ok(Follower {
        thread,
        counters,
        ring,
        first_seq,
    })
}

/// Writes frames, and a `dropped` frame in the place of those that it could not write.
struct FrameWriter<S, L> {
    out: S,
    name: String,
    on_loss: L,
    counters: Arc<JsonLinesCounters>,
    /// Frames that are lost and of which the output does not say so yet.
    missed: Option<Missed>,
    failed: bool,
}

impl<S: LineSink, L: Fn(u64)> FrameWriter<S, L> {
    fn follow(mut self, mut reader: Reader, goes_on: &GoesOn) {
        loop {
            match reader.read(Duration::from_secs(1)) {
                Read::Frame { seq, frame } => {
                    // Line by line: whoever follows the file sees an event when it happens.
                    if self.say_what_is_missing(goes_on) && self.put(&frame, goes_on) {
                        self.counters.written.fetch_add(1, Ordering::Relaxed);
                    } else {
                        self.lose(Missed::range(seq, seq));
                    }
                }
                Read::Missed(missed) => self.lose(missed),
                Read::TimedOut => _ = self.say_what_is_missing(goes_on),
                Read::Ended => break,
            }
        }
        self.say_what_is_missing(goes_on);
        let unread = self.out.unread_lines() as u64;
        if unread > 0 {
            // A `dropped` frame may be among them.
            let written = &self.counters.written;
            let less = unread.min(written.load(Ordering::Relaxed));
            written.fetch_sub(less, Ordering::Relaxed);
            self.counters.lost.fetch_add(less, Ordering::Relaxed);
            (self.on_loss)(less);
        }
    }

    fn lose(&mut self, more: Missed) {
        self.counters.lost.fetch_add(more.count, Ordering::Relaxed);
        (self.on_loss)(more.count);
        self.missed = Some(self.missed.map_or(more, |missed| missed.and(more)));
    }

    /// True where nothing is left to be said.
    fn say_what_is_missing(&mut self, goes_on: &GoesOn) -> bool {
        let Some(missed) = self.missed else {
            return true;
        };
        let said = self.put(&missed.answer().to_json(), goes_on);
        if said {
            self.missed = None;
        }
        said
    }

    fn put(&mut self, frame: &str, goes_on: &GoesOn) -> bool {
        let put = self
            .out
            .put(format!("{frame}\n").as_bytes(), &|| goes_on.holds());
        let failed = put.is_err();
        if let Err(error) = put {
            if !self.failed {
                tracing::error!(
                    "cannot write {}: {error}; its lines are lost until it can be written again",
                    self.name
                );
            }
            *self.counters.cause.lock().expect("cause lock") = Some(error);
        }
        self.failed = failed;
        !failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::cursor::tests::expression;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes so many lines, then is full until it gets room again.
    #[derive(Clone, Default)]
    struct Disk {
        lines: Arc<Mutex<Vec<String>>>,
        room: Arc<AtomicU64>,
    }
    impl LineSink for Disk {
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

    /// Never takes anything.
    struct Stalled;
    impl LineSink for Stalled {
        fn put(&mut self, _: &[u8], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
            while goes_on() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    #[test]
    fn the_file_holds_the_frames_as_sent_and_says_what_a_full_disk_cost() {
        let ring = Arc::new(Ring::default());
        let disk = Disk::default();
        disk.room.store(3, Ordering::Release);
        let told = Arc::new(AtomicU64::new(0));
        let heard = told.clone();
        let on_loss = move |frames| _ = heard.fetch_add(frames, Ordering::Release);
        let name = "events.jsonl".to_owned();
        let follower = follow(ring.reader(), disk.clone(), name, on_loss).unwrap();
        let publish = || ring.publish(&expression(1, "happy", 0.5, 0));
        (0..5).for_each(|_| _ = publish());
        let waits = crate::output::at_most(PATIENCE);
        while told.load(Ordering::Acquire) < 2 && waits() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(told.load(Ordering::Acquire), 2);
        disk.room.store(100, Ordering::Release);
        publish();
        ring.close();
        let written = follower.finish(PATIENCE);
        assert_eq!((written.written, written.lost), (4, 2));
        assert_eq!(written.cause.unwrap().kind(), io::ErrorKind::StorageFull);
        let lines = disk.lines.lock().unwrap().clone();
        let one = |seq| expression(1, "happy", 0.5, 0).to_json(seq, Form::Live) + "\n";
        let dropped = Missed::range(4, 5).answer().to_json() + "\n";
        assert_eq!(lines, [one(1), one(2), one(3), dropped, one(6)]);
    }

    #[test]
    fn an_end_does_not_wait_for_a_reader_that_stalls_and_all_its_frames_count() {
        let ring = Arc::new(Ring::new(4, 1 << 20));
        let name = "a pipe".to_owned();
        let follower = follow(ring.reader(), Stalled, name, |_| ()).unwrap();
        for _ in 0..10 {
            ring.publish(&expression(1, "happy", 0.5, 0));
        }
        ring.close();
        let written = follower.finish(Duration::from_millis(20));
        assert_eq!((written.written, written.lost), (0, 10));
        assert_eq!(written.cause.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_offline_form_counts_what_it_writes() {
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
