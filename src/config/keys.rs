//! Declares every key of the configuration. The macro [`keys!`] describes the form of an entry.
//!
//! To add a key, declare it here, run `expressd check --defaults > config/expressd.toml`, and use
//! the field. `stages.rs` derives the settings of stages from the fields.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::grammar;
use super::setting::Setting;
use super::table::{Key, Range, Reload, keys};
use super::typed::{FromToml, typed};
use crate::address::{Address, AudioSpec, VideoSpec};
use crate::encode::Provider;
use crate::speech::TranscriberChoice;

/// Range of the keys that name a folder: any text that is not blank.
const FOLDER: Range = text("a folder", grammar::is_not_blank);

keys! {
/// The configuration after its check: every value lies within its range.
Config {
    /// Video source. "auto" is the first camera, or the first one that appears if there is none
    /// yet; `expressd devices` lists the cameras. In an address, the characters @ / # of a user
    /// name or password are written as %40 %2F %23.
    video: Address = "video.source", "auto",
        text(VideoSpec::PERMITTED, grammar::is_video_source), Session;

    /// Video track of a recording: its number among the video tracks, or "auto". "auto" prefers
    /// moving pictures to a cover, and then the track that the container marks as default.
    video_track: String = "video.track", "auto",
        text("\"auto\" or a number from 1 on", grammar::is_track), Session;

    /// Audio source. "default" is the default microphone, or the one that becomes it if there is
    /// none yet. /readyz reports 503 while a source is missing; choose "none" if the machine has
    /// no microphone.
    audio: Address = "audio.source", "default",
        text(AudioSpec::PERMITTED, grammar::is_audio_source), Session;

    /// Audio track of a recording: its number among the audio tracks, or "auto". "auto" is the
    /// track that the container marks as default, else the first one.
    audio_track: String = "audio.track", "auto",
        text("\"auto\" or a number from 1 on", grammar::is_track), Session;

    /// Channel of the sound: its number, "mix" or "auto". "auto" is the mix of all channels, or
    /// the best channel while the channels cancel each other in the mix.
    audio_channel: String = "audio.channel", "auto",
        text("\"auto\", \"mix\" or a number from 1 on", grammar::is_channel), Session;
}

/// Detection and tracking of faces.
face: FaceConfig {
    /// Folder of the face detector's graphs: "models/yunet", or "models/mtcnn" for MTCNN as
    /// facenet-pytorch runs it.
    detector: PathBuf = "face.detector", "models/yunet", FOLDER, Session;

    /// Folder of the network (onet.onnx) that tracks faces between two detections.
    tracker: PathBuf = "face.tracker", "models/mtcnn", FOLDER, Session;

    /// Interval of face detection, in milliseconds. Between two detections, known faces are
    /// tracked on every frame.
    detect_interval: Duration = "face.detect_interval_ms", 500, integer(40, 5_000), Session;

    /// Smallest face that is detected, in pixels of a picture 640 wide; it scales with the width
    /// of the picture. Smaller values cost more time.
    min_face_px: u32 = "face.min_face_px", 40, integer(20, 1_000), Session;

    /// Largest number of people that are tracked at the same time.
    max_subjects: usize = "face.max_subjects", 8, integer(1, 64), Session;

    /// A person who is not seen for this many milliseconds is reported as lost.
    lost_after: Duration = "face.lost_after_ms", 2000, integer(100, 60_000), Session;
}

/// Voice-activity detection and transcription.
speech: SpeechConfig {
    /// Voice probability from which sound counts as speech.
    threshold: f64 = "speech.threshold", 0.5, number(0.05, 0.95), Session;

    /// Length of the silence that ends a turn, in milliseconds.
    min_silence: Duration = "speech.min_silence_ms", 300, integer(50, 5_000), Session;

    /// Transcriber. With "none", clients may send the message `transcript`. "pocketsphinx" is for
    /// American English and runs on this machine; `make setup-words` fetches and builds it.
    /// `sherpa:<folder>` uses the streaming model for sherpa-onnx in that folder, with its
    /// tokens.txt, in a daemon built with `make build FEATURES=sherpa`. Words go to clients and to
    /// publish.jsonl, never into the log.
    transcriber: TranscriberChoice = "speech.transcriber", "none",
        text(TranscriberChoice::PERMITTED, grammar::is_transcriber), Session;
}

/// Windows of the recognizer.
window: WindowConfig {
    /// Milliseconds between two answers about a person; 0 takes the hop of the bundle's manifest.
    hop: Option<Duration> = "window.hop_ms", 0, zero_or("the manifest's", 40, 10_000), Session;

    /// How many milliseconds a window waits for sound or pictures that are late.
    lateness: Duration = "window.lateness_ms", 100, integer(0, 5_000), Session;
}

/// The trained graphs and their execution.
inference: InferenceConfig {
    /// Folder of the bundle: the trained graphs and their manifest.
    bundle: PathBuf = "inference.bundle", "models/default", FOLDER, Session;

    /// Execution provider. "auto" is the first of TensorRT, CUDA and the CPU that works.
    /// "tensorrt" and "cuda" need `make gpu`.
    provider: Provider = "inference.provider", "auto", one_of(grammar::PROVIDERS), Session;

    /// Threads that one run of a graph may use.
    threads: usize = "inference.threads", 1, integer(1, 64), Session;

    /// Milliseconds from capture to event. In live operation, older windows are dropped and
    /// counted.
    budget: Duration = "inference.budget_ms", 150, integer(10, 10_000), Session;
}

/// The socket and its clients.
serve: ServeConfig {
    /// Address and port of the socket.
    listen: Vec<SocketAddr> = "serve.listen", "127.0.0.1:8765",
        text(grammar::LOOPBACK, grammar::is_loopback), Restart;

    /// Names by which clients may call this machine in `Host`, beside localhost and loopback
    /// addresses. Requests for other names are refused with 421, because a web page could have its
    /// own name resolve to this machine.
    hosts: Vec<String> = "serve.hosts", [], list(grammar::HOSTS, grammar::is_host), Hot;

    /// Browser origins that may connect, beside those of this machine.
    allow_origins: Vec<String> = "serve.allow_origins", [],
        list(grammar::ORIGINS, grammar::is_origin), Hot;

    /// Largest number of clients that are connected at the same time.
    max_clients: usize = "serve.max_clients", 256, integer(1, 10_000), Hot;
}

/// Outputs beside the socket.
publish: PublishConfig {
    /// File or FIFO that gets every event as a line of JSON. With "-", nothing else is written to
    /// standard output. A new file is readable by its owner alone, because it holds what is said.
    jsonl: Option<PathBuf> = "publish.jsonl", "",
        text("a file, \"-\" for standard output, or \"\" for none", |_| true), Restart;
}

/// The log.
log: LogConfig {
    /// Lowest level that is logged. The variable RUST_LOG takes precedence, for example
    /// RUST_LOG=expressd::serve=debug.
    level: String = "log.level", "info",
        one_of(&["error", "warn", "info", "debug", "trace"]), Hot;
}
}

const fn integer(min: i64, max: i64) -> Range {
    Range::Integer { min, max }
}

const fn zero_or(zero: &'static str, min: i64, max: i64) -> Range {
    Range::ZeroOr { zero, min, max }
}

const fn number(min: f64, max: f64) -> Range {
    Range::Number { min, max }
}

const fn one_of(names: &'static [&'static str]) -> Range {
    Range::OneOf(names)
}

const fn text(permitted: &'static str, fits: fn(&str) -> bool) -> Range {
    Range::Text { permitted, fits }
}

const fn list(permitted: &'static str, fits: fn(&str) -> bool) -> Range {
    Range::List { permitted, fits }
}

#[cfg(test)]
mod tests;
