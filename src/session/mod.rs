//! The pipeline without threads, sockets or clocks.
//!
//! [`Plan`] derives every stage's settings from configuration, manifest and sources. [`Stages`] are
//! the opened stages. [`Session`] runs the stages on the calling thread: [`Session::push`] takes
//! frames and sound, [`Session::pop`] returns clips or events. The daemon runs the same stages on
//! threads (`crate::runtime`). Each stage is a state machine with `push` and `pop`, so `Session`
//! and `runtime` run the same code.
//!
//! ```text
//! frames ─► Vision ──► Aligner ─► clips ─► Recognizer ─► EventBuilder ─► events
//!           │    ▲        ▲
//!           ▼    │        │
//!          Detector    SpeechDetection ─► Transcription
//!                         ▲
//! sound ──────────────────┘
//! ```

mod events;
mod inline;
mod plan;
mod speech_detection;
mod stages;
mod transcription;
mod transcripts;
mod vision;

pub use events::{ClipTimestamps, EventBuilder, events_of};
pub use inline::{Input, Output, Session, SessionError};
pub use plan::{FacePlan, Plan, Streams, Tempo, hop_ms};
pub use speech_detection::{SpeechDetection, SpeechInput, SpeechOutput, TranscriberInput};
pub use stages::{OpenError, Stages};
pub use transcription::Transcription;
pub use transcripts::ClientTranscripts;
pub use vision::{DetectionPolicy, READ_AHEAD, Vision, VisionInput, VisionOutput};

#[cfg(all(test, feature = "capture", feature = "serve"))]
mod tests;
