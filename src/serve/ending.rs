//! Why a client's connection ends, and the time limit of its close.

use std::time::Duration;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::ServeSettings;
use super::framing::WireFault;
use crate::event::{ErrorCode, Refusal};

/// How long closing a connection may take when the daemon stops; the stop must take less than a
/// second.
const CLOSE_WHEN_STOPPING: Duration = Duration::from_millis(500);

/// Why a WebSocket connection ends.
pub(super) enum End {
    /// The connection broke.
    Gone,
    /// The client sent a Close frame, which tungstenite answers.
    Closed,
    /// The daemon refuses the client, for example because it is too slow.
    Refused(Refusal),
    /// The client violated RFC 6455. The connection is closed with this close code.
    Broken(u16, Refusal),
    /// The client's Close frame is malformed, and is answered with this close code. No `error`
    /// frame is sent, because none may follow a Close frame.
    BadClose(u16),
    /// The client sent no pong in time.
    Idle(Refusal),
    /// The daemon stops.
    Stopping,
}

impl End {
    /// Why the connection ends after `error` on reading from the client.
    pub fn of_read(error: Error, settings: &ServeSettings) -> End {
        let broken = |code: u16, message: String| {
            End::Broken(code, Refusal::new(ErrorCode::Malformed, message, None))
        };
        let fault = match error {
            Error::Io(error) => match WireFault::from_io(&error) {
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

    /// How long closing the connection may take.
    pub fn close_within(&self, settings: &ServeSettings) -> Duration {
        let close_within = settings.close_within;
        match self {
            End::Stopping => CLOSE_WHEN_STOPPING.min(close_within),
            // More time for a slow client, so that it gets the reason if it reads again.
            End::Refused(refusal) if refusal.code == ErrorCode::TooSlow => {
                let rest = settings.pong_within.saturating_sub(settings.stalled_for);
                close_within.max(rest)
            }
            _ => close_within,
        }
    }
}

/// Whether the client closed the connection without a Close frame.
fn is_hang_up(error: &ProtocolError) -> bool {
    use ProtocolError::{ReceivedAfterClosing, ResetWithoutClosingHandshake, SendAfterClosing};
    matches!(
        error,
        ResetWithoutClosingHandshake | ReceivedAfterClosing | SendAfterClosing
    )
}
