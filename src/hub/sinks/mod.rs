//! The outputs beside the sockets. A format of lines is an entry in `lines.rs`. Any other output is
//! a file here, and its entry in [`OPEN`].

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

/// Time that the sinks get for the last events, once the ring is closed.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// Opens the sinks that are requested, by the configuration or otherwise.
type Open = fn(&mut Opening) -> Result<Vec<Box<dyn Sink>>, SinksError>;

/// Every output, in the order of opening: the terminal does not use standard output if an output of
/// lines has taken it.
const OPEN: &[Open] = &[lines::open, terminal::open];

/// The inputs for opening a sink.
struct Opening<'a> {
    config: &'a PublishConfig,
    /// The recording that the events come from. It is never written to.
    recording: Option<&'a PathBuf>,
    /// Standard output is reserved for a sink's events.
    stdout_is_taken: bool,
}

/// Errors of opening the sinks, and losses at their end.
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

/// Opened sinks that do not follow a ring yet.
pub struct Sinks {
    opened: Vec<Box<dyn Sink>>,
}

impl Sinks {
    /// Opens the configured sinks, and the terminal if standard output is one. Never waits. Must be
    /// called before anything is printed: a standard output for events holds nothing else.
    ///
    /// # Errors
    /// A file cannot be opened, or is `recording`.
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

    /// Writes every event that is published from now on, each sink on its own thread, until the
    /// ring is closed. `on_loss` is called with a sink's name and the number of events that it
    /// lost.
    ///
    /// # Errors
    /// A sink that must not lose events gets no thread.
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

/// Sinks that follow a ring.
#[must_use = "finish them once the ring is closed"]
pub struct FollowingSinks {
    followers: Vec<Follower>,
}

impl FollowingSinks {
    /// Waits at most [`LAST_EVENTS`] for the remaining events to be written. The ring must be
    /// closed.
    ///
    /// # Errors
    /// Events are missing in an output that must not lose any (its [`LossPolicy`]). If there are
    /// several, the first is returned and the others are logged.
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
