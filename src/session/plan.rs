//! The settings of every stage, derived once from the configuration, the bundle's manifest and the
//! available sources.

use std::path::PathBuf;
use std::time::Duration;

use crate::align::AlignSettings;
use crate::assets::locate;
use crate::config::Config;
use crate::encode::{EncodeError, Provider, Runtime};
use crate::face::{Detector, DetectorSettings, FaceSettings, FaceStage, Follower};
use crate::manifest::{FacePreprocessing, Manifest};
use crate::schedule;
use crate::speech::{TranscriberChoice, TurnRule};

/// Which sources a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    pub video: bool,
    pub audio: bool,
}

/// Whether a session runs live, where old items are dropped, or as a replay, where none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tempo {
    Live,
    Replay,
}

/// Number of outputs of the aligner that may wait for the recognizer in a replay, enough to keep it
/// busy.
const REPLAY_QUEUE: usize = 64;

/// The settings of all stages of a session. [`Stages::open`](super::Stages::open) opens the stages.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tempo: Tempo,
    /// Face detection and tracking; `None` without video.
    pub face: Option<FacePlan>,
    /// Thresholds and durations that delimit speech turns; `None` without audio.
    pub turns: Option<TurnRule>,
    /// The transcriber; `TranscriberChoice::None` without audio.
    pub transcriber: TranscriberChoice,
    pub align: AlignSettings,
    /// The mode of the queue in front of the recognizer.
    pub queue: schedule::Mode,
    /// The longest permitted time from the capture of the newest evidence to the event.
    pub budget: Duration,
}

/// Settings of face detection and tracking.
#[derive(Clone, Debug)]
pub struct FacePlan {
    pub settings: FaceSettings,
    /// The manifest's section `[face]`, which defines the crops; `None`: faces are not cropped.
    pub preprocessing: Option<FacePreprocessing>,
    /// Folder with the graphs of the face detector.
    pub detector_models: PathBuf,
    /// Folder with the graphs of the face tracker.
    pub tracker_models: PathBuf,
    pub detector: DetectorSettings,
}

impl Plan {
    pub fn new(config: &Config, manifest: &Manifest, streams: Streams, tempo: Tempo) -> Plan {
        let of_ms = |ms: u32| i64::from(ms) * 1_000_000;
        let face = FacePlan {
            settings: config.face_settings(),
            preprocessing: manifest.face.clone(),
            detector_models: locate(&config.face.detector),
            tracker_models: locate(&config.face.tracker),
            detector: config.detector_settings(),
        };
        let transcriber = if streams.audio {
            config.speech.transcriber.clone().located(locate)
        } else {
            TranscriberChoice::None
        };
        Plan {
            tempo,
            face: streams.video.then_some(face),
            turns: streams.audio.then(|| config.turn_rule()),
            transcriber,
            align: AlignSettings {
                length_nanos: of_ms(manifest.window.length_ms),
                hop_nanos: of_ms(hop_ms(config, manifest)),
                face_rate_hz: manifest.face.as_ref().map_or(1.0, |f| f.rate_hz),
                min_speech_nanos: of_ms(manifest.audio.as_ref().map_or(0, |a| a.min_speech_ms)),
                lateness_nanos: (tempo == Tempo::Live).then(|| nanos(config.window.lateness)),
                video: streams.video,
                audio: streams.audio,
            },
            queue: match tempo {
                Tempo::Live => schedule::Mode::Live {
                    budget_nanos: nanos(config.inference.budget),
                },
                Tempo::Replay => schedule::Mode::Replay {
                    capacity: REPLAY_QUEUE,
                },
            },
            budget: config.inference.budget,
        }
    }
}

impl FacePlan {
    /// Opens the face detector on the CPU. Its graphs are small: on a GPU, copying pictures would
    /// take longer than the computation.
    ///
    /// # Errors
    /// A graph cannot be opened.
    pub fn open_detector(&self, runtime: &Runtime) -> Result<Detector, EncodeError> {
        let folder = &self.detector_models;
        Detector::open(runtime, folder, Provider::Cpu, self.detector.clone())
    }

    /// Opens the networks that track faces, on one thread of the CPU.
    ///
    /// # Errors
    /// A graph cannot be opened.
    pub fn open_follower(&self, runtime: &Runtime) -> Result<Follower, EncodeError> {
        let folders = (&self.tracker_models, &self.detector_models);
        Follower::open(runtime, folders.0, folders.1, Provider::Cpu, 1)
    }

    /// Creates the face tracker with the networks of `follower`.
    pub fn stage(&self, follower: Follower) -> FaceStage {
        FaceStage::new(self.settings.clone(), self.preprocessing.clone(), follower)
    }
}

/// Time from the end of one window to the end of the next, in milliseconds. The configuration's
/// value, if set, takes precedence over the manifest's.
pub fn hop_ms(config: &Config, manifest: &Manifest) -> u32 {
    config
        .window
        .hop
        .map_or(manifest.window.hop_ms, |hop| hop.as_millis() as u32)
}

/// `duration` in nanoseconds, at most `i64::MAX`.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
