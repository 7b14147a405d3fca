//! Live sources. Each one is monitored and reconnected on its own thread.
//!
//! A source is lost when its pipeline reports an error, ends, or stalls for longer than its rate
//! explains. It is then opened again, without a limit of attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;

use super::Outputs;
use super::camera::Camera;
use super::delivery::{FrameDelivery, SoundDelivery};
use super::error::CaptureError;
use super::health::SourceHealth;
use super::microphone::Microphone;
use super::pipeline::init;
use super::recording::{Pace, Recording};
use super::retry::{FIRST_PAUSE, pause};
use super::running_time::RunningTimeMap;
use super::source;
use super::spec::{AudioSpec, VideoSpec, local_file};
use super::track_linker::{EnabledTracks, TrackLinker};
use super::tracks::TrackChoice;
use crate::clip::AudioBlock;
use crate::event::SourceState;
use crate::lane::LaneSender;
use crate::time::{Clock, SystemClock};

/// Time limit for the end of all source threads.
const CLOSING: Duration = Duration::from_secs(1);
/// Interval at which the end of the source threads is checked.
const CLOSING_STEP: Duration = Duration::from_millis(5);

/// If a recording played this long before it failed, in nanoseconds, it is opened again after the
/// shortest pause.
const LASTED_NANOS: i64 = 10_000_000_000;
/// The longest pause before a recording that failed is opened again.
const LONGEST_FILE_PAUSE: Duration = Duration::from_secs(5);

/// Running live sources. When this value is dropped or stopped, they end and their lanes close.
#[derive(Debug)]
pub struct LiveCapture {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Sender of the microphone's lane. The microphone's thread holds a weak sender, so that the
    /// lane closes even if a sound server blocks that thread.
    sound: Option<LaneSender<AudioBlock>>,
}

impl LiveCapture {
    /// Ends capture and waits at most a second for its threads; the lanes close.
    pub fn stop(mut self) {
        self.end();
    }

    /// Stops the threads and closes the lanes.
    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        let mut left = CLOSING;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && !left.is_zero() {
                std::thread::sleep(CLOSING_STEP);
                left = left.saturating_sub(CLOSING_STEP);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        self.sound = None;
    }
}

impl Drop for LiveCapture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens the live sources and returns. Faults that are known at once are errors: a missing named
/// device or file, or an invalid specification. Every other fault is reported in the source health
/// and retried; `auto` and `default` also wait for a device. A local file as `uri:` is played in a
/// loop at its own pace. The lanes must drop items when full, because live capture must not block.
///
/// # Errors
/// [`CaptureError`] for the first fault that is known at once.
pub fn open_live(
    video: &VideoSpec,
    audio: &AudioSpec,
    clock: Arc<SystemClock>,
    outputs: Outputs,
    health: Arc<SourceHealth>,
) -> Result<LiveCapture, CaptureError> {
    open_live_with(video, audio, TrackChoice::default(), clock, outputs, health)
}

/// As [`open_live`], with a choice of tracks (of a local file) and channels.
///
/// # Errors
/// As [`open_live`], and [`CaptureError::NoSuchTrack`] for a track or channel that a local file
/// lacks.
pub fn open_live_with(
    video: &VideoSpec,
    audio: &AudioSpec,
    choice: TrackChoice,
    clock: Arc<SystemClock>,
    outputs: Outputs,
    health: Arc<SourceHealth>,
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
        AudioSpec::Default | AudioSpec::Device(_) => {
            Some(Microphone::find(audio)?.with_channel(choice.channel))
        }
        AudioSpec::Uri | AudioSpec::None => None,
    };
    let file = match video {
        VideoSpec::Uri(uri) => local_file(uri.expose()),
        _ => None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let first = match (&file, video) {
        (Some(path), _) => Some(Recording::open_with(path, choice)?),
        // Any webcam, also one that is plugged in later.
        (None, VideoSpec::Auto | VideoSpec::None) => None,
        // Builds the source once to report its errors.
        (None, spec) => {
            let pipeline = gst::Pipeline::new();
            let enabled = EnabledTracks {
                video: true,
                audio: with_track,
                channel: choice.channel,
            };
            let linker = TrackLinker::new(
                &pipeline,
                Arc::default(),
                enabled,
                clock.clone(),
                running_time(&stop),
            );
            source::build(spec, &pipeline, &linker).map(|()| None)?
        }
    };

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
        let (clock, health, stop) = (clock.clone(), health.clone(), stop.clone());
        let path = file.expect("a recording has one");
        spawn(
            "replay",
            Box::new(move || {
                let mut wait = FIRST_PAUSE;
                loop {
                    let began = clock.now();
                    let outputs = Outputs {
                        frames: frames.clone(),
                        audio: track.clone(),
                    };
                    let gauges = [
                        (&health.video, frames.is_some() && recording.has_video()),
                        (&health.audio, track.is_some() && recording.has_audio()),
                    ];
                    let played = recording.play(
                        Pace::Live {
                            clock: clock.clone(),
                            looped: true,
                        },
                        outputs,
                        health.clone(),
                        stop.clone(),
                    );
                    let Err(error) = played else { return };
                    // A recording that repeatedly fails at its beginning must not keep a processor
                    // busy.
                    wait = if clock.now().nanos_since(began) > LASTED_NANOS {
                        FIRST_PAUSE
                    } else {
                        (wait * 2).min(LONGEST_FILE_PAUSE)
                    };
                    recording = loop {
                        for (gauge, _) in gauges.iter().filter(|(_, is_used)| *is_used) {
                            health.set(gauge, SourceState::Lost, Some(error.to_string()));
                        }
                        if !pause(wait, &stop) {
                            return;
                        }
                        if let Ok(again) = Recording::open_with(&path, choice) {
                            break again;
                        }
                    };
                }
            }),
        );
    } else if *video != VideoSpec::None {
        let running_time = running_time(&stop);
        let camera = Camera::new(
            video.clone(),
            frames.map(|lane| FrameDelivery::new(lane, running_time.clone(), health.clone())),
            track.map(|lane| SoundDelivery::new(lane, running_time, health.clone())),
            clock.clone(),
            health.clone(),
            stop.clone(),
        )
        .with_channel(choice.channel);
        spawn("camera", Box::new(move || camera.run()));
    }
    let sound = sound.filter(|_| microphone.is_some());
    if let (Some(microphone), Some(lane)) = (microphone, &sound) {
        let lane = lane.downgrade();
        let (health, stop) = (health.clone(), stop.clone());
        spawn(
            "microphone",
            Box::new(move || microphone.run(&lane, &clock, &health, &stop)),
        );
    }
    Ok(LiveCapture {
        stop,
        threads,
        sound,
    })
}

/// A map with offsets 0 and without pacing.
fn running_time(stop: &Arc<AtomicBool>) -> Arc<RunningTimeMap> {
    Arc::new(RunningTimeMap {
        stamp_offset: AtomicI64::new(0),
        release_offset: AtomicI64::new(0),
        pacing: None,
        stop: stop.clone(),
    })
}
