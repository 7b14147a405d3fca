//! Refusals of frames from clients, with error codes that stay the same within `expressd.v1`.

use serde::Serialize;

/// The refusal of a frame from a client; sent to the client as an `error` frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// An explanation for people.
    pub message: String,
    /// The `type` of the refused frame; `None` if the frame has no valid `type`.
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

/// The field `code` of an `error` frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is binary, not JSON, or not a JSON object.
    Malformed,
    /// The frame's `type` is absent or unknown.
    UnknownType,
    /// The frame has a field that its `type` does not have.
    UnknownField,
    /// A field has a value that is not allowed.
    BadValue,
    /// The frame exceeds the size limit.
    TooLarge,
    /// The client sent too many frames or bytes within a second.
    RateLimited,
    /// Reserved for access tokens.
    Unauthorized,
    /// The web page's `Origin` is not allowed.
    ForbiddenOrigin,
    /// The daemon's configuration forbids the request.
    NotAllowed,
    /// The transcript lies outside the window of coming events, or no session runs.
    Stale,
    /// The maximum number of clients is connected.
    TooManyClients,
    /// The client made no progress on its socket, or sent no pong.
    TooSlow,
    /// The server failed.
    Internal,
}

impl ErrorCode {
    /// The WebSocket close code that follows the `error` frame; `None` if the connection stays
    /// open.
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
