//! The wire types of `expressd.v1`. No other type is serialised for clients.
//!
//! Field order is the order on the wire. Times (`*_ns`) are media time in nanoseconds, durations
//! (`*_ms`) are in milliseconds.
//!
//! To add an event type: its structure here with its [`Payload`], its entry in `events!`, its row
//! in `src/event/protocol.md`. `session/events.rs` makes the events of a session.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::clip::{SubjectId, SubjectPhase};
use crate::time::MediaTime;

#[doc = include_str!("event/protocol.md")]
pub mod protocol {}

mod answer;
mod decimals;
mod expression;
mod heap;
mod refusal;
mod request;
mod strict;
mod subscription;
mod verbatim;
pub use answer::{Answer, BundleFacts, ClockPair, Hello};
pub use decimals::wire_decimals;
pub use expression::{
    Deadline, ExpressionEvent, FaceEvidence, Latency, Modalities, Provenance, Scores, TextEvidence,
    VoiceEvidence,
};
pub use refusal::{ErrorCode, Refusal};
pub use request::{MAX_WORDS, Request, Subscribe, TranscriptRequest};
pub use subscription::Subscription;
pub use verbatim::Verbatim;

use decimals::{decimals4, four_decimals, option_decimals4};

/// Makes [`PUBLISHED`] and [`Event`] from one list. A type without a structure is reserved: a
/// subscription may name it, and this version does not emit it.
macro_rules! events {
    ($($kind:literal $(=> $Type:ident($payload:ty))?,)+) => {
        /// Every `type` that is published with a `seq` in `expressd.v1`, including those that this
        /// version does not emit.
        pub const PUBLISHED: [&str; [$($kind),+].len()] = [$($kind),+];

        /// A published event without its `seq`, which the ring assigns.
        #[derive(Clone, Debug)]
        pub enum Event {
            $($($Type($payload),)?)+
        }

        impl Event {
            /// The value of `type`.
            pub fn kind(&self) -> &'static str {
                match self { $($(Event::$Type(_) => $kind,)?)+ }
            }

            /// The facts of the event.
            pub fn payload(&self) -> &dyn Payload {
                match self { $($(Event::$Type(payload) => payload,)?)+ }
            }

            fn live_json(&self, seq: u64) -> String {
                match self { $($(Event::$Type(payload) => frame($kind, seq, payload),)?)+ }
            }
        }
    };
}

events! {
    "subject" => Subject(SubjectEvent),
    "expression" => Expression(Box<ExpressionEvent>),
    "episode",
    "speech" => Speech(SpeechEvent),
    "marker",
    "status" => Status(StatusEvent),
}

/// The facts of an event that the ring, its readers and the outputs use.
pub trait Payload {
    /// Whether the event is part of the offline form (`src/event/protocol.md`, JSON Lines).
    fn is_offline(&self) -> bool;

    /// The newest media time in the event; `None` for an event of the daemon itself.
    fn time(&self) -> Option<MediaTime>;

    /// The subject that a subscription's `subjects` select; `None` for an event of no subject.
    fn subject(&self) -> Option<SubjectId>;

    /// The subject that the event's subject was merged into.
    fn merged_into(&self) -> Option<SubjectId> {
        None
    }

    /// Bytes of heap memory, without the allocator's overhead.
    fn heap_bytes(&self) -> usize;
}

impl Event {
    /// Whether the event is part of the offline form (`src/event/protocol.md`, JSON Lines).
    pub fn is_offline(&self) -> bool {
        self.payload().is_offline()
    }

    /// The frame as one line of JSON, with `seq` after `type`. The offline form omits the fields
    /// that depend on the machine and the time of day.
    pub fn to_json(&self, seq: u64, form: Form) -> String {
        match (self, form) {
            (Event::Expression(e), Form::Offline) => frame(self.kind(), seq, &e.offline()),
            _ => self.live_json(seq),
        }
    }
}

fn frame<T: Serialize>(kind: &'static str, seq: u64, event: &T) -> String {
    #[derive(Serialize)]
    struct Frame<'a, T> {
        r#type: &'static str,
        seq: u64,
        #[serde(flatten)]
        event: &'a T,
    }
    serde_json::to_string(&Frame {
        r#type: kind,
        seq,
        event,
    })
    .expect("events serialise")
}

/// The two forms of `src/event/protocol.md`: live (sockets), and offline (`replay --jsonl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Live,
    Offline,
}

/// A change of a track.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectEvent {
    pub subject: SubjectId,
    pub time_ns: MediaTime,
    pub phase: SubjectPhase,
    /// The surviving track; only in `merged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<SubjectId>,
    /// `x, y, w, h` as fractions of the picture, 0..1.
    #[serde(rename = "box", serialize_with = "four_decimals")]
    pub rect: [f32; 4],
    /// Quality of the face, 0..1.
    #[serde(serialize_with = "decimals4")]
    pub quality: f32,
}

impl Payload for SubjectEvent {
    fn is_offline(&self) -> bool {
        true
    }

    fn time(&self) -> Option<MediaTime> {
        Some(self.time_ns)
    }

    fn subject(&self) -> Option<SubjectId> {
        Some(self.subject)
    }

    fn merged_into(&self) -> Option<SubjectId> {
        self.into
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The start or end of a turn, or a transcript.
#[derive(Clone, PartialEq, Serialize)]
pub struct SpeechEvent {
    pub phase: SpeechPhase,
    pub start_ns: MediaTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ns: Option<MediaTime>,
    /// The transcript; only in `partial` and `final`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The words with their times, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<SpokenWord>>,
    /// The speaker; `None` if it is unknown.
    pub owner: Option<SubjectId>,
}

/// Omits the words, so that they never appear in a log.
impl fmt::Debug for SpeechEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SpeechEvent({:?}, {:?}..{:?}, {:?})",
            self.phase, self.start_ns, self.end_ns, self.owner
        )
    }
}

impl Payload for SpeechEvent {
    fn is_offline(&self) -> bool {
        true
    }

    fn time(&self) -> Option<MediaTime> {
        Some(self.end_ns.unwrap_or(self.start_ns))
    }

    fn subject(&self) -> Option<SubjectId> {
        self.owner
    }

    fn heap_bytes(&self) -> usize {
        let words = self.words.as_ref().map_or(0, |words| {
            let texts: usize = words.iter().map(|word| word.text.capacity()).sum();
            words.capacity() * size_of::<SpokenWord>() + texts
        });
        self.text.as_ref().map_or(0, String::capacity) + words
    }
}

/// A word of a transcript with its times.
#[derive(Clone, PartialEq, Serialize)]
pub struct SpokenWord {
    pub text: String,
    pub start_ns: MediaTime,
    pub end_ns: MediaTime,
    /// Posterior probability, 0..1; `None` for words of a client.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub confidence: Option<f32>,
}

/// `Start` and `End` delimit a turn. Transcripts are published during the turn and shortly after
/// it: a `Partial` is superseded later, a `Final` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeechPhase {
    Start,
    Partial,
    Final,
    End,
}

/// State of the daemon: sources, degradation, counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusEvent {
    pub sources: Sources,
    /// The degradation of the daemon (`src/event/protocol.md`).
    pub degraded: &'static str,
    pub paused: bool,
    pub counters: Map<String, Value>,
}

impl Payload for StatusEvent {
    fn is_offline(&self) -> bool {
        false
    }

    fn time(&self) -> Option<MediaTime> {
        None
    }

    fn subject(&self) -> Option<SubjectId> {
        None
    }

    fn heap_bytes(&self) -> usize {
        let reason = |source: &SourceStatus| source.reason.as_ref().map_or(0, String::capacity);
        reason(&self.sources.video) + reason(&self.sources.audio) + heap::object(&self.counters)
    }
}

/// State of both sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sources {
    pub video: SourceStatus,
    pub audio: SourceStatus,
}

/// State of one source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceStatus {
    pub state: SourceState,
    /// The cause of a loss.
    pub reason: Option<String>,
    /// Media time at which a replayed recording (each pass of a loop) begins.
    pub origin_ns: Option<MediaTime>,
}

/// The phases of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    Opening,
    Delivering,
    Lost,
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_seq_come_first_and_ids_are_short() {
        let event = Event::Subject(SubjectEvent {
            subject: SubjectId::Face(3),
            time_ns: MediaTime::from_millis(1),
            phase: SubjectPhase::Appeared,
            into: None,
            rect: [0.1, 0.2, 0.3, 0.4],
            quality: 0.93,
        });
        assert_eq!(
            event.to_json(7, Form::Live),
            concat!(
                r#"{"type":"subject","seq":7,"subject":"s3","time_ns":1000000,"#,
                r#""phase":"appeared","box":[0.1,0.2,0.3,0.4],"quality":0.93}"#
            )
        );
    }

    /// An emitted type has a row of its own, any other is listed as reserved.
    #[test]
    fn the_protocol_describes_every_type() {
        let text = include_str!("event/protocol.md");
        let (current, reserved) = text.split_once("## Reserved").unwrap();
        for kind in PUBLISHED {
            let has_row = current.contains(&format!("\n| `{kind}` |"));
            assert!(has_row != reserved.contains(&format!("`{kind}`")), "{kind}");
        }
    }
}
