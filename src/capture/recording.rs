//! A recording as a source: the whole file once, or looped, stamped by its own time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::Outputs;
use super::board::SourceBoard;
use super::delivery::{FrameDelivery, SoundDelivery, Timeline};
use super::error::CaptureError;
use super::pipeline::{Kind, Taps, attach_on_demand, init, missing_decoder, reason, tame};
use super::whole::{breaks_off, index_missing};
use crate::event::SourceState;
use crate::time::{Clock, MediaTime, SystemClock};

/// Streams that end this much before the container says are cut.
const CUT_NANOS: i64 = 500_000_000;
/// How long a file may take to show its first picture and sound.
const OPENING: Duration = Duration::from_secs(10);
/// A decoder from which nothing comes for this long, while nothing waits for a lane, is stuck.
const STUCK: Duration = Duration::from_secs(20);
/// The same once the parser has given up: the rest drains at once.
const DRAINED: Duration = Duration::from_secs(2);

/// How fast a recording is played, and on which timeline.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As fast as the lanes take it; media time 0 is the start of the recording.
    Offline,
    /// The same stamps, released as a camera and a microphone would: a frame at its time, a block at its end.
    Realtime,
    /// As if live: stamps are the clock's, and the board's `origin_ns` says where each pass begins.
    Live {
        clock: Arc<SystemClock>,
        looped: bool,
    },
}

/// What was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Where the last frame or sample of the (last) pass ends, counted from its start.
    pub end: MediaTime,
    pub video_frames: u64,
    /// Samples at 16 kHz.
    pub audio_samples: u64,
}

/// A media file, opened: its first frame and block are decoded and wait.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    pipeline: gst::Pipeline,
    taps: Arc<Taps>,
    /// What the container says; `None` where it says nothing.
    duration: Option<MediaTime>,
}

impl Recording {
    /// Opens `path`, whatever GStreamer can read: finds its tracks and decodes until each has something to show.
    pub fn open(path: impl AsRef<Path>) -> Result<Recording, CaptureError> {
        init();
        let path = path.as_ref().to_owned();
        let unreadable = |reason: String| CaptureError::Unreadable {
            path: path.clone(),
            reason,
        };
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CaptureError::NoSuchFile(path));
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(CaptureError::Denied {
                    what: path.display().to_string(),
                    remedy: "give this user the right to read it".into(),
                });
            }
            Err(error) => return Err(unreadable(error.to_string())),
            Ok(metadata) if metadata.is_dir() => {
                return Err(unreadable("it is a directory".into()));
            }
            Ok(metadata) if metadata.len() == 0 => {
                return Err(unreadable("the file is empty".into()));
            }
            Ok(_) => {}
        }
        if index_missing(&path) {
            return Err(unreadable(
                "its index is missing, as in a file that is cut before its end".into(),
            ));
        }
        let uri = std::path::absolute(&path)
            .ok()
            .and_then(|path| gst::glib::filename_to_uri(path, None).ok())
            .ok_or_else(|| unreadable("its name is no path".into()))?;

        let pipeline = gst::Pipeline::new();
        let decoder = gst::ElementFactory::make("uridecodebin")
            .property("uri", uri.as_str())
            .build()
            .map_err(|_| missing_base_plugins())?;
        let taps = Arc::new(Taps::default());
        tame(&decoder);
        attach_on_demand(&pipeline, &decoder, &taps, true, true);
        pipeline
            .add(&decoder)
            .expect("a new pipeline takes its first element");
        let mut recording = Recording {
            path: path.clone(),
            pipeline,
            taps,
            duration: None,
        };
        recording.preroll()?;
        let tracks = recording.taps.tracks();
        if !tracks.video.present && !tracks.audio.present {
            return Err(unreadable("it has neither pictures nor sound".into()));
        }
        recording.duration = recording
            .pipeline
            .query_duration::<gst::ClockTime>()
            .map(|d| MediaTime::from_nanos(d.nseconds() as i64));
        Ok(recording)
    }

    fn preroll(&self) -> Result<(), CaptureError> {
        let unreadable = |reason: String| CaptureError::Unreadable {
            path: self.path.clone(),
            reason,
        };
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        // A failure to change state leaves its reason on the bus.
        let _ = self.pipeline.set_state(gst::State::Paused);
        let mut missing = None;
        loop {
            use gst::MessageView;
            let message = bus
                .timed_pop_filtered(
                    gst::ClockTime::try_from(OPENING).ok(),
                    &[
                        gst::MessageType::AsyncDone,
                        gst::MessageType::Error,
                        gst::MessageType::Eos,
                        gst::MessageType::Element,
                    ],
                )
                .ok_or_else(|| {
                    unreadable(format!(
                        "nothing could be decoded within {} s",
                        OPENING.as_secs()
                    ))
                })?;
            match message.view() {
                MessageView::AsyncDone(_) | MessageView::Eos(_) => return Ok(()),
                MessageView::Element(_) => missing = missing.or(missing_decoder(&message)),
                MessageView::Error(error) => {
                    if let Some(what) = missing {
                        return Err(CaptureError::Unsupported {
                            what: format!("{what}, which {} needs,", self.path.display()),
                            remedy: "install gstreamer1.0-libav and gstreamer1.0-plugins-good, -bad and -ugly".into(),
                        });
                    }
                    return Err(unreadable(reason(error)));
                }
                _ => {}
            }
        }
    }

    pub fn has_video(&self) -> bool {
        self.taps.tracks().video.present
    }

    pub fn has_audio(&self) -> bool {
        self.taps.tracks().audio.present
    }

    /// The length that the container states.
    pub fn duration(&self) -> Option<MediaTime> {
        self.duration
    }

    /// Plays on the calling thread (decoders bring their own) until every track has ended, `stop` is set or a receiver is gone.
    /// A track's lane is closed when that track ends, an output without a track at once. The same file gives the same frames,
    /// samples and stamps at every pace but [`Pace::Live`], whose stamps are shifted by the pass's origin and nothing else.
    ///
    /// [`CaptureError::Cut`] comes after everything that was there was delivered.
    ///
    /// Whoever sets `stop` goes on draining the receivers, or drops them: a sender that waits for a full blocking lane is woken by that.
    pub fn play(
        mut self,
        pace: Pace,
        outputs: Outputs,
        board: Arc<SourceBoard>,
        stop: Arc<AtomicBool>,
    ) -> Result<Played, CaptureError> {
        let tracks = self.taps.tracks();
        // What nobody wants of this recording may be another source's: its gauge is left alone.
        let wanted = [
            (
                &board.video,
                outputs.frames.is_some(),
                tracks.video.present,
                "pictures",
            ),
            (
                &board.audio,
                outputs.audio.is_some(),
                tracks.audio.present,
                "sound",
            ),
        ];
        for (gauge, _, present, what) in wanted.into_iter().filter(|(_, wanted, ..)| *wanted) {
            let (state, reason) = if present {
                (SourceState::Opening, None)
            } else {
                (
                    SourceState::Off,
                    Some(format!("the recording has no {what}")),
                )
            };
            board.set(gauge, state, reason);
        }
        let (clock, looped) = match &pace {
            Pace::Offline => (None, false),
            Pace::Realtime => (Some(Arc::new(SystemClock::new())), false),
            Pace::Live { clock, looped } => (Some(clock.clone()), *looped),
        };
        let mut begins = clock.as_ref().map_or(MediaTime::ZERO, |clock| clock.now());
        let mut timeline = begin_pass(&pace, begins, &clock, &stop, &board);
        let mut frames = outputs
            .frames
            .filter(|_| tracks.video.present)
            .map(|lane| FrameDelivery::new(lane, timeline.clone(), board.clone()));
        if let (Pace::Live { .. }, Some(delivery)) = (&pace, &mut frames) {
            delivery.lateness_clock = clock.clone();
        }
        let mut sound = outputs
            .audio
            .filter(|_| tracks.audio.present)
            .map(|lane| SoundDelivery::new(lane, timeline.clone(), board.clone()));
        let played = loop {
            let pass = self.play_once((frames, sound), looped, &stop);
            (frames, sound) = (pass.frames, pass.sound);
            let end_nanos = frames
                .as_ref()
                .map_or(0, |d| d.end_nanos)
                .max(sound.as_ref().map_or(0, |d| d.end_nanos));
            let end = MediaTime::from_nanos(end_nanos);
            // A still picture has no length: opening its file again and again would take all of a processor.
            let is_held = match (&mut frames, &sound, &clock) {
                (Some(delivery), None, Some(clock)) if looped => delivery.hold_still(clock),
                _ => false,
            };
            let stopped = is_held || pass.closed || stop.load(Ordering::Acquire);
            if !looped || stopped {
                let played = Played {
                    end,
                    video_frames: frames.as_ref().map_or(0, FrameDelivery::count),
                    audio_samples: sound.as_ref().map_or(0, SoundDelivery::count),
                };
                let expected = self
                    .duration
                    .filter(|duration| duration.nanos_since(end) > CUT_NANOS);
                if !stopped
                    && (pass.broken.is_some() || expected.is_some() || breaks_off(&self.path))
                {
                    break Err(CaptureError::Cut {
                        path: self.path.clone(),
                        end,
                        expected,
                        reason: pass.broken,
                    });
                }
                break Ok(played);
            }
            // The next pass begins where this one ends, or later where opening the file again takes longer.
            begins = begins
                .plus_nanos(end_nanos)
                .max(clock.as_ref().map_or(begins, |clock| clock.now()));
            self = Recording::open(&self.path)?;
            begins = begins.max(clock.as_ref().map_or(begins, |clock| clock.now()));
            timeline = begin_pass(&pace, begins, &clock, &stop, &board);
            frames
                .iter_mut()
                .for_each(|d| d.begin_pass(timeline.clone()));
            sound
                .iter_mut()
                .for_each(|d| d.begin_pass(timeline.clone()));
        };
        drop((frames, sound));
        for (gauge, wanted, present, _) in wanted {
            if wanted && present {
                board.set(
                    gauge,
                    SourceState::Off,
                    Some("the recording has ended".into()),
                );
            }
        }
        played
    }

    fn play_once(
        &mut self,
        (frames, sound): (Option<FrameDelivery>, Option<SoundDelivery>),
        looped: bool,
        stop: &AtomicBool,
    ) -> Pass {
        let taps = &self.taps;
        taps.keep_open.store(looped, Ordering::Release);
        *taps.frames.lock().expect("taps lock") = frames;
        *taps.sound.lock().expect("taps lock") = sound;
        // A track may have ended before it began: then nothing will say so again.
        let tracks = taps.tracks();
        for (kind, track) in [(Kind::Video, tracks.video), (Kind::Audio, tracks.audio)] {
            if track.ended {
                taps.ended(kind);
            }
        }
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        let mut broken = self
            .pipeline
            .set_state(gst::State::Playing)
            .err()
            .map(|error| error.to_string());
        let (mut seen, mut quiet) = (0, Duration::ZERO);
        let step = Duration::from_millis(50);
        loop {
            let tracks = taps.wait(step);
            while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                if let gst::MessageView::Error(error) = message.view() {
                    broken.get_or_insert(reason(error));
                }
            }
            if tracks.over() || stop.load(Ordering::Acquire) {
                break;
            }
            let (arrived, waiting) = taps.progress();
            quiet = if arrived != seen || waiting {
                Duration::ZERO
            } else {
                quiet + step
            };
            seen = arrived;
            if quiet > if broken.is_some() { DRAINED } else { STUCK } {
                broken.get_or_insert_with(|| "the decoder is stuck".into());
                break;
            }
        }
        let _ = self.pipeline.set_state(gst::State::Null);
        let closed = taps.tracks().closed;
        Pass {
            frames: taps.frames.lock().expect("taps lock").take(),
            sound: taps.sound.lock().expect("taps lock").take(),
            broken,
            closed,
        }
    }
}

/// What a pass leaves behind.
struct Pass {
    frames: Option<FrameDelivery>,
    sound: Option<SoundDelivery>,
    broken: Option<String>,
    closed: bool,
}

fn begin_pass(
    pace: &Pace,
    begins: MediaTime,
    clock: &Option<Arc<SystemClock>>,
    stop: &Arc<AtomicBool>,
    board: &SourceBoard,
) -> Arc<Timeline> {
    let stamp_offset = if matches!(pace, Pace::Live { .. }) {
        begins.nanos()
    } else {
        0
    };
    let origin = matches!(pace, Pace::Live { .. }).then_some(begins);
    board.set_origin(&board.video, origin);
    Arc::new(Timeline {
        stamp_offset: AtomicI64::new(stamp_offset),
        release_offset: AtomicI64::new(begins.nanos()),
        pacing: clock.clone(),
        stop: stop.clone(),
    })
}

pub(super) fn missing_base_plugins() -> CaptureError {
    CaptureError::Unsupported {
        what: "decoding media".into(),
        remedy: "install gstreamer1.0-plugins-base".into(),
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
