//! Why a conversation with a client ends, and how long the goodbye may take.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::ServeSettings;
use super::framing::WireFault;
use crate::event::{ErrorCode, Refusal};

/// Stopping must be over within a second.
const GOODBYE_WHEN_STOPPING: Duration = Duration::from_millis(500);

pub(super) enum End {
    /// The connection is gone.
    Gone,
    /// The client closed it, and tungstenite replies.
    Closed,
    Refused(Refusal),
    /// RFC 6455 was broken: its close code.
    Broken(u16, Refusal),
    /// The client's Close frame is malformed: its close code, and nothing else follows a Close.
    BadClose(u16),
    Idle(Refusal),
    Stopping,
}

impl End {
    /// Why reading failed.
    pub fn of_read(error: Error, settings: &ServeSettings) -> End {
        let broken = |code: u16, message: String| {
            End::Broken(code, Refusal::new(ErrorCode::Malformed, message, None))
        };
        let fault = match error {
            Error::Io(error) => match WireFault::of(&error) {
                Some(fault) => fault,
                None => return End::Gone,
            },
            Error::Capacity(_) => WireFault::TooLarge,
            Error::Protocol(error) if is_hang_up(&error) => return End::Gone,
            Error::Utf8(_) => return broken(1007, "text that is not UTF-8".into()),
            error => return broken(1002, error.to_string()),
        };
        match fault {
            WireFault::Framing(_) => broken(1002, fault.to_string()),
            WireFault::Close(code) => End::BadClose(code),
            WireFault::TooLarge => {
                let most = settings.max_client_frame_bytes;
                let message = format!("a client frame may have {most} bytes");
                End::Refused(Refusal::new(ErrorCode::TooLarge, message, None))
            }
            WireFault::RateLimited => {
                let message = format!(
                    "a client may send {} WebSocket frames of any kind and {} bytes a second",
                    settings.max_wire_frames_per_s, settings.max_wire_bytes_per_s
                );
                End::Refused(Refusal::new(ErrorCode::RateLimited, message, None))
            }
        }
    }

    pub fn goodbye(&self, settings: &ServeSettings) -> Duration {
        let goodbye = settings.goodbye;
        match self {
            End::Stopping => GOODBYE_WHEN_STOPPING.min(goodbye),
            // A client that reads again in time hears why it was left behind.
            End::Refused(refusal) if refusal.code == ErrorCode::TooSlow => {
                let rest = settings.pong_within.saturating_sub(settings.stalled_for);
                goodbye.max(rest)
            }
            _ => goodbye,
        }
    }
}

/// The other side went away without a Close frame.
fn is_hang_up(error: &ProtocolError) -> bool {
    use ProtocolError::{ReceivedAfterClosing, ResetWithoutClosingHandshake, SendAfterClosing};
    matches!(
        error,
        ResetWithoutClosingHandshake | ReceivedAfterClosing | SendAfterClosing
    )
}
