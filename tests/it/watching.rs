//! A live source that is opened as the daemon does it, drained and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use expressd::capture::{AudioSpec, LiveCapture, Outputs, SourceHealth, VideoSpec, open_live};
use expressd::event::SourceState;
use expressd::lane::{Received, WhenFull, lane};
use expressd::time::{MediaTime, SystemClock};
use gstreamer as gst;
use gstreamer::prelude::*;

use crate::harness::eventually;

/// A picture comes within 2 s where the machine has nothing else to do; other tests run beside this one.
pub const FIRST_PICTURE: Duration = Duration::from_secs(6);

/// A picture's time of capture and size.
pub type Seen = (MediaTime, usize, usize);

/// A live source that is drained, and what came of it.
pub struct Watching {
    pub board: Arc<SourceHealth>,
    pub clock: Arc<SystemClock>,
    capture: Option<LiveCapture>,
    pictures: Arc<Mutex<Vec<Seen>>>,
    samples: Arc<AtomicUsize>,
    /// How often the video was lost.
    losses: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watching {
    pub fn open(video: &str, audio: &str) -> Self {
        let clock = Arc::new(SystemClock::new());
        let board = Arc::new(SourceHealth::default());
        let (frames, frames_out) = lane("frames", 4, WhenFull::DropOldest);
        let (sound, sound_out) = lane("audio", 8, WhenFull::DropOldest);
        let audio: AudioSpec = audio.parse().unwrap();
        let outputs = Outputs {
            frames: Some(frames),
            audio: (audio != AudioSpec::None).then_some(sound),
        };
        let video: VideoSpec = video.parse().unwrap();
        let capture = open_live(&video, &audio, clock.clone(), outputs, board.clone()).unwrap();
        let pictures = Arc::new(Mutex::new(Vec::new()));
        let (samples, losses, stop) = (Arc::default(), Arc::default(), Arc::default());
        let mut watching = Watching {
            board,
            clock,
            capture: Some(capture),
            pictures,
            samples,
            losses,
            stop,
            threads: Vec::new(),
        };
        let seen = watching.pictures.clone();
        watching.spawn(move || {
            while let Received::Item(frame) = frames_out.recv(None) {
                let picture = &frame.picture;
                let seen = &mut *seen.lock().unwrap();
                seen.push((frame.time, picture.width, picture.height));
            }
        });
        let heard = watching.samples.clone();
        watching.spawn(move || {
            while let Received::Item(block) = sound_out.recv(None) {
                heard.fetch_add(block.samples.len(), Ordering::Relaxed);
            }
        });
        let (board, losses) = (watching.board.clone(), watching.losses.clone());
        let stop = watching.stop.clone();
        watching.spawn(move || {
            let (mut changes, mut was_lost) = (0, false);
            while !stop.load(Ordering::Relaxed) {
                changes = board.wait_for_change(changes, Duration::from_millis(20));
                let is_lost = board.video.status().state == SourceState::Lost;
                if is_lost && !was_lost {
                    losses.fetch_add(1, Ordering::Relaxed);
                }
                was_lost = is_lost;
            }
        });
        watching
    }

    fn spawn(&mut self, body: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().name("watching".into());
        self.threads.push(thread.spawn(body).unwrap());
    }

    pub fn count(&self) -> usize {
        self.pictures.lock().unwrap().len()
    }

    pub fn heard(&self) -> usize {
        self.samples.load(Ordering::Relaxed)
    }

    pub fn pictures(&self) -> Vec<Seen> {
        self.pictures.lock().unwrap().clone()
    }

    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    pub fn reconnects(&self) -> u64 {
        let counters = &self.board.video.counters;
        counters.reconnects.load(Ordering::Relaxed)
    }

    pub fn reason(&self) -> String {
        self.board.video.status().reason.unwrap_or_default()
    }

    /// Waits for `count` pictures; how long it took.
    pub fn see(&self, count: usize, limit: Duration) -> Duration {
        eventually(
            &format!("{count} pictures, {:?}", self.board.video.status()),
            limit,
            || self.count() >= count,
        )
    }

    pub fn wait_for_sound(&self, state: SourceState, limit: Duration) {
        eventually(&format!("sound is {state:?}"), limit, || {
            self.board.audio.status().state == state
        });
    }

    /// Ends capture; how long that took.
    pub fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        if let Some(capture) = self.capture.take() {
            capture.stop();
        }
        let took = begun.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        took
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A JPEG of a test picture.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(&format!(
        "videotestsrc num-buffers=1 pattern=ball ! video/x-raw,width={width},height={height} ! jpegenc"
    ))
}

/// What the end of a pipeline gives, in one piece.
pub fn encoded(description: &str) -> Vec<u8> {
    gst::init().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let whole = format!(
        "{description} ! filesink location={}",
        file.path().display()
    );
    let pipeline = gst::parse::launch(&whole).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(matches!(message.unwrap().view(), gst::MessageView::Eos(_)));
    std::fs::read(file.path()).unwrap()
}
