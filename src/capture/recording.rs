//! A recording as a source: the whole file once, or looped, stamped by its own time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::Outputs;
use super::appended::second_recording;
use super::container::{Delivered, Tables};
use super::decoded::Kind;
use super::decoder::{self, Decoder, Failure};
use super::delivery::{FrameDelivery, SoundDelivery};
use super::error::CaptureError;
use super::health::SourceHealth;
use super::pipe::Pipe;
use super::timeline::Timeline;
use super::track_sinks::TrackSinks;
use super::tracks::TrackChoice;
use super::truncation::{breaks_off, unplayable};
use crate::event::SourceState;
use crate::time::{Clock, MediaTime, SystemClock};

/// Streams that end this much before the container says are cut.
const CUT_NANOS: i64 = 500_000_000;
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
    /// As if live: stamps are the clock's, and `origin_ns` of the source health says where each pass begins.
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
    choice: TrackChoice,
    decoder: Box<dyn Decoder>,
    sinks: Arc<TrackSinks>,
    /// What the container says of its tracks.
    tables: Option<Tables>,
    /// The pipe that it comes through.
    pipe: Option<Pipe>,
    /// Pictures and sound that have to come where the container has them.
    required: [bool; 2],
}

impl Recording {
    /// Opens `path`, whatever GStreamer can read: finds its tracks and decodes until each has something to show.
    pub fn open(path: impl AsRef<Path>) -> Result<Recording, CaptureError> {
        Recording::open_with(path, TrackChoice::default())
    }

    /// The same with a choice of tracks and channels.
    ///
    /// # Errors
    /// [`CaptureError::Unsupported`] also for a track or a channel that the recording does not have.
    pub fn open_with(
        path: impl AsRef<Path>,
        choice: TrackChoice,
    ) -> Result<Recording, CaptureError> {
        let path = path.as_ref().to_owned();
        let unreadable = |reason: String| CaptureError::Unreadable {
            path: path.clone(),
            reason,
        };
        let opened = Pipe::open(&path).and_then(|pipe| match pipe {
            Some(pipe) => Ok((Some(pipe), None)),
            None => Ok((None, Some(std::fs::File::open(&path)?.metadata()?))),
        });
        let (pipe, metadata) = match opened {
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
            Ok(opened) => opened,
        };
        if let Some(reason) = metadata.and_then(|metadata| unplayable(&path, &metadata)) {
            return Err(unreadable(reason));
        }
        let tables = Tables::read(&path);
        if let Some(remark) = tables.as_ref().and_then(|tables| tables.remark.as_ref()) {
            tracing::warn!("{}: {remark}", path.display());
        }
        if let Some(reason) = tables
            .as_ref()
            .and_then(|tables| tables.unsupported.clone())
        {
            return Err(unreadable(reason));
        }
        let sinks = Arc::new(TrackSinks::default());
        let source = pipe.as_ref().map_or(path.clone(), Pipe::path);
        let decoder = decoder::open(&source, choice, &sinks)?;
        let tracks = sinks.tracks();
        if !tracks.video.present && !tracks.audio.present {
            return Err(unreadable("it has neither pictures nor sound".into()));
        }
        Ok(Recording {
            path,
            choice,
            decoder,
            sinks,
            tables,
            pipe,
            required: [false; 2],
        })
    }

    pub fn has_video(&self) -> bool {
        self.sinks.tracks().video.present
    }

    pub fn has_audio(&self) -> bool {
        self.sinks.tracks().audio.present
    }

    /// Tracks of these kinds that the container has and no decoder takes are an error at the end,
    /// as are those that an output waits for.
    pub fn require(&mut self, video: bool, audio: bool) {
        self.required = [video, audio];
    }

    /// The length that the container states.
    pub fn duration(&self) -> Option<MediaTime> {
        self.decoder.duration()
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
        health: Arc<SourceHealth>,
        stop: Arc<AtomicBool>,
    ) -> Result<Played, CaptureError> {
        let tracks = self.sinks.tracks();
        // What nobody wants of this recording may be another source's: its gauge is left alone.
        let wanted = [
            (
                &health.video,
                outputs.frames.is_some(),
                tracks.video.present,
                "pictures",
            ),
            (
                &health.audio,
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
            health.set(gauge, state, reason);
        }
        let (clock, looped) = match &pace {
            Pace::Offline => (None, false),
            Pace::Realtime => (Some(Arc::new(SystemClock::new())), false),
            Pace::Live { clock, looped } => (Some(clock.clone()), *looped),
        };
        let mut begins = clock.as_ref().map_or(MediaTime::ZERO, |clock| clock.now());
        let mut timeline = begin_pass(&pace, begins, &clock, &stop, &health);
        let mut frames = outputs
            .frames
            .filter(|_| tracks.video.present)
            .map(|lane| FrameDelivery::new(lane, timeline.clone(), health.clone()));
        if let (Pace::Live { .. }, Some(delivery)) = (&pace, &mut frames) {
            delivery.lateness_clock = clock.clone();
        }
        let mut sound = outputs
            .audio
            .filter(|_| tracks.audio.present)
            .map(|lane| SoundDelivery::new(lane, timeline.clone(), health.clone()));
        let played = loop {
            let pass = self.play_once((frames, sound), looped, &health, &stop);
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
            // Looping goes on after a crash too, but not as if nothing were lost.
            if let Some(Failure::Crash(reason)) = pass.broken {
                let reason = format!("{reason} after {:.2} s", end.secs_f64());
                break Err(CaptureError::Undecodable {
                    path: self.path.clone(),
                    reason,
                });
            }
            if !looped || stopped {
                let played = Played {
                    end,
                    video_frames: frames.as_ref().map_or(0, FrameDelivery::count),
                    audio_samples: sound.as_ref().map_or(0, SoundDelivery::count),
                };
                let outlier = frames
                    .as_ref()
                    .and_then(FrameDelivery::outlier_nanos)
                    .max(sound.as_ref().and_then(SoundDelivery::outlier_nanos));
                // A track that is there and that no output takes is not missed.
                let required = [
                    self.required[0] && !tracks.video.present,
                    self.required[1] && !tracks.audio.present,
                ];
                let delivered = |wanted, count, end_nanos| Delivered {
                    wanted,
                    count,
                    end_nanos,
                };
                let ended = frames.as_ref().map_or(0, |d| d.end_nanos);
                let video = delivered(wanted[0].1 || required[0], played.video_frames, ended);
                let ended = sound.as_ref().map_or(0, |d| d.end_nanos);
                let audio = delivered(wanted[1].1 || required[1], played.audio_samples, ended);
                let reason = pass.broken.map(Failure::text);
                let ending = match &self.tables {
                    _ if stopped => Ok(()),
                    Some(tables) => tables.check_delivered(&self.path, video, audio, reason),
                    None => self
                        .check_undecodable(video, audio)
                        .and_then(|()| self.check_length(end, outlier, reason)),
                };
                if let Err(error) = ending {
                    break Err(error);
                }
                if !stopped
                    && self.pipe.is_none()
                    && let Some(offset) = second_recording(&self.path)
                {
                    break Err(CaptureError::Appended {
                        path: self.path.clone(),
                        offset,
                    });
                }
                break Ok(played);
            }
            // The next pass begins where this one ends, or later where opening the file again takes longer.
            begins = begins
                .plus_nanos(end_nanos)
                .max(clock.as_ref().map_or(begins, |clock| clock.now()));
            self = Recording::open_with(&self.path, self.choice)?;
            begins = begins.max(clock.as_ref().map_or(begins, |clock| clock.now()));
            timeline = begin_pass(&pace, begins, &clock, &stop, &health);
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
                health.set(
                    gauge,
                    SourceState::Off,
                    Some("the recording has ended".into()),
                );
            }
        }
        played
    }

    /// Whether as much was delivered as the container states.
    fn is_complete(&self) -> bool {
        let end = |nanos: Option<i64>| nanos.unwrap_or(0);
        let frames = self.sinks.frames.lock().expect("sinks lock");
        let sound = self.sinks.sound.lock().expect("sinks lock");
        let end = end(frames.as_ref().map(|frames| frames.end_nanos))
            .max(end(sound.as_ref().map(|sound| sound.end_nanos)));
        self.decoder
            .duration()
            .is_some_and(|duration| end > 0 && end + CUT_NANOS / 5 >= duration.nanos())
    }

    /// Without tables: is there a decoder for the tracks that were asked for?
    fn check_undecodable(&self, video: Delivered, audio: Delivered) -> Result<(), CaptureError> {
        let kinds = [
            (Kind::Video, "picture", video),
            (Kind::Audio, "sound", audio),
        ];
        let missing = kinds.into_iter().filter_map(|(kind, name, delivered)| {
            let is_silent = delivered.wanted && delivered.count == 0;
            let track = self.decoder.undecodable().iter();
            let track = track
                .filter(|_| is_silent)
                .find(|track| track.kind == kind)?;
            Some((name, track.media_type.clone()))
        });
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(CaptureError::silent_tracks(&self.path, &missing))
    }

    /// Did a recording without tables come to its end?
    fn check_length(
        &self,
        end: MediaTime,
        outlier: Option<i64>,
        reason: Option<String>,
    ) -> Result<(), CaptureError> {
        // How long a stream is, its writer could not know.
        let expected = self
            .decoder
            .duration()
            .filter(|_| self.pipe.is_none())
            .filter(|duration| duration.nanos_since(end) > CUT_NANOS)
            // Stated by a stamp that was left out.
            .filter(|duration| outlier.is_none_or(|nanos| duration.nanos() > nanos + CUT_NANOS));
        let cut = self.pipe.is_none() && breaks_off(&self.path);
        if reason.is_none() && expected.is_none() && !cut {
            return Ok(());
        }
        Err(CaptureError::Cut {
            path: self.path.clone(),
            end,
            expected,
            reason,
        })
    }

    fn count_replaced_stamps(&self, health: &SourceHealth) {
        let replaced = self.sinks.take_replaced_stamps();
        let counter = &health.video.counters.assumed_stamps;
        counter.fetch_add(replaced, Ordering::Relaxed);
    }

    fn play_once(
        &mut self,
        (frames, sound): (Option<FrameDelivery>, Option<SoundDelivery>),
        looped: bool,
        health: &SourceHealth,
        stop: &AtomicBool,
    ) -> Pass {
        let sinks = &self.sinks;
        sinks.keep_open.store(looped, Ordering::Release);
        *sinks.frames.lock().expect("sinks lock") = frames;
        *sinks.sound.lock().expect("sinks lock") = sound;
        // A track may have ended before it began: then nothing will say so again.
        let tracks = sinks.tracks();
        for (kind, track) in [(Kind::Video, tracks.video), (Kind::Audio, tracks.audio)] {
            if track.ended {
                sinks.ended(kind);
            }
        }
        self.decoder.start();
        let mut broken = None;
        let (mut seen, mut quiet) = (0, Duration::ZERO);
        let step = Duration::from_millis(50);
        loop {
            let tracks = sinks.wait(step);
            broken = broken.or_else(|| self.decoder.failure());
            self.count_replaced_stamps(health);
            if tracks.over() || stop.load(Ordering::Acquire) {
                break;
            }
            let (arrived, waiting) = sinks.progress();
            quiet = if arrived != seen || waiting {
                Duration::ZERO
            } else {
                quiet + step
            };
            seen = arrived;
            // Some demuxers never come to their end.
            if quiet > DRAINED && self.is_complete() {
                break;
            }
            if quiet > if broken.is_some() { DRAINED } else { STUCK } {
                broken.get_or_insert_with(|| Failure::Stream("the decoder is stuck".into()));
                break;
            }
        }
        // A crash explains a broken stream, and not the other way round.
        let broken = match self.decoder.stop() {
            Some(crash @ Failure::Crash(_)) => Some(crash),
            failure => broken.or(failure),
        };
        self.count_replaced_stamps(health);
        let closed = sinks.tracks().closed;
        Pass {
            frames: sinks.frames.lock().expect("sinks lock").take(),
            sound: sinks.sound.lock().expect("sinks lock").take(),
            broken,
            closed,
        }
    }
}

/// What a pass leaves behind.
struct Pass {
    frames: Option<FrameDelivery>,
    sound: Option<SoundDelivery>,
    broken: Option<Failure>,
    closed: bool,
}

fn begin_pass(
    pace: &Pace,
    begins: MediaTime,
    clock: &Option<Arc<SystemClock>>,
    stop: &Arc<AtomicBool>,
    health: &SourceHealth,
) -> Arc<Timeline> {
    let stamp_offset = if matches!(pace, Pace::Live { .. }) {
        begins.nanos()
    } else {
        0
    };
    let origin = matches!(pace, Pace::Live { .. }).then_some(begins);
    health.set_origin(&health.video, origin);
    Arc::new(Timeline {
        stamp_offset: AtomicI64::new(stamp_offset),
        release_offset: AtomicI64::new(begins.nanos()),
        pacing: clock.clone(),
        stop: stop.clone(),
    })
}
