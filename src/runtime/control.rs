//! Commands to a running session, each of which is answered.
//!
//! [`Control`] is the sending end, which the signal handlers use. The supervisor receives commands
//! from [`Commands`] and answers each. A new command needs a variant of [`Command`] and an arm in
//! the supervisor's `match`.

use std::time::Duration;

use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};

/// Number of commands that may wait. The supervisor executes waiting commands 20 times a second.
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

/// A command, and the lane to which its answer is sent.
#[derive(Debug)]
struct Request {
    command: Command,
    answer: LaneSender<CommandResult>,
}

/// Sends commands to the session. Clones send to the same session.
#[derive(Clone, Debug)]
pub struct Control {
    requests: LaneSender<Request>,
}

/// Receives the commands from [`Control`], for the supervisor.
#[derive(Debug)]
pub struct Commands {
    requests: LaneReceiver<Request>,
}

/// A sent command whose answer has not been received yet.
#[derive(Debug)]
pub struct Pending {
    answer: LaneReceiver<CommandResult>,
}

impl Control {
    /// Creates the sending and the receiving end of the commands of a session.
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
    /// Waits for the command's answer, at most `limit`.
    ///
    /// # Errors
    /// The command failed, the session has ended, or no answer came within `limit`.
    pub fn wait(self, limit: Duration) -> CommandResult {
        match self.answer.recv(Some(limit)) {
            Received::Item(result) => result,
            Received::Ended => Err(CommandError::Ended),
            Received::TimedOut => Err(CommandError::TimedOut),
        }
    }
}

impl Commands {
    /// Calls `act` for every waiting command in order, and sends its result as the answer. Does not
    /// wait for further commands.
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
    fn a_command_that_is_not_executed_times_out_or_is_refused() {
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
