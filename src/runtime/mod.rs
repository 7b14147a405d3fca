//! A session's threads: each stage of [`crate::session`] on its own, joined by bounded lanes.
//!
//! [`Lanes`] are the queues, [`Pipeline`] the running threads. [`TranscriptInbox`] takes clients'
//! transcripts, [`Control`] takes commands.

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
