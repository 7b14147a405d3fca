//! A live source for tests, which is opened as in the daemon and whose frames and samples are
//! counted.

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

/// Time limit for the first frame. An idle machine needs up to 2 s, and other tests run in
/// parallel.
pub const FIRST_FRAME: Duration = Duration::from_secs(6);

/// (Capture time, width, height) of a frame; the size is in pixels.
pub type FrameStamp = (MediaTime, usize, usize);

/// A live source whose frames and samples are received by threads of its own and counted.
pub struct LiveSource {
    /// State and counters of its video and audio.
    pub health: Arc<SourceHealth>,
    pub clock: Arc<SystemClock>,
    capture: Option<LiveCapture>,
    /// The received frames.
    pictures: Arc<Mutex<Vec<FrameStamp>>>,
    /// Number of received samples.
    samples: Arc<AtomicUsize>,
    /// Number of times that the video was lost.
    losses: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Threads that receive frames and samples and count losses.
    threads: Vec<JoinHandle<()>>,
}

impl LiveSource {
    /// Opens the sources, given as in `video.source` and `audio.source`.
    pub fn open(video: &str, audio: &str) -> Self {
        let clock = Arc::new(SystemClock::new());
        let health = Arc::new(SourceHealth::default());
        let (frames, frames_out) = lane("frames", 4, WhenFull::DropOldest);
        let (sound, sound_out) = lane("audio", 8, WhenFull::DropOldest);
        let audio: AudioSpec = audio.parse().unwrap();
        let outputs = Outputs {
            frames: Some(frames),
            audio: (audio != AudioSpec::None).then_some(sound),
        };
        let video: VideoSpec = video.parse().unwrap();
        let capture = open_live(&video, &audio, clock.clone(), outputs, health.clone()).unwrap();
        let pictures = Arc::new(Mutex::new(Vec::new()));
        let (samples, losses, stop) = (Arc::default(), Arc::default(), Arc::default());
        let mut source = LiveSource {
            health,
            clock,
            capture: Some(capture),
            pictures,
            samples,
            losses,
            stop,
            threads: Vec::new(),
        };
        let stamps = source.pictures.clone();
        source.spawn(move || {
            while let Received::Item(frame) = frames_out.recv(None) {
                let picture = &frame.picture;
                let mut stamps = stamps.lock().unwrap();
                stamps.push((frame.time, picture.width, picture.height));
            }
        });
        let samples = source.samples.clone();
        source.spawn(move || {
            while let Received::Item(block) = sound_out.recv(None) {
                samples.fetch_add(block.samples.len(), Ordering::Relaxed);
            }
        });
        let (health, losses) = (source.health.clone(), source.losses.clone());
        let stop = source.stop.clone();
        source.spawn(move || {
            let (mut changes, mut was_lost) = (0, false);
            while !stop.load(Ordering::Relaxed) {
                changes = health.wait_for_change(changes, Duration::from_millis(20));
                let is_lost = health.video.status().state == SourceState::Lost;
                if is_lost && !was_lost {
                    losses.fetch_add(1, Ordering::Relaxed);
                }
                was_lost = is_lost;
            }
        });
        source
    }

    fn spawn(&mut self, body: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().name("source".into());
        self.threads.push(thread.spawn(body).unwrap());
    }

    /// Number of frames received so far.
    pub fn count(&self) -> usize {
        self.pictures.lock().unwrap().len()
    }

    /// Number of samples received so far.
    pub fn samples(&self) -> usize {
        self.samples.load(Ordering::Relaxed)
    }

    pub fn pictures(&self) -> Vec<FrameStamp> {
        self.pictures.lock().unwrap().clone()
    }

    /// Number of times that the video was lost.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Number of times that the video was opened again.
    pub fn reconnects(&self) -> u64 {
        let counters = &self.health.video.counters;
        counters.reconnects.load(Ordering::Relaxed)
    }

    /// Why the video is lost; empty if it is not.
    pub fn reason(&self) -> String {
        self.health.video.status().reason.unwrap_or_default()
    }

    /// Waits until `count` frames have been received; returns the elapsed time. Panics after
    /// `limit`.
    pub fn wait_for_frames(&self, count: usize, limit: Duration) -> Duration {
        eventually(
            &format!("{count} pictures, {:?}", self.health.video.status()),
            limit,
            || self.count() >= count,
        )
    }

    /// Waits until the audio is in `state`; panics after `limit`.
    pub fn wait_for_sound(&self, state: SourceState, limit: Duration) {
        eventually(&format!("sound is {state:?}"), limit, || {
            self.health.audio.status().state == state
        });
    }

    /// Stops the capture; returns the elapsed time.
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

impl Drop for LiveSource {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A test picture of this size as a JPEG file.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    encoded(&format!(
        "videotestsrc num-buffers=1 pattern=ball ! video/x-raw,width={width},height={height} ! \
         jpegenc"
    ))
}

/// Runs a GStreamer pipeline to its end; returns all bytes of its last element.
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
