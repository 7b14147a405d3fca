//! Frames to a single client; they have no `seq`.

use serde::Serialize;

use super::refusal::{ErrorCode, Refusal};
use super::subscription::Subscription;
use super::verbatim::Verbatim;
use crate::time::MediaTime;

/// A frame to a single client.
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
    /// The client was too slow, or resumed from events that the ring no longer holds. Both ends
    /// are inclusive. `count`: events that match the subscription, plus all events that left the
    /// ring before they could be matched.
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
    /// The frame as one line of JSON.
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

/// The first frame of every connection.
#[derive(Clone, Debug, Serialize)]
pub struct Hello {
    pub protocol: &'static str,
    /// Name and version of the server.
    pub server: String,
    /// UUID of this run of the daemon: `seq` counts within it.
    pub session: String,
    pub clock: ClockPair,
    pub bundle: BundleFacts,
    /// The effective subscription.
    pub subscription: Subscription,
    /// The oldest event that `resume_after` can still deliver; equal to `next_seq` if there is
    /// none.
    pub oldest_seq: u64,
    /// Number of the next published event.
    pub next_seq: u64,
}

/// One moment on both clocks, to convert media time to wall time.
#[derive(Clone, Debug, Serialize)]
pub struct ClockPair {
    pub media_ns: MediaTime,
    /// The wall time in RFC 3339, UTC.
    pub wall: String,
}

/// The loaded bundle, as `hello` describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BundleFacts {
    pub name: String,
    /// As `provenance.bundle` of an event.
    pub fingerprint: String,
    /// `single` or `multi`.
    pub task: String,
    pub labels: Vec<String>,
    /// Length of a clip.
    pub window_ms: u32,
    /// Distance from the end of one clip to the end of the next.
    pub hop_ms: u32,
}
