//! Refusals of client frames, with their stable codes.

use serde::Serialize;

/// The reason for the refusal of a client frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    /// The frame's `type`; `None` if the frame has none.
    pub in_reply_to: Option<String>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>, in_reply_to: Option<&str>) -> Self {
        Refusal {
            code,
            message: message.into(),
            in_reply_to: in_reply_to.map(str::to_owned),
        }
    }
}

/// The stable codes of `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    Malformed,
    UnknownType,
    UnknownField,
    BadValue,
    TooLarge,
    RateLimited,
    Unauthorized,
    ForbiddenOrigin,
    NotAllowed,
    Stale,
    TooManyClients,
    /// The client made no progress on its socket, or sent no pong.
    TooSlow,
    Internal,
}

impl ErrorCode {
    /// The WebSocket close code sent after the error; `None` if the connection stays open.
    pub fn close_code(self) -> Option<u16> {
        Some(match self {
            ErrorCode::Malformed => 4400,
            ErrorCode::Unauthorized => 4401,
            ErrorCode::ForbiddenOrigin => 4403,
            ErrorCode::RateLimited => 4429,
            ErrorCode::TooLarge => 1009,
            ErrorCode::TooSlow | ErrorCode::TooManyClients => 1013,
            ErrorCode::Internal => 1011,
            ErrorCode::UnknownType
            | ErrorCode::UnknownField
            | ErrorCode::BadValue
            | ErrorCode::NotAllowed
            | ErrorCode::Stale => return None,
        })
    }
}
