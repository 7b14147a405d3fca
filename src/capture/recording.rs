//! A recording as a source: a whole file, played once or looped, with stamps from its own time.

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
use super::running_time::RunningTimeMap;
use super::track_sinks::TrackSinks;
use super::tracks::TrackChoice;
use super::truncation::{is_truncated, unplayable};
use crate::event::SourceState;
use crate::time::{Clock, MediaTime, SystemClock};

/// A recording is truncated if its streams end more than this before the stated duration, in
/// nanoseconds.
const CUT_NANOS: i64 = 500_000_000;
/// A decoder that delivers nothing for this long is stuck, unless it waits for a full lane.
const STUCK: Duration = Duration::from_secs(20);
/// Limit instead of [`STUCK`] after a failure, when the remaining items arrive at once.
const DRAINED: Duration = Duration::from_secs(2);

/// Pace and timeline of playback.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As fast as the lanes accept items; media time 0 is the start of the recording.
    Offline,
    /// Stamps as [`Pace::Offline`], but in real time, as from a camera and a microphone: a frame is
    /// sent at its time, a block at its end.
    Realtime,
    /// As from a live source: stamps are times of `clock`. The source health has the start of each
    /// pass as `origin_ns`.
    Live {
        clock: Arc<SystemClock>,
        /// Whether playback starts again at the end of the recording.
        looped: bool,
    },
}

/// Result of playback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// End of the last frame or sample of the last pass, counted from the start of the pass.
    pub end: MediaTime,
    /// Number of frames of all passes.
    pub video_frames: u64,
    /// Number of samples at 16 kHz of all passes.
    pub audio_samples: u64,
}

/// An open media file, whose first frame and block are already decoded.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    choice: TrackChoice,
    decoder: Box<dyn Decoder>,
    sinks: Arc<TrackSinks>,
    /// The tracks as the container describes them; `None` if its tables cannot be read.
    tables: Option<Tables>,
    /// The pipe that delivers the recording; `None` for a file.
    pipe: Option<Pipe>,
    /// Whether video, and whether audio, must be decodable even without an output.
    required: [bool; 2],
}

impl Recording {
    /// Opens `path` in any format that GStreamer reads: finds its tracks and decodes until each has
    /// its first item.
    ///
    /// # Errors
    /// [`CaptureError::NoSuchFile`], [`CaptureError::Denied`], [`CaptureError::Unreadable`],
    /// [`CaptureError::Undecodable`] and [`CaptureError::Unsupported`].
    pub fn open(path: impl AsRef<Path>) -> Result<Recording, CaptureError> {
        Recording::open_with(path, TrackChoice::default())
    }

    /// As [`Recording::open`], with a choice of tracks and channels.
    ///
    /// # Errors
    /// As [`Recording::open`], and [`CaptureError::NoSuchTrack`] for a track or a channel that the
    /// recording does not have.
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

    /// Whether a video track is selected and decoded.
    pub fn has_video(&self) -> bool {
        self.sinks.tracks().video.present
    }

    /// Whether a sound track is selected and decoded.
    pub fn has_audio(&self) -> bool {
        self.sinks.tracks().audio.present
    }

    /// Requires tracks of these kinds to be decodable. A required track without a decoder is an
    /// error at the end of playback. Tracks with an output are always required.
    pub fn require(&mut self, video: bool, audio: bool) {
        self.required = [video, audio];
    }

    /// The duration that the container states; `None` if it states none.
    pub fn duration(&self) -> Option<MediaTime> {
        self.decoder.duration()
    }

    /// Plays on the calling thread until every track has ended, `stop` is set or a receiver is
    /// gone; decoders have their own threads. A lane is closed when its track ends; the lane of a
    /// missing track is closed at once. The same file gives the same frames, samples and stamps at
    /// every pace. [`Pace::Live`] only shifts the stamps by the origin of the pass.
    ///
    /// After setting `stop`, the caller must drain or drop the receivers: that wakes a sender that
    /// waits for a full blocking lane.
    ///
    /// # Errors
    /// [`CaptureError::Cut`], [`CaptureError::Missing`] and [`CaptureError::Appended`] are returned
    /// after all available media were delivered. [`CaptureError::Undecodable`]: a decoder crashed.
    pub fn play(
        mut self,
        pace: Pace,
        outputs: Outputs,
        health: Arc<SourceHealth>,
        stop: Arc<AtomicBool>,
    ) -> Result<Played, CaptureError> {
        let tracks = self.sinks.tracks();
        // A kind without an output may belong to another source, so its gauge stays unchanged.
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
        let mut running_time = begin_pass(&pace, begins, &clock, &stop, &health);
        let mut frames = outputs
            .frames
            .filter(|_| tracks.video.present)
            .map(|lane| FrameDelivery::new(lane, running_time.clone(), health.clone()));
        if let (Pace::Live { .. }, Some(delivery)) = (&pace, &mut frames) {
            delivery.lateness_clock = clock.clone();
        }
        let mut sound = outputs
            .audio
            .filter(|_| tracks.audio.present)
            .map(|lane| SoundDelivery::new(lane, running_time.clone(), health.clone()));
        let played = loop {
            let pass = self.play_once((frames, sound), looped, &health, &stop);
            (frames, sound) = (pass.frames, pass.sound);
            let end_nanos = frames
                .as_ref()
                .map_or(0, |d| d.end_nanos)
                .max(sound.as_ref().map_or(0, |d| d.end_nanos));
            let end = MediaTime::from_nanos(end_nanos);
            // A still picture has no duration: opening its file in a loop would keep a processor
            // busy.
            let is_held = match (&mut frames, &sound, &clock) {
                (Some(delivery), None, Some(clock)) if looped => delivery.repeat_still(clock),
                _ => false,
            };
            let stopped = is_held || pass.closed || stop.load(Ordering::Acquire);
            // A crash ends a looped recording too: part of it was lost.
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
                // A present track without an output is not required.
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
            // The next pass begins at the end of this one, or later if opening the file again takes
            // longer.
            begins = begins
                .plus_nanos(end_nanos)
                .max(clock.as_ref().map_or(begins, |clock| clock.now()));
            self = Recording::open_with(&self.path, self.choice)?;
            begins = begins.max(clock.as_ref().map_or(begins, |clock| clock.now()));
            running_time = begin_pass(&pace, begins, &clock, &stop, &health);
            frames
                .iter_mut()
                .for_each(|d| d.begin_pass(running_time.clone()));
            sound
                .iter_mut()
                .for_each(|d| d.begin_pass(running_time.clone()));
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

    /// Whether everything up to the duration that the container states was delivered.
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

    /// For a container without tables: checks that the requested tracks have a decoder.
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

    /// For a container without tables: checks that the recording was played to its end.
    fn check_length(
        &self,
        end: MediaTime,
        outlier: Option<i64>,
        reason: Option<String>,
    ) -> Result<(), CaptureError> {
        // The writer of a pipe could not state the duration.
        let expected = self
            .decoder
            .duration()
            .filter(|_| self.pipe.is_none())
            .filter(|duration| duration.nanos_since(end) > CUT_NANOS)
            // The stated duration may come from an outlier stamp.
            .filter(|duration| outlier.is_none_or(|nanos| duration.nanos() > nanos + CUT_NANOS));
        let cut = self.pipe.is_none() && is_truncated(&self.path);
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

    /// Adds the number of corrected stamps to the counter of the video source.
    fn count_replaced_stamps(&self, health: &SourceHealth) {
        let replaced = self.sinks.take_replaced_stamps();
        let counter = &health.video.counters.assumed_stamps;
        counter.fetch_add(replaced, Ordering::Relaxed);
    }

    /// Plays one pass. `looped`: lanes stay open at the end of the pass.
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
        // A track may have ended before this pass. Its end is not signalled again.
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
            if tracks.have_ended() || stop.load(Ordering::Acquire) {
                break;
            }
            let (arrived, waiting) = sinks.progress();
            quiet = if arrived != seen || waiting {
                Duration::ZERO
            } else {
                quiet + step
            };
            seen = arrived;
            // Some demuxers never signal the end.
            if quiet > DRAINED && self.is_complete() {
                break;
            }
            if quiet > if broken.is_some() { DRAINED } else { STUCK } {
                broken
                    .get_or_insert_with(|| Failure::Stream("the decoder does not respond".into()));
                break;
            }
        }
        // A crash takes precedence, because it explains a stream error.
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

/// Result of one pass over the recording.
struct Pass {
    frames: Option<FrameDelivery>,
    sound: Option<SoundDelivery>,
    broken: Option<Failure>,
    closed: bool,
}

/// The map of running time for a pass that begins at media time `begins`.
fn begin_pass(
    pace: &Pace,
    begins: MediaTime,
    clock: &Option<Arc<SystemClock>>,
    stop: &Arc<AtomicBool>,
    health: &SourceHealth,
) -> Arc<RunningTimeMap> {
    let stamp_offset = if matches!(pace, Pace::Live { .. }) {
        begins.nanos()
    } else {
        0
    };
    let origin = matches!(pace, Pace::Live { .. }).then_some(begins);
    health.set_origin(&health.video, origin);
    Arc::new(RunningTimeMap {
        stamp_offset: AtomicI64::new(stamp_offset),
        release_offset: AtomicI64::new(begins.nanos()),
        pacing: clock.clone(),
        stop: stop.clone(),
    })
}
