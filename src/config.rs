//! The configuration: where things are (devices, port, budgets). What a model sees is the bundle's manifest's to say.
//!
//! Later wins: defaults, `/etc/expressd/expressd.toml`, `--config FILE`, `EXPRESSD__SECTION__KEY`, the command line.
//! [`RawConfig`] is what can be written, [`Config`] what was checked; in between, *every* fault is found ([`ConfigFaults`]), not the first alone.
//! `config/expressd.toml` documents each key; a test holds it equal to the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::address::{self, Address};
use crate::encode::Provider;
use crate::speech::TranscriberChoice;

mod check;
mod layers;
mod stages;

pub use check::{KEYS, Key};

/// The file that is read when it is there, before all others.
pub const SYSTEM_FILE: &str = "/etc/expressd/expressd.toml";

/// The configuration as it is written: sections and keys of `config/expressd.toml`, each with its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    pub video: RawVideo,
    pub audio: RawAudio,
    pub face: RawFace,
    pub speech: RawSpeech,
    pub window: RawWindow,
    pub inference: RawInference,
    pub serve: RawServe,
    pub publish: RawPublish,
    pub log: RawLog,
}

/// A section: its keys, their types and their defaults.
macro_rules! section {
    ($name:ident { $($key:ident: $type:ty = $default:expr),* $(,)? }) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "config/expressd.toml documents each key")]
        pub struct $name { $(pub $key: $type,)* }
        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }
    };
}

section!(RawVideo {
    source: Address = "auto".into(),
    track: String = "auto".into()
});
section!(RawAudio {
    source: Address = "default".into(),
    track: String = "auto".into(),
    channel: String = "auto".into()
});
section!(RawFace {
    detector: String = "models/yunet".into(),
    tracker: String = "models/mtcnn".into(),
    detect_interval_ms: u64 = 500,
    min_face_px: u32 = 40,
    max_subjects: usize = 8,
    lost_after_ms: u64 = 2000,
});
section!(RawSpeech {
    threshold: f64 = 0.5,
    min_silence_ms: u64 = 300,
    transcriber: String = "none".into()
});
section!(RawWindow {
    hop_ms: u64 = 0,
    lateness_ms: u64 = 100
});
section!(RawInference {
    bundle: String = "models/default".into(),
    provider: String = "auto".into(),
    threads: usize = 1,
    budget_ms: u64 = 150
});
section!(RawServe {
    listen: String = "127.0.0.1:8765".into(),
    hosts: Vec<String> = Vec::new(),
    allow_origins: Vec<String> = Vec::new(),
    max_clients: usize = 256,
});
section!(RawPublish {
    jsonl: String = String::new()
});
section!(RawLog {
    level: String = "info".into()
});

/// The configuration after its check: every value lies where it may.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pictures come from: `auto`, `v4l2:…`, `pipewire[:…]`, `uri:…`, `gst:…`, `test`, `none`.
    pub video: Address,
    /// Where sound comes from: `default`, a device's name, `uri`, `none`.
    pub audio: Address,
    /// Which video track of a recording: `auto` or a number from 1 on.
    pub video_track: String,
    /// Which sound track of a recording: `auto` or a number from 1 on.
    pub audio_track: String,
    /// Which channel of the sound: `auto`, `mix` or a number from 1 on.
    pub audio_channel: String,
    pub face: FaceConfig,
    pub speech: SpeechConfig,
    pub window: WindowConfig,
    pub inference: InferenceConfig,
    pub serve: ServeConfig,
    pub publish: PublishConfig,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FaceConfig {
    /// The folder of the detector's graphs, as written; see [`locate`].
    pub detector: PathBuf,
    /// The folder of the network that follows faces, as written.
    pub tracker: PathBuf,
    pub detect_interval: Duration,
    pub min_face_px: u32,
    pub max_subjects: usize,
    /// A subject not seen for so long is lost.
    pub lost_after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpeechConfig {
    /// Voice probability from which on a piece of sound is speech.
    pub threshold: f64,
    /// Silence of this length ends a turn.
    pub min_silence: Duration,
    /// Who makes words of speech.
    pub transcriber: TranscriberChoice,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WindowConfig {
    /// `None`: the manifest's.
    pub hop: Option<Duration>,
    /// How long a clip waits for what is late.
    pub lateness: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InferenceConfig {
    /// The bundle's folder, as written; see [`locate`].
    pub bundle: PathBuf,
    pub provider: Provider,
    /// Threads of one graph's run.
    pub threads: usize,
    /// From capture to event; a clip older than this is dropped when live.
    pub budget: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServeConfig {
    /// At least one; loopback addresses, all with the same port.
    pub listen: Vec<SocketAddr>,
    /// Names of this machine beside loopback ones, as clients may call it in `Host`.
    pub hosts: Vec<String>,
    /// Browser origins that may connect, beside loopback ones.
    pub allow_origins: Vec<String>,
    pub max_clients: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PublishConfig {
    /// JSON Lines go to this file; `-` is standard output.
    pub jsonl: Option<PathBuf>,
}

/// One effective value and who said so. `Display` and `Debug` hide what an address in it keeps secret.
#[derive(Clone, PartialEq)]
pub struct Setting {
    pub key: &'static str,
    pub value: toml::Value,
    pub origin: Origin,
}

impl Setting {
    /// The value as it may be shown.
    pub fn shown(&self) -> toml::Value {
        shown(&self.value)
    }
}

fn shown(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => address::shown(text).into(),
        toml::Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  ({})", self.key, self.shown(), self.origin)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({self})")
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    Default,
    File { path: PathBuf },
    Environment,
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File { path } => write!(f, "{}", path.display()),
            Origin::Environment => f.write_str("the environment"),
            Origin::CommandLine => f.write_str("the command line"),
        }
    }
}

/// What the command line says about the configuration.
#[derive(Clone, Default)]
pub struct CliOverrides {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// Each `--set KEY=VALUE`, as typed.
    pub set: Vec<String>,
    /// Dedicated flags as (key, value), for example `("serve.listen", "127.0.0.1:9000")`; they win over `set`.
    pub flags: Vec<(&'static str, String)>,
}

impl fmt::Debug for CliOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &String| address::shown(text);
        f.debug_struct("CliOverrides")
            .field("file", &self.file)
            .field("set", &self.set.iter().map(shown).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with a configuration: one fault per line, the remedy last.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}\ncorrect {}, then run `expressd check`; config/expressd.toml describes every key", lines(.0), if .0.len() == 1 { "it" } else { "them" })]
pub struct ConfigFaults(pub Vec<Fault>);

fn lines(faults: &[Fault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A value outside of what is permitted.
    Value {
        key: String,
        found: String,
        origin: Origin,
        permitted: String,
    },
    /// A key that does not exist.
    Unknown {
        key: String,
        origin: Origin,
        nearest: &'static str,
    },
    /// A file that cannot be read or is not TOML.
    File { path: PathBuf, problem: String },
    /// `--set` without `=`.
    NoValue { typed: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Value {
                key,
                found,
                origin,
                permitted,
            } => write!(
                f,
                "{key} = {found} (from {origin}): permitted is {permitted}"
            ),
            Fault::Unknown {
                key,
                origin,
                nearest,
            } => write!(
                f,
                "{key} (from {origin}): there is no such key; the nearest is {nearest}"
            ),
            Fault::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Fault::NoValue { typed } => write!(f, "--set {typed}: expected KEY=VALUE"),
        }
    }
}

impl Config {
    /// Reads all layers and checks them as a whole.
    pub fn load(cli: &CliOverrides) -> Result<Config, ConfigFaults> {
        Config::load_from(
            Path::new(SYSTEM_FILE),
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
            cli,
        )
    }

    /// As [`Config::load`], with another system file and other environment variables.
    pub fn load_from(
        system_file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        cli: &CliOverrides,
    ) -> Result<Config, ConfigFaults> {
        let mut faults = Vec::new();
        let merged = layers::merge(system_file, environment, cli, &mut faults);
        let settings = check::check(merged, &mut faults);
        if !faults.is_empty() {
            return Err(ConfigFaults(faults));
        }
        let raw = raw_of(&settings);
        Ok(Config::from_checked(raw, settings))
    }

    /// Every effective value with its origin, in the order of `config/expressd.toml`.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// SHA-256 (hex) over the effective values as they are shown, whatever their origin: goes into each event's
    /// provenance. A password is left out, because it could be guessed from the hash.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for setting in &self.settings {
            hasher.update(format!("{} = {}\n", setting.key, setting.shown()));
        }
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// `raw` has passed the check that made `settings`.
    fn from_checked(raw: RawConfig, settings: Vec<Setting>) -> Config {
        let ms = Duration::from_millis;
        Config {
            video: raw.video.source,
            audio: raw.audio.source,
            video_track: raw.video.track,
            audio_track: raw.audio.track,
            audio_channel: raw.audio.channel,
            face: FaceConfig {
                detector: raw.face.detector.into(),
                tracker: raw.face.tracker.into(),
                detect_interval: ms(raw.face.detect_interval_ms),
                min_face_px: raw.face.min_face_px,
                max_subjects: raw.face.max_subjects,
                lost_after: ms(raw.face.lost_after_ms),
            },
            speech: SpeechConfig {
                threshold: raw.speech.threshold,
                min_silence: ms(raw.speech.min_silence_ms),
                transcriber: TranscriberChoice::parse(&raw.speech.transcriber).expect("checked"),
            },
            window: WindowConfig {
                hop: (raw.window.hop_ms > 0).then(|| ms(raw.window.hop_ms)),
                lateness: ms(raw.window.lateness_ms),
            },
            inference: InferenceConfig {
                bundle: raw.inference.bundle.into(),
                provider: check::provider(&raw.inference.provider).expect("checked"),
                threads: raw.inference.threads,
                budget: ms(raw.inference.budget_ms),
            },
            serve: ServeConfig {
                listen: check::loopback(&raw.serve.listen).expect("checked"),
                hosts: raw.serve.hosts,
                allow_origins: raw.serve.allow_origins,
                max_clients: raw.serve.max_clients,
            },
            publish: PublishConfig {
                jsonl: (!raw.publish.jsonl.is_empty()).then(|| raw.publish.jsonl.into()),
            },
            log_level: raw.log.level,
            settings,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::load_from(Path::new(""), [], &CliOverrides::default())
            .expect("the defaults pass the check")
    }
}

fn raw_of(settings: &[Setting]) -> RawConfig {
    let mut sections: BTreeMap<&str, toml::Table> = BTreeMap::new();
    for Setting { key, value, .. } in settings {
        let (section, name) = key.split_once('.').expect("keys are section.name");
        sections
            .entry(section)
            .or_default()
            .insert(name.into(), value.clone());
    }
    let table: toml::Table = sections
        .into_iter()
        .map(|(section, keys)| (section.into(), keys.into()))
        .collect();
    table
        .try_into()
        .expect("every key of KEYS is a field of RawConfig, of its type")
}

/// Finds a file or folder of ours. An absolute path stays; a relative one is looked up in the working directory, then beside the program
/// (`../share/expressd/`), then in the project's folder. What is nowhere comes back as it was.
pub fn locate(path: &Path) -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.join("share/expressd")));
    locate_in(
        path,
        beside.as_deref(),
        Path::new(env!("CARGO_MANIFEST_DIR")),
    )
}

fn locate_in(path: &Path, beside: Option<&Path>, project: &Path) -> PathBuf {
    if path.is_absolute() || path.exists() {
        return path.to_owned();
    }
    let candidates = beside
        .map(|folder| folder.join(path))
        .into_iter()
        .chain([project.join(path)]);
    candidates
        .into_iter()
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests;
