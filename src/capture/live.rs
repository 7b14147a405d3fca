//! Live sources: opened, watched, healed.
//!
//! A source is lost when its pipeline reports an error, ends, or delivers nothing for [`STALLED_NANOS`]; it is then opened again, for
//! ever, after a pause that doubles up to [`LONGEST_PAUSE`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Outputs;
use super::board::SourceBoard;
use super::delivery::{FrameDelivery, SoundDelivery, Timeline};
use super::error::CaptureError;
use super::microphone::Microphone;
use super::pipeline::{Taps, init, reason};
use super::recording::{Pace, Recording};
use super::source;
use super::spec::{AudioSpec, VideoSpec, local_file};
use crate::event::SourceState;
use crate::time::{Clock, SystemClock};

/// A source that delivered and then is silent for this long is lost.
pub(super) const STALLED_NANOS: i64 = 1_500_000_000;
/// How long a source may take from being opened to its first picture (a network camera may send a key frame every few seconds only).
const OPENING_NANOS: i64 = 10_000_000_000;
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The same for `auto` where there has never been a camera, and may never be: each attempt asks every video device of the machine.
const LONGEST_PAUSE_UNSEEN: Duration = Duration::from_secs(3);
/// How often a running source is looked at.
pub(super) const WATCH_STEP: Duration = Duration::from_millis(50);

/// Running live sources. Dropped or stopped, they end and their lanes close.
#[derive(Debug)]
pub struct LiveCapture {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl LiveCapture {
    /// Ends capture and waits for its threads; the lanes close.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for LiveCapture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens the live sources and returns: what can be known at once (a named device or a file that is not there, nonsense) is an error,
/// everything else is on the board and heals itself, also `auto` and `default` where nothing is there yet. A local file as `uri:` is played at
/// its own pace, again and again. The lanes must drop when full: live capture waits for nobody.
pub fn open_live(
    video: &VideoSpec,
    audio: &AudioSpec,
    clock: Arc<SystemClock>,
    outputs: Outputs,
    board: Arc<SourceBoard>,
) -> Result<LiveCapture, CaptureError> {
    init();
    let with_track = *audio == AudioSpec::Uri;
    if with_track && !matches!(video, VideoSpec::Uri(_) | VideoSpec::Gst(_)) {
        return Err(CaptureError::Unsupported {
            what: format!("audio `uri` with video `{video}`"),
            remedy: "only a `uri:` or `gst:` video source has a sound track".into(),
        });
    }
    let microphone = match audio {
        AudioSpec::Default | AudioSpec::Device(_) => Some(Microphone::find(audio)?),
        AudioSpec::Uri | AudioSpec::None => None,
    };
    let file = match video {
        VideoSpec::Uri(uri) => local_file(uri.expose()),
        _ => None,
    };
    let first = match (&file, video) {
        (Some(path), _) => Some(Recording::open(path)?),
        // Whichever there is, also one that is plugged in later.
        (None, VideoSpec::Auto | VideoSpec::None) => None,
        // Builds once for the errors of that.
        (None, spec) => source::build(
            spec,
            &gst::Pipeline::new(),
            &Arc::default(),
            true,
            with_track,
        )
        .map(|()| None)?,
    };

    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        threads.push(
            std::thread::Builder::new()
                .name(name.into())
                .spawn(body)
                .expect("a thread starts"),
        )
    };
    let Outputs {
        frames,
        audio: sound,
    } = outputs;
    let (track, sound) = if with_track {
        (sound, None)
    } else {
        (None, sound)
    };
    if let Some(mut recording) = first {
        let (clock, board, stop) = (clock.clone(), board.clone(), stop.clone());
        let path = file.expect("a recording has one");
        spawn(
            "replay",
            Box::new(move || {
                loop {
                    let outputs = Outputs {
                        frames: frames.clone(),
                        audio: track.clone(),
                    };
                    let shown = [
                        (&board.video, frames.is_some() && recording.has_video()),
                        (&board.audio, track.is_some() && recording.has_audio()),
                    ];
                    let played = recording.play(
                        Pace::Live {
                            clock: clock.clone(),
                            looped: true,
                        },
                        outputs,
                        board.clone(),
                        stop.clone(),
                    );
                    let Err(error) = played else { return };
                    recording = loop {
                        for (gauge, _) in shown.iter().filter(|(_, shown)| *shown) {
                            board.set(gauge, SourceState::Lost, Some(error.to_string()));
                        }
                        std::thread::sleep(FIRST_PAUSE);
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                        if let Ok(again) = Recording::open(&path) {
                            break again;
                        }
                    };
                }
            }),
        );
    } else if *video != VideoSpec::None {
        let timeline = timeline(&stop);
        let camera = Camera {
            spec: video.clone(),
            frames: frames.map(|lane| FrameDelivery::new(lane, timeline.clone(), board.clone())),
            sound: track.map(|lane| SoundDelivery::new(lane, timeline, board.clone())),
            clock: clock.clone(),
            board: board.clone(),
            stop: stop.clone(),
        };
        spawn("camera", Box::new(move || camera.run()));
    }
    if let (Some(microphone), Some(lane)) = (microphone, sound) {
        let (board, stop) = (board.clone(), stop.clone());
        spawn(
            "microphone",
            Box::new(move || microphone.run(&lane, &clock, &board, &stop)),
        );
    }
    Ok(LiveCapture { stop, threads })
}

fn timeline(stop: &Arc<AtomicBool>) -> Arc<Timeline> {
    Arc::new(Timeline {
        stamp_offset: AtomicI64::new(0),
        release_offset: AtomicI64::new(0),
        pacing: None,
        stop: stop.clone(),
    })
}

/// Sleeps in steps, so that a stop is heard. `false` when capture is to stop.
pub(super) fn pause(length: Duration, stop: &AtomicBool) -> bool {
    let mut left = length;
    while !left.is_zero() && !stop.load(Ordering::Acquire) {
        let step = left.min(WATCH_STEP);
        std::thread::sleep(step);
        left -= step;
    }
    !stop.load(Ordering::Acquire)
}

/// A video source that heals itself.
struct Camera {
    spec: VideoSpec,
    frames: Option<FrameDelivery>,
    sound: Option<SoundDelivery>,
    clock: Arc<SystemClock>,
    board: Arc<SourceBoard>,
    stop: Arc<AtomicBool>,
}

impl Camera {
    fn run(mut self) {
        self.report(SourceState::Opening, None);
        let mut wait = FIRST_PAUSE;
        loop {
            let (delivered, why) = self.attempt();
            if self.stop.load(Ordering::Acquire) {
                return self.report(SourceState::Off, None);
            }
            tracing::debug!(source = %self.spec, why, "video source lost");
            self.report(SourceState::Lost, Some(why));
            if delivered {
                wait = FIRST_PAUSE;
            }
            if !pause(wait, &self.stop) {
                return self.report(SourceState::Off, None);
            }
            let is_unseen = self.spec == VideoSpec::Auto
                && self.board.video.counters.delivered.load(Ordering::Relaxed) == 0;
            wait = (wait * 2).min(if is_unseen {
                LONGEST_PAUSE_UNSEEN
            } else {
                LONGEST_PAUSE
            });
            self.board
                .video
                .counters
                .reconnects
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&self, state: SourceState, reason: Option<String>) {
        if self.sound.is_some() {
            self.board.set(&self.board.audio, state, reason.clone());
        }
        self.board.set(&self.board.video, state, reason);
    }

    /// One pipeline from its opening to its end: did it deliver, and why did it end?
    fn attempt(&mut self) -> (bool, String) {
        let pipeline = gst::Pipeline::new();
        let taps = Arc::new(Taps::default());
        taps.keep_open.store(true, Ordering::Release);
        if let Err(error) = source::build(
            &self.spec,
            &pipeline,
            &taps,
            self.frames.is_some(),
            self.sound.is_some(),
        ) {
            return (false, error.to_string());
        }
        // GStreamer's own clock reads CLOCK_MONOTONIC, as ours; its base time is set here, so that stamps need no guess.
        let gst_clock = gst::SystemClock::obtain();
        pipeline.use_clock(Some(&gst_clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        let started = pipeline.set_state(gst::State::Paused);
        let live = started == Ok(gst::StateChangeSuccess::NoPreroll);
        let start = |pipeline: &gst::Pipeline, timeline: &Timeline| {
            let base = gst_clock.time();
            pipeline.set_base_time(base);
            let offset = base.nseconds() as i64 - self.clock.origin_nanos();
            timeline.stamp_offset.store(offset, Ordering::Release);
            timeline.release_offset.store(offset, Ordering::Release);
            pipeline.set_state(gst::State::Playing)
        };
        // What is no live source (a file on a web server) comes faster than it happened, and is held back to its pace.
        let pacing = (!live).then(|| self.clock.clone());
        let timeline = Arc::new(Timeline {
            stamp_offset: AtomicI64::new(0),
            release_offset: AtomicI64::new(0),
            pacing,
            stop: self.stop.clone(),
        });
        let live_clock = live.then(|| self.clock.clone());
        if let Some(delivery) = &mut self.frames {
            delivery.begin_pass(timeline.clone());
            delivery.live_clock = live_clock.clone();
            delivery.lateness_clock = Some(self.clock.clone());
        }
        if let Some(delivery) = &mut self.sound {
            delivery.begin_pass(timeline.clone());
            delivery.live_clock = live_clock.clone();
        }
        *taps.frames.lock().expect("taps lock") = self.frames.take();
        *taps.sound.lock().expect("taps lock") = self.sound.take();
        let mut failed = started.err().map(|error| error.to_string());
        if live && failed.is_none() {
            failed = start(&pipeline, &timeline)
                .err()
                .map(|error| error.to_string());
        }
        let why = self.watch(&pipeline, &taps, failed, || {
            let _ = start(&pipeline, &timeline);
        });
        // GStreamer's messages may quote the address.
        let why = self.spec.hide_in(&why);
        let delivered = taps.tracks().video.samples > 0;
        if !self.stop.load(Ordering::Acquire) {
            // Told before the pipeline is taken down, which may take its time.
            self.board
                .set(&self.board.video, SourceState::Lost, Some(why.clone()));
        }
        let _ = pipeline.set_state(gst::State::Null);
        self.frames = taps.frames.lock().expect("taps lock").take();
        self.sound = taps.sound.lock().expect("taps lock").take();
        (delivered, why)
    }

    fn watch(
        &self,
        pipeline: &gst::Pipeline,
        taps: &Taps,
        failed: Option<String>,
        prerolled: impl Fn(),
    ) -> String {
        let bus = pipeline.bus().expect("pipelines have a bus");
        let opened = self.clock.now();
        let (mut samples, mut changed) = ([0, 0], [opened, opened]);
        loop {
            let message = bus.timed_pop_filtered(
                gst::ClockTime::try_from(WATCH_STEP).ok(),
                &[
                    gst::MessageType::Error,
                    gst::MessageType::AsyncDone,
                    gst::MessageType::Eos,
                ],
            );
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => return reason(error),
                Some(gst::MessageView::Eos(_)) => return "the stream has ended".into(),
                Some(gst::MessageView::AsyncDone(_))
                    if pipeline.current_state() == gst::State::Paused =>
                {
                    prerolled()
                }
                _ => {}
            }
            // The bus knows the reason better, if it knows one.
            if let (None, Some(failed)) = (&message, &failed) {
                return failed.clone();
            }
            if self.stop.load(Ordering::Acquire) {
                return String::new();
            }
            let (tracks, now) = (taps.tracks(), self.clock.now());
            if tracks.closed || (tracks.video.ended && tracks.over()) {
                return "the stream has ended".into();
            }
            for (index, (track, what)) in [(tracks.video, "pictures"), (tracks.audio, "sound")]
                .into_iter()
                .enumerate()
            {
                if track.samples != samples[index] {
                    (samples[index], changed[index]) = (track.samples, now);
                } else if track.samples > 0 && now.nanos_since(changed[index]) > STALLED_NANOS {
                    return format!("no {what} for {:.1} s", STALLED_NANOS as f64 * 1e-9);
                }
            }
            if samples == [0, 0] && now.nanos_since(opened) > OPENING_NANOS {
                return format!(
                    "no pictures within {} s of opening",
                    OPENING_NANOS / 1_000_000_000
                );
            }
        }
    }
}
