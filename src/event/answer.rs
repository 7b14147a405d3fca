//! Frames to one client alone: they have no `seq`.

use serde::Serialize;

use super::{Subscription, Verbatim};
use crate::time::MediaTime;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer {
    Hello(Box<Hello>),
    Subscribed {
        subscription: Subscription,
    },
    Pong {
        data: Verbatim,
    },
    /// This client was too slow, or asked for what the ring no longer holds. Both ends are inclusive. `count` is what its subscription
    /// would have got; of events that left the ring before they could be matched, all.
    Dropped {
        count: u64,
        from_seq: u64,
        to_seq: u64,
    },
    Error {
        code: ErrorCode,
        message: String,
        in_reply_to: Option<String>,
    },
}

impl Answer {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("answers serialise")
    }
}

/// The first frame of every connection.
#[derive(Clone, Debug, Serialize)]
pub struct Hello {
    pub protocol: &'static str,
    /// Name and version.
    pub server: String,
    /// UUID of this run of the daemon: `seq` counts within it.
    pub session: String,
    pub clock: ClockPair,
    pub bundle: BundleFacts,
    pub subscription: Subscription,
    /// The oldest event that `resume_after` can still bring back; equal to `next_seq` while there is none.
    pub oldest_seq: u64,
    pub next_seq: u64,
}

/// One moment on both clocks, to convert media time with.
#[derive(Clone, Debug, Serialize)]
pub struct ClockPair {
    pub media_ns: MediaTime,
    /// RFC 3339, UTC.
    pub wall: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BundleFacts {
    pub name: String,
    pub fingerprint: String,
    /// `single` or `multi`.
    pub task: String,
    pub labels: Vec<String>,
    pub window_ms: u32,
    pub hop_ms: u32,
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
    /// No progress on the socket, or no pong.
    TooSlow,
    Internal,
}

impl ErrorCode {
    /// The WebSocket close code that follows; `None` where the connection stays open.
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
