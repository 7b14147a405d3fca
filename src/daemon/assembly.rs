//! Builds the stages from configuration and bundle; nothing runs yet.

use std::sync::Arc;
use std::time::Duration;

use super::express::Constants;
use super::pipeline::{Stages, Tempo};
use super::{DaemonError, StageFailure};
use crate::align::{AlignSettings, Aligner};
use crate::capture::Outputs;
use crate::config::{Config, locate};
use crate::encode::{Provider, Runtime};
use crate::event::Provenance;
use crate::face::{Detector, FaceStage, Follower};
use crate::lane::{LaneCounters, lane};
use crate::model::Bundle;
use crate::model::manifest::Manifest;
use crate::recognize::Recognizer;
use crate::schedule::{Mode, Schedule};
use crate::serve::ServeSettings;
use crate::speech::{SpeechStage, TranscribeStage, VoiceDetector, WordRule, open_transcriber};

/// Which sources there are.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    pub video: bool,
    pub audio: bool,
}

/// Stages that wait for their threads, and the lanes into them.
pub struct Assembly {
    pub stages: Stages,
    pub outputs: Outputs,
    pub lanes: Vec<Arc<LaneCounters>>,
}

/// Opens the bundle of the configuration: hashes, fingerprint, self-test.
pub fn open_bundle(config: &Config, runtime: &Runtime) -> Result<Bundle, DaemonError> {
    Ok(Bundle::open(
        runtime,
        &locate(&config.inference.bundle),
        config.inference.provider,
        config.inference.threads,
    )?)
}

/// What flows in the lanes is in `src/lib.rs`.
pub fn assemble(
    config: &Config,
    runtime: &Runtime,
    bundle: Bundle,
    streams: Streams,
    tempo: Tempo,
) -> Result<Assembly, DaemonError> {
    let manifest = bundle.manifest.clone();
    let constants = constants(config, &bundle);
    let (mut outputs, mut lanes) = (
        Outputs {
            frames: None,
            audio: None,
        },
        Vec::new(),
    );
    let faces = if streams.video {
        let (sender, receiver) = lane("frames", 4, tempo.when_full());
        lanes.push(sender.counters());
        outputs.frames = Some(sender);
        let (stage, detector) = face_stage(config, runtime, &manifest)?;
        Some((stage, detector, receiver))
    } else {
        None
    };
    let speech = if streams.audio {
        let (sender, receiver) = lane("audio", 64, tempo.when_full());
        lanes.push(sender.counters());
        outputs.audio = Some(sender);
        Some((speech_stage(config, runtime)?, receiver))
    } else {
        None
    };
    let mut aligner = Aligner::new(align_settings(config, &manifest, streams, tempo));
    let mut transcriber = None;
    // Where no sound is, nobody transcribes: clients may.
    if streams.audio
        && let Some(engine) = open_transcriber(&config.speech.transcriber.clone().located(locate))?
    {
        // Seconds of sound: an utterance's end, when its words are weighed, takes a while at once.
        let (sender, receiver) = lane("transcribe", 256, tempo.when_full());
        lanes.push(sender.counters());
        aligner = aligner.awaiting_words();
        transcriber = Some((
            TranscribeStage::new(engine, WordRule::default()),
            sender,
            receiver,
        ));
    }
    let schedule = Schedule::new(match tempo {
        Tempo::Live => Mode::Live {
            budget_nanos: nanos(config.inference.budget),
        },
        Tempo::Replay => Mode::Replay { capacity: 64 },
    });
    let stages = Stages {
        faces,
        speech,
        transcriber,
        aligner,
        schedule,
        recognizer: match tempo {
            Tempo::Live => Recognizer::live(bundle, config.inference.budget)
                .map_err(|error| StageFailure::new("text", error))?,
            Tempo::Replay => Recognizer::new(bundle),
        },
        constants,
    };
    Ok(Assembly {
        stages,
        outputs,
        lanes,
    })
}

/// The server's settings out of the configuration; the limits are `src/event/protocol.md`'s.
pub fn serve_settings(config: &Config) -> ServeSettings {
    ServeSettings {
        listen: config.serve.listen.clone(),
        hosts: config.serve.hosts.clone(),
        allow_origins: config.serve.allow_origins.clone(),
        max_clients: config.serve.max_clients,
        ..ServeSettings::default()
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// From one clip's end to the next one's: the configuration's, else the manifest's.
pub fn hop_ms(config: &Config, manifest: &Manifest) -> u32 {
    config
        .window
        .hop
        .map_or(manifest.window.hop_ms, |hop| hop.as_millis() as u32)
}

fn constants(config: &Config, bundle: &Bundle) -> Constants {
    Constants {
        labels: bundle.manifest.labels.clone(),
        provenance: Provenance {
            bundle: bundle.manifest.fingerprint.clone(),
            provider: bundle.provider().name(),
            precision: bundle.precision().name(),
            config: config.hash(),
            calibration: None,
        },
        budget_ms: config.inference.budget.as_millis() as u32,
    }
}

fn face_stage(
    config: &Config,
    runtime: &Runtime,
    manifest: &Manifest,
) -> Result<(FaceStage, Detector), DaemonError> {
    let folder = locate(&config.face.detector);
    let tracker = locate(&config.face.tracker);
    // These graphs are small: on a GPU the copies would cost more than the sums.
    let follower = Follower::open(runtime, &tracker, &folder, Provider::Cpu, 1)?;
    let detector = Detector::open(runtime, &folder, Provider::Cpu, config.detector_settings())?;
    Ok((
        FaceStage::new(config.face_settings(), manifest.face.clone(), follower),
        detector,
    ))
}

fn speech_stage(config: &Config, runtime: &Runtime) -> Result<SpeechStage, DaemonError> {
    Ok(SpeechStage::new(
        config.turn_rule(),
        VoiceDetector::load(runtime)?,
    ))
}

fn align_settings(
    config: &Config,
    manifest: &Manifest,
    streams: Streams,
    tempo: Tempo,
) -> AlignSettings {
    let of_ms = |ms: u32| i64::from(ms) * 1_000_000;
    AlignSettings {
        length_nanos: of_ms(manifest.window.length_ms),
        hop_nanos: of_ms(hop_ms(config, manifest)),
        face_rate_hz: manifest.face.as_ref().map_or(1.0, |f| f.rate_hz),
        min_speech_nanos: of_ms(manifest.audio.as_ref().map_or(0, |a| a.min_speech_ms)),
        lateness_nanos: (tempo == Tempo::Live).then(|| nanos(config.window.lateness)),
        video: streams.video,
        audio: streams.audio,
    }
}
