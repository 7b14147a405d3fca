//! The pipeline without threads, sockets or clocks.
//!
//! [`Plan`] derives every stage's settings from configuration, manifest and sources. [`Stages`] are
//! the opened stages. [`Session`] runs them on the calling thread: [`Session::push`] takes frames
//! and sound, [`Session::pop`] gives clips or events. The daemon gives the same stages threads of
//! their own (`crate::runtime`): each stage here is a state machine with `push` and `pop`, so both
//! drivers run the same code.
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
