//! Commands to a running session, each answered.
//!
//! [`Control`] is the sending end, which signals use. The supervisor takes commands from
//! [`Commands`] and answers each. A new command is a variant of [`Command`] and its arm in the
//! supervisor.

use std::time::Duration;

use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};

/// Capacity of the lane of commands, which the supervisor empties 20 times a second.
const WAITING: usize = 16;

/// A command to a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Close camera and microphone until [`Command::Resume`]. No effect while paused.
    Pause,
    /// Open camera and microphone again. No effect while not paused.
    Resume,
}

/// Why a command was not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("the session has ended")]
    Ended,
    #[error("no answer in time")]
    TimedOut,
    #[error("{0} commands wait already")]
    Busy(usize),
    #[error("{0}")]
    Failed(String),
}

/// The answer to a command.
pub type CommandResult = Result<(), CommandError>;

#[derive(Debug)]
struct Request {
    command: Command,
    answer: LaneSender<CommandResult>,
}

/// The sending end of the commands. Clones send to the same session.
#[derive(Clone, Debug)]
pub struct Control {
    requests: LaneSender<Request>,
}

/// The receiving end of the commands, for the supervisor.
#[derive(Debug)]
pub struct Commands {
    requests: LaneReceiver<Request>,
}

/// The answer of a command that is not executed yet.
#[derive(Debug)]
pub struct Pending {
    answer: LaneReceiver<CommandResult>,
}

impl Control {
    /// Both ends of the lane of commands.
    pub fn new() -> (Control, Commands) {
        let (sender, receiver) = lane("control", WAITING, WhenFull::DropNewest);
        (
            Control { requests: sender },
            Commands { requests: receiver },
        )
    }

    /// Sends `command`; never waits.
    ///
    /// # Errors
    /// The session has ended, or too many commands wait.
    pub fn send(&self, command: Command) -> Result<Pending, CommandError> {
        let (sender, answer) = lane("answer", 1, WhenFull::DropNewest);
        let request = Request {
            command,
            answer: sender,
        };
        match self.requests.send(request) {
            Ok(true) => Ok(Pending { answer }),
            Ok(false) => Err(CommandError::Busy(WAITING)),
            Err(_) => Err(CommandError::Ended),
        }
    }
}

impl Pending {
    /// Waits for the answer, at most `limit`.
    pub fn wait(self, limit: Duration) -> CommandResult {
        match self.answer.recv(Some(limit)) {
            Received::Item(result) => result,
            Received::Ended => Err(CommandError::Ended),
            Received::TimedOut => Err(CommandError::TimedOut),
        }
    }
}

impl Commands {
    /// Executes every waiting command in order, and answers each. Never waits.
    pub fn execute_all(&self, mut act: impl FnMut(Command) -> CommandResult) {
        while let Received::Item(request) = self.requests.recv(Some(Duration::ZERO)) {
            let result = act(request.command);
            if let Err(error) = &result {
                tracing::warn!(command = ?request.command, %error, "command failed");
            }
            // The sender may have dropped its end.
            let _ = request.answer.send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_answered_in_order() {
        let (control, commands) = Control::new();
        let pause = control.send(Command::Pause).unwrap();
        let resume = control.clone().send(Command::Resume).unwrap();
        let mut seen = Vec::new();
        commands.execute_all(|command| {
            seen.push(command);
            match command {
                Command::Pause => Ok(()),
                Command::Resume => Err(CommandError::Failed("no camera".into())),
            }
        });
        assert_eq!(seen, [Command::Pause, Command::Resume]);
        assert_eq!(pause.wait(Duration::ZERO), Ok(()));
        let failed = CommandError::Failed("no camera".into());
        assert_eq!(resume.wait(Duration::ZERO), Err(failed));
    }

    #[test]
    fn a_command_without_receiver_is_refused_or_times_out() {
        let (control, commands) = Control::new();
        let pending = control.send(Command::Pause).unwrap();
        assert_eq!(pending.wait(Duration::ZERO), Err(CommandError::TimedOut));
        let waiting = control.send(Command::Pause).unwrap();
        while control.send(Command::Resume).is_ok() {}
        let busy = control.send(Command::Resume).unwrap_err();
        assert_eq!(busy, CommandError::Busy(WAITING));
        drop(commands);
        assert_eq!(waiting.wait(Duration::ZERO), Err(CommandError::Ended));
        let ended = control.send(Command::Pause).unwrap_err();
        assert_eq!(ended, CommandError::Ended);
    }
}
