//! JSON Lines: the frames in a file or a pipe, one a line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ring::{Read, Reader};
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

/// What happened to the file of [`follow`].
#[derive(Debug, Default)]
pub struct JsonLinesCounters {
    pub written: AtomicU64,
    /// Frames that could not be written, or that the ring overwrote before they were.
    pub lost: AtomicU64,
}

/// Follows the ring on a thread of its own ("publish") and writes every frame as it goes over the sockets, until the ring is closed.
/// A full disk is said once, counted, and told to `on_loss` with the number of frames; the sockets do not notice. What the ring overwrote
/// stands in the file as a `dropped` frame.
pub fn follow(
    mut reader: Reader,
    mut out: impl Write + Send + 'static,
    name: String,
    on_loss: impl Fn(u64) + Send + 'static,
) -> io::Result<(JoinHandle<()>, Arc<JsonLinesCounters>)> {
    let counters = Arc::new(JsonLinesCounters::default());
    let counted = counters.clone();
    let thread = std::thread::Builder::new().name("publish".into()).spawn(move || {
        let mut failed = false;
        let lose = |frames| {
            counted.lost.fetch_add(frames, Ordering::Relaxed);
            on_loss(frames);
        };
        loop {
            let (line, frames) = match reader.read(Duration::from_secs(1)) {
                Read::Frame { frame, .. } => (format!("{frame}\n"), 1),
                Read::Missed(missed) => {
                    lose(missed.count);
                    (missed.answer().to_json() + "\n", 0)
                }
                Read::TimedOut => continue,
                Read::Ended => break,
            };
            // Line by line: whoever follows the file sees an event when it happens.
            match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => {
                    counted.written.fetch_add(frames, Ordering::Relaxed);
                    failed = false;
                }
                Err(error) => {
                    lose(frames);
                    if !failed {
                        tracing::error!("cannot write {name}: {error}; its lines are lost until it can be written again");
                    }
                    failed = true;
                }
            }
        }
    })?;
    Ok((thread, counters))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::publish::Ring;
    use crate::publish::cursor::tests::expression;

    /// Takes so many bytes, then is full.
    struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }
    impl Write for Disk {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut bytes = self.bytes.lock().unwrap();
            if bytes.len() + data.len() > self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.extend_from_slice(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_file_holds_the_frames_as_sent_and_a_full_disk_is_counted() {
        let ring = Arc::new(Ring::default());
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let one = expression(1, "happy", 0.5, 0).to_json(1, Form::Live);
        let disk = Disk {
            bytes: bytes.clone(),
            room: 3 * (one.len() + 1),
        };
        let told = Arc::new(AtomicU64::new(0));
        let heard = told.clone();
        let on_loss = move |frames| _ = heard.fetch_add(frames, Ordering::Relaxed);
        let (thread, counters) =
            follow(ring.reader(), disk, "events.jsonl".into(), on_loss).unwrap();
        for _ in 0..5 {
            ring.publish(&expression(1, "happy", 0.5, 0));
        }
        ring.close();
        thread.join().unwrap();
        assert_eq!(
            (
                counters.written.load(Ordering::Relaxed),
                counters.lost.load(Ordering::Relaxed)
            ),
            (3, 2)
        );
        assert_eq!(told.load(Ordering::Relaxed), 2);
        let text = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().next(), Some(one.as_str()));
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
