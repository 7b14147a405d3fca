//! Settings of every stage, derived once from configuration, manifest and sources.

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

/// Which sources exist.
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

/// Number of items that may wait for the recognizer in a replay.
const REPLAY_QUEUE: usize = 64;

/// Settings of all stages. Nothing is open.
#[derive(Clone, Debug)]
pub struct Plan {
    pub tempo: Tempo,
    /// Face detection and tracking; `None` without video.
    pub face: Option<FacePlan>,
    /// The rule for speech turns; `None` without audio.
    pub turns: Option<TurnRule>,
    /// The transcriber; `None` without audio.
    pub transcriber: TranscriberChoice,
    pub align: AlignSettings,
    pub queue: schedule::Mode,
    /// Live: time limit from evidence to event.
    pub budget: Duration,
}

/// Settings of face detection and tracking.
#[derive(Clone, Debug)]
pub struct FacePlan {
    pub settings: FaceSettings,
    /// The manifest's `[face]`. `None`: faces are not cropped.
    pub preprocessing: Option<FacePreprocessing>,
    /// Folder of the detector's graphs.
    pub detector_models: PathBuf,
    /// Folder of the tracker's network.
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
    /// Opens the detector on the CPU. Its graphs are small: on a GPU, copies would cost more than
    /// the runs.
    pub fn open_detector(&self, runtime: &Runtime) -> Result<Detector, EncodeError> {
        let folder = &self.detector_models;
        Detector::open(runtime, folder, Provider::Cpu, self.detector.clone())
    }

    /// Opens the networks that track faces, on the CPU.
    pub fn open_follower(&self, runtime: &Runtime) -> Result<Follower, EncodeError> {
        let folders = (&self.tracker_models, &self.detector_models);
        Follower::open(runtime, folders.0, folders.1, Provider::Cpu, 1)
    }

    /// The face stage with these networks.
    pub fn stage(&self, follower: Follower) -> FaceStage {
        FaceStage::new(self.settings.clone(), self.preprocessing.clone(), follower)
    }
}

/// Distance from the end of one clip to the end of the next, in milliseconds: the configuration's,
/// else the manifest's.
pub fn hop_ms(config: &Config, manifest: &Manifest) -> u32 {
    config
        .window
        .hop
        .map_or(manifest.window.hop_ms, |hop| hop.as_millis() as u32)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
