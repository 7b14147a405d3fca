//! Frames that the server sends to a single client. They have no sequence number `seq`.

use serde::Serialize;

use super::refusal::{ErrorCode, Refusal};
use super::subscription::Subscription;
use super::verbatim::Verbatim;
use crate::time::MediaTime;

/// A frame that the server sends to a single client.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Answer {
    /// The first frame of a connection.
    Hello(Box<Hello>),
    /// The answer to `subscribe`.
    Subscribed {
        /// The filter that is now in effect.
        subscription: Subscription,
    },
    /// The answer to `ping`.
    Pong {
        /// The `data` of the `ping`, unchanged.
        data: Verbatim,
    },
    /// Events were not sent, because the client was too slow, because an event was too large, or
    /// because the client resumed from events that have left the ring.
    Dropped {
        /// Number of dropped events that match the subscription, plus all events that left the
        /// ring before they could be matched.
        count: u64,
        /// The first `seq` of the dropped range.
        from_seq: u64,
        /// The last `seq` of the dropped range, inclusive.
        to_seq: u64,
    },
    /// A frame of the client was refused, or the server is about to close the connection.
    Error {
        code: ErrorCode,
        /// An explanation for people; its wording may change.
        message: String,
        /// The `type` of the refused frame; `None` if it has none.
        in_reply_to: Option<String>,
    },
}

impl Answer {
    /// The frame as one line of JSON, without a line break.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("answers serialise")
    }
}

impl Refusal {
    /// The `error` frame of this refusal.
    pub fn answer(self) -> Answer {
        Answer::Error {
            code: self.code,
            message: self.message,
            in_reply_to: self.in_reply_to,
        }
    }
}

/// The frame `hello`, the first one of every connection.
#[derive(Clone, Debug, Serialize)]
pub struct Hello {
    /// The name of the protocol, `expressd.v1`.
    pub protocol: &'static str,
    /// Name and version of the server.
    pub server: String,
    /// UUID of this run of the daemon. Each run counts `seq` anew.
    pub session: String,
    pub clock: ClockPair,
    pub bundle: BundleFacts,
    /// The filter in effect, which passes every event until the client subscribes.
    pub subscription: Subscription,
    /// The `seq` of the oldest event in the ring, from which a client can resume; equal to
    /// `next_seq` if the ring is empty.
    pub oldest_seq: u64,
    /// The `seq` that the next published event will have.
    pub next_seq: u64,
}

/// The same moment on the media clock and on the wall clock, for conversion between the two.
#[derive(Clone, Debug, Serialize)]
pub struct ClockPair {
    /// Media time in nanoseconds.
    pub media_ns: MediaTime,
    /// Wall time in UTC, written as in RFC 3339.
    pub wall: String,
}

/// The description of the loaded bundle in `hello`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BundleFacts {
    pub name: String,
    /// SHA-256 of everything in the bundle that determines scores, in hexadecimal. The field
    /// `provenance.bundle` of an `expression` event has the same value.
    pub fingerprint: String,
    /// `single` (one label for each clip) or `multi` (independent labels).
    pub task: String,
    /// The labels, in the order of the scores.
    pub labels: Vec<String>,
    /// Length of a window, in milliseconds.
    pub window_ms: u32,
    /// Time between the ends of two consecutive windows of a subject, in milliseconds.
    pub hop_ms: u32,
}
