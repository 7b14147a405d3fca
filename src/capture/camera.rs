//! A live video source and, if wanted, its sound track: opening, monitoring and reconnection.
//!
//! Each track is monitored separately. The loss of one track is reported for that track alone, and
//! the other one continues:
//! * Video is never interrupted for sound. Stalled sound resumes by itself, or with the next
//!   opening of the source.
//! * When video stalls while sound continues, the source is opened again after
//!   [`FIRST_REOPEN_DELAY`], then after twice as long each time. A source that has lost its video
//!   for good thus does not lose its sound every few seconds.
//! * When every wanted track is lost, the source is opened again at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::decoded::Kind;
use super::delivery::{FrameDelivery, SoundDelivery};
use super::health::{SourceGauge, SourceHealth};
use super::loss::Loss;
use super::pipeline::missing_plugin;
use super::retry::{FIRST_PAUSE, WATCH_STEP, pause};
use super::running_time::RunningTimeMap;
use super::source;
use super::spec::VideoSpec;
use super::stall::StallDetector;
use super::track_linker::{EnabledTracks, TrackLinker};
use super::track_sinks::{Track, TrackSinks};
use super::tracks::ChannelSelection;
use crate::event::SourceState;
use crate::time::{Clock, MediaTime, SystemClock};

/// Time limit from the opening of a source to its first data, in nanoseconds. From then on, the
/// first picture may take up to the longest stall limit: network cameras send a key frame only
/// every few seconds.
const OPENING_NANOS: i64 = 10_000_000_000;
/// Longest pause between two attempts to open a source.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts for `auto` before its first picture. Each attempt queries
/// every video device of the machine.
const LONGEST_PAUSE_UNSEEN: Duration = Duration::from_secs(3);
/// Time for which video may stall, while sound continues, before the source is opened again.
const FIRST_REOPEN_DELAY: Duration = Duration::from_secs(10);
/// Longest time for which video may stall, while sound continues, before the source is opened
/// again. The time doubles from [`FIRST_REOPEN_DELAY`] with each such reopening.
const LONGEST_REOPEN_DELAY: Duration = Duration::from_secs(300);

/// A video source, with its sound track if wanted, that is reopened after each loss.
pub(super) struct Camera {
    spec: VideoSpec,
    /// Delivery of the pictures; `None` if they are not wanted.
    frames: Option<FrameDelivery>,
    /// Delivery of the sound track; `None` if it is not wanted.
    sound: Option<SoundDelivery>,
    clock: Arc<SystemClock>,
    health: Arc<SourceHealth>,
    stop: Arc<AtomicBool>,
    channel: ChannelSelection,
    /// Time for which video may stall, while sound continues, before the next reopening.
    reopen_delay: Duration,
}

/// State of one wanted track of a running pipeline.
struct TrackMonitor<'a> {
    kind: Kind,
    /// Name of the track's items in messages, such as `pictures`.
    what: &'static str,
    gauge: &'a SourceGauge,
    stall: StallDetector,
    /// Error message of the track's decoder, if the decoder failed.
    broken: Option<String>,
    /// Reason and time of the loss; `None` while the track is not lost.
    lost: Option<(String, MediaTime)>,
}

impl TrackMonitor<'_> {
    /// Updates the stall state from the progress of the track, and sets the source health on a
    /// loss.
    fn update(&mut self, track: Track, health: &SourceHealth, now: MediaTime) {
        self.stall.observe(track.samples, now);
        let why = self.broken.clone().or_else(|| {
            let ended = track.ended.then(|| format!("the {} ended", self.what));
            ended.or_else(|| self.stall.stalled(self.what, now))
        });
        match why {
            Some(why) if self.lost.is_none() => {
                health.set(self.gauge, SourceState::Lost, Some(why.clone()));
                self.lost = Some((why, now));
            }
            Some(_) => {}
            None => self.lost = None,
        }
    }
}

impl Camera {
    /// Prepares the capture of `spec`, which [`Camera::run`] starts.
    pub fn new(
        spec: VideoSpec,
        frames: Option<FrameDelivery>,
        sound: Option<SoundDelivery>,
        clock: Arc<SystemClock>,
        health: Arc<SourceHealth>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Camera {
            spec,
            frames,
            sound,
            clock,
            health,
            stop,
            channel: ChannelSelection::Auto,
            reopen_delay: FIRST_REOPEN_DELAY,
        }
    }

    /// Selects the channel of the source's sound track.
    pub fn with_channel(self, channel: ChannelSelection) -> Self {
        Camera { channel, ..self }
    }

    /// Captures until `stop`. Opens the source again after each loss, with growing pauses.
    pub fn run(mut self) {
        self.report(SourceState::Opening, None);
        let mut wait = FIRST_PAUSE;
        loop {
            let (delivered, loss) = self.attempt();
            if self.stop.load(Ordering::Acquire) {
                return self.report(SourceState::Off, None);
            }
            tracing::debug!(source = %self.spec, why = loss.reason, "video source lost");
            self.report(SourceState::Lost, Some(loss.reason));
            if delivered {
                wait = FIRST_PAUSE;
            }
            wait = loss.cause.pause(wait).unwrap_or(wait);
            if !pause(wait, &self.stop) {
                return self.report(SourceState::Off, None);
            }
            let is_unseen = self.spec == VideoSpec::Auto
                && self.health.video.counters.delivered.load(Ordering::Relaxed) == 0;
            let longest = if is_unseen {
                LONGEST_PAUSE_UNSEEN
            } else {
                LONGEST_PAUSE
            };
            if loss.cause.pause(wait).is_none() {
                wait = (wait * 2).min(longest);
            }
            self.health
                .video
                .counters
                .reconnects
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets the state and its reason for video, and for sound if it is wanted.
    fn report(&self, state: SourceState, reason: Option<String>) {
        if self.sound.is_some() {
            self.health.set(&self.health.audio, state, reason.clone());
        }
        self.health.set(&self.health.video, state, reason);
    }

    /// Runs one pipeline from its opening to its end. Returns whether it delivered any data, and
    /// the reason of its end.
    fn attempt(&mut self) -> (bool, Loss) {
        let pipeline = gst::Pipeline::new();
        let sinks = Arc::new(TrackSinks::default());
        sinks.keep_open.store(true, Ordering::Release);
        let paced = self.running_time(Some(self.clock.clone()));
        let linker = TrackLinker::new(
            &pipeline,
            sinks.clone(),
            EnabledTracks {
                video: self.frames.is_some(),
                audio: self.sound.is_some(),
                channel: self.channel,
            },
            self.clock.clone(),
            paced.clone(),
        );
        if let Err(error) = source::build(&self.spec, &pipeline, &linker) {
            return (false, Loss::unavailable(error.to_string()));
        }
        // GStreamer's system clock and [`SystemClock`] both read CLOCK_MONOTONIC. The base time is
        // set here, so that stamps follow exactly.
        let gst_clock = gst::SystemClock::obtain();
        pipeline.use_clock(Some(&gst_clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        let base = gst_clock.time();
        pipeline.set_base_time(base);
        let started = pipeline.set_state(gst::State::Paused);
        let is_live = started == Ok(gst::StateChangeSuccess::NoPreroll);
        linker.is_live.store(is_live, Ordering::Release);
        // A source that is not live (a file on a web server) arrives faster than real time and is
        // paced.
        let running_time = if is_live {
            let running_time = self.running_time(None);
            let offset = base.nseconds() as i64 - self.clock.origin_nanos();
            running_time.stamp_offset.store(offset, Ordering::Release);
            running_time.release_offset.store(offset, Ordering::Release);
            running_time
        } else {
            paced
        };
        let live_clock = is_live.then(|| self.clock.clone());
        if let Some(delivery) = &mut self.frames {
            delivery.begin_pass(running_time.clone());
            delivery.live_clock = live_clock.clone();
            delivery.lateness_clock = Some(self.clock.clone());
        }
        if let Some(delivery) = &mut self.sound {
            delivery.begin_pass(running_time.clone());
            delivery.live_clock = live_clock.clone();
        }
        let with_sound = self.sound.is_some();
        let with_pictures = self.frames.is_some();
        *sinks.frames.lock().expect("sinks lock") = self.frames.take();
        *sinks.sound.lock().expect("sinks lock") = self.sound.take();
        let failed = match started {
            Ok(_) => pipeline.set_state(gst::State::Playing).err(),
            Err(error) => Some(error),
        };
        let health = self.health.clone();
        let now = self.clock.now();
        let monitor = |kind, what, gauge| TrackMonitor {
            kind,
            what,
            gauge,
            stall: StallDetector::new(now, OPENING_NANOS),
            broken: None,
            lost: None,
        };
        let mut tracks = Vec::new();
        if with_pictures {
            tracks.push(monitor(Kind::Video, "pictures", &health.video));
        }
        if with_sound {
            tracks.push(monitor(Kind::Audio, "sound", &health.audio));
        }
        let loss = self.monitor(&pipeline, &sinks, &linker, &mut tracks, failed.is_some());
        let counts = sinks.tracks();
        let delivered = counts.video.samples + counts.audio.samples > 0;
        if !self.stop.load(Ordering::Acquire) {
            // Reported before the pipeline is shut down, which may take long.
            for track in &tracks {
                self.health
                    .set(track.gauge, SourceState::Lost, Some(loss.reason.clone()));
            }
        }
        let _ = pipeline.set_state(gst::State::Null);
        self.frames = sinks.frames.lock().expect("sinks lock").take();
        self.sound = sinks.sound.lock().expect("sinks lock").take();
        (delivered, loss)
    }

    /// A map with offsets 0. `pacing`: the clock to which playback is paced, if it is.
    fn running_time(&self, pacing: Option<Arc<SystemClock>>) -> Arc<RunningTimeMap> {
        Arc::new(RunningTimeMap {
            stamp_offset: AtomicI64::new(0),
            release_offset: AtomicI64::new(0),
            pacing,
            stop: self.stop.clone(),
        })
    }

    /// Monitors a running pipeline until it has to be shut down, and returns the reason.
    /// `has_failed`: whether the pipeline failed to start.
    fn monitor(
        &mut self,
        pipeline: &gst::Pipeline,
        sinks: &TrackSinks,
        linker: &TrackLinker,
        monitors: &mut [TrackMonitor<'_>],
        has_failed: bool,
    ) -> Loss {
        let bus = pipeline.bus().expect("pipelines have a bus");
        let mut missing = None;
        loop {
            let message = bus.timed_pop_filtered(
                gst::ClockTime::try_from(WATCH_STEP).ok(),
                &[
                    gst::MessageType::Error,
                    gst::MessageType::Element,
                    gst::MessageType::Eos,
                ],
            );
            match message.as_ref().map(|message| (message, message.view())) {
                Some((message, gst::MessageView::Error(error))) => {
                    let loss = Loss::from_error(error, missing.as_deref(), &self.spec);
                    let kind = linker.broken_track(message);
                    match monitors.iter_mut().find(|track| Some(track.kind) == kind) {
                        Some(track) => track.broken = Some(loss.reason),
                        None => return loss,
                    }
                }
                Some((message, gst::MessageView::Element(_))) => {
                    missing = missing_plugin(message).or(missing);
                }
                Some((_, gst::MessageView::Eos(_))) => {
                    return Loss::unavailable("the stream has ended");
                }
                // A message on the bus, if there is one, gives a better reason.
                None if has_failed => return Loss::unavailable("the source cannot be started"),
                _ => {}
            }
            if self.stop.load(Ordering::Acquire) {
                return Loss::unavailable("");
            }
            let (tracks, now) = (sinks.tracks(), self.clock.now());
            let has_ended = tracks.video.ended || tracks.audio.ended;
            if tracks.closed || (has_ended && tracks.have_ended()) {
                return Loss::unavailable("the stream has ended");
            }
            for track in monitors.iter_mut() {
                let counts = match track.kind {
                    Kind::Video => tracks.video,
                    Kind::Audio => tracks.audio,
                };
                if counts.samples == 0 && linker.has_data(track.kind) {
                    track.stall.data_arrived();
                }
                track.update(counts, &self.health, now);
            }
            if let Some(why) = self.reopen_reason(monitors, tracks.video.present, now) {
                return Loss::unavailable(why);
            }
        }
    }

    /// The reason to open the source again; `None` to keep it open. `has_pictures`: whether the
    /// source has a video track.
    fn reopen_reason(
        &mut self,
        monitors: &[TrackMonitor<'_>],
        has_pictures: bool,
        now: MediaTime,
    ) -> Option<String> {
        let first = monitors.first()?;
        let (why, since) = match &first.lost {
            Some(lost) => lost,
            None => {
                self.reopen_delay = FIRST_REOPEN_DELAY;
                return None;
            }
        };
        if monitors.iter().all(|track| track.lost.is_some()) {
            return Some(why.clone());
        }
        let waited = now.nanos_since(*since);
        if first.kind == Kind::Video && has_pictures && waited > self.reopen_delay.as_nanos() as i64
        {
            self.reopen_delay = (self.reopen_delay * 2).min(LONGEST_REOPEN_DELAY);
            return Some(why.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn video_is_never_interrupted_for_sound_and_sound_rarely_for_video() {
        let health = Arc::new(SourceHealth::default());
        let clock = Arc::new(SystemClock::new());
        let mut camera = Camera::new(
            VideoSpec::None,
            None,
            None,
            clock,
            health.clone(),
            Arc::default(),
        );
        let at = |seconds: i64| MediaTime::from_nanos(seconds * SECOND);
        let track = |kind, gauge, lost: Option<i64>| TrackMonitor {
            kind,
            what: "it",
            gauge,
            stall: StallDetector::new(MediaTime::ZERO, OPENING_NANOS),
            broken: None,
            lost: lost.map(|since| ("gone".to_owned(), at(since))),
        };
        let both = |video, audio| {
            [
                track(Kind::Video, &health.video, video),
                track(Kind::Audio, &health.audio, audio),
            ]
        };
        assert_eq!(
            camera.reopen_reason(&both(None, Some(1)), true, at(1000)),
            None
        );
        assert!(
            camera
                .reopen_reason(&both(Some(1), Some(1)), true, at(1))
                .is_some()
        );
        // Video alone: after 10 s, the next time after 20 s; after 10 s again once video has
        // resumed.
        assert_eq!(
            camera.reopen_reason(&both(Some(0), None), true, at(9)),
            None
        );
        assert!(
            camera
                .reopen_reason(&both(Some(0), None), true, at(11))
                .is_some()
        );
        assert_eq!(
            camera.reopen_reason(&both(Some(20), None), true, at(39)),
            None
        );
        assert!(
            camera
                .reopen_reason(&both(Some(20), None), true, at(41))
                .is_some()
        );
        assert_eq!(camera.reopen_reason(&both(None, None), true, at(50)), None);
        assert!(
            camera
                .reopen_reason(&both(Some(60), None), true, at(71))
                .is_some()
        );
        // A source without a video track is not opened again for one.
        assert_eq!(
            camera.reopen_reason(&both(Some(0), None), false, at(999)),
            None
        );
    }
}
