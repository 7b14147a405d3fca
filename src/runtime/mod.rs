//! The threads of a session: each stage of [`crate::session`] runs on a thread of its own, and
//! bounded lanes connect the threads.
//!
//! [`Lanes`] are the queues between the threads, [`Pipeline`] are the running threads.
//! [`TranscriptInbox`] receives transcripts of clients, [`Control`] sends commands to the session.

mod align;
mod callbacks;
mod control;
mod failure;
mod infer;
mod lanes;
mod outages;
mod panics;
mod pipeline;
mod queue;
mod replay_counts;
mod speech_detection;
mod transcript_inbox;
mod transcription;
mod vision;

pub use callbacks::{Emit, IsLost, Losses};
pub use control::{Command, CommandError, CommandResult, Commands, Control, Pending};
pub use failure::{StageError, StageFailure};
pub use lanes::Lanes;
pub use outages::{Outage, Outages};
pub(crate) use panics::catch;
pub use panics::{PanicReport, install_panic_hook};
pub use pipeline::{Assembly, Pipeline, RefusedCounts};
pub use queue::InferenceQueue;
pub use replay_counts::{ReplayCounts, SharedReplayCounts};
pub use transcript_inbox::TranscriptInbox;
