//! The outputs beside the sockets. A line-based format is an entry in `lines.rs`. Any other output
//! is a file in this folder and an entry in [`OPEN`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::follower::{Follower, OnLoss};
use super::out_file::OutFileError;
use super::ring::Ring;
use super::sink::{LossPolicy, Sink};
use crate::config::PublishConfig;

mod jsonl;
mod lines;
mod terminal;

pub use jsonl::JsonLines;

/// How long all sinks together may take to write the last events, once the ring is closed.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// A function that opens the sinks of one module, as far as they are requested.
type Open = fn(&mut Opening) -> Result<Vec<Box<dyn Sink>>, SinksError>;

/// The functions that open sinks, in the order of the calls. The terminal comes last, because it
/// does not use standard output if a line-based output has taken it.
const OPEN: &[Open] = &[lines::open, terminal::open];

/// The arguments of [`Open`] functions.
struct Opening<'a> {
    config: &'a PublishConfig,
    /// The recording that the events come from. No sink writes to it.
    recording: Option<&'a PathBuf>,
    /// Whether a sink writes its events to standard output.
    stdout_is_taken: bool,
}

/// Errors of opening the sinks, and the loss of events.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    #[error(transparent)]
    OutFile(#[from] OutFileError),
    #[error("the thread of the output to {target} could not be started")]
    Thread { target: String, source: io::Error },
    #[error("{lost} events are missing in {target}; free disk space, or read it faster")]
    Lost {
        target: String,
        lost: u64,
        #[source]
        cause: Option<io::Error>,
    },
}

/// Opened sinks that have no threads yet and write nothing.
pub struct Sinks {
    opened: Vec<Box<dyn Sink>>,
}

impl Sinks {
    /// Opens the configured sinks, and the terminal if standard output is one. Never waits. Must be
    /// called before anything is printed, because a standard output for events must hold nothing
    /// else.
    ///
    /// # Errors
    /// A file cannot be opened, or is the file `recording` that the events come from.
    pub fn open(config: &PublishConfig, recording: Option<&PathBuf>) -> Result<Sinks, SinksError> {
        let mut opening = Opening {
            config,
            recording,
            stdout_is_taken: false,
        };
        let mut opened = Vec::new();
        for open in OPEN {
            opened.extend(open(&mut opening)?);
        }
        Ok(Sinks { opened })
    }

    /// Starts a thread for each sink, which writes every event that is published from now on, until
    /// the ring is closed. `on_loss` is called with a sink's name and its number of newly lost
    /// events.
    ///
    /// # Errors
    /// The thread of a sink that must not lose events cannot be started. For other sinks, this is
    /// only logged.
    pub fn follow(
        self,
        ring: &Arc<Ring>,
        on_loss: impl Fn(&'static str, u64) + Send + Sync + 'static,
    ) -> Result<FollowingSinks, SinksError> {
        let on_loss: OnLoss = Arc::new(on_loss);
        let mut followers = Vec::new();
        for sink in self.opened {
            let (target, policy) = (sink.target(), sink.loss_policy());
            match Follower::spawn(sink, ring.reader(), on_loss.clone()) {
                Ok(follower) => followers.push(follower),
                Err(error) if policy == LossPolicy::Counted => {
                    tracing::error!(
                        "the thread of the output to {target} could not be started: {error}"
                    );
                }
                Err(source) => return Err(SinksError::Thread { target, source }),
            }
        }
        Ok(FollowingSinks { followers })
    }
}

/// Running sinks, each of which writes the events of a ring on its own thread.
#[must_use = "finish them once the ring is closed"]
pub struct FollowingSinks {
    followers: Vec<Follower>,
}

impl FollowingSinks {
    /// Waits at most [`LAST_EVENTS`] for the remaining events to be written, then ends the sinks.
    /// The ring must be closed.
    ///
    /// # Errors
    /// A sink that must not lose events, by its [`LossPolicy`], has lost some. If several have, the
    /// first error is returned and the other errors are logged.
    pub fn finish(self) -> Result<(), SinksError> {
        let mut first = Ok(());
        for outcome in Follower::finish(self.followers, LAST_EVENTS) {
            tracing::debug!(
                "the output to {} got {} events and lost {}",
                outcome.target,
                outcome.written,
                outcome.lost
            );
            if !outcome
                .policy
                .is_error(outcome.lost, outcome.cause.as_ref())
            {
                continue;
            }
            let error = SinksError::Lost {
                target: outcome.target,
                lost: outcome.lost,
                cause: outcome.cause,
            };
            if first.is_ok() {
                first = Err(error);
            } else {
                tracing::error!("{error}");
            }
        }
        first
    }
}
