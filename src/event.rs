//! The wire types of `expressd.v1`. No other type is serialised for clients.
//!
//! Field order is the order on the wire. Times (`*_ns`) are media time in nanoseconds, durations
//! (`*_ms`) are in milliseconds.
//!
//! A new event type needs a struct with its [`Payload`] implementation and an entry in `events!`,
//! both in this file, and a row in `src/event/protocol.md`. `session/events.rs` builds the events
//! of a session.

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
    Also, Deadline, ExpressionEvent, FaceEvidence, HeadAnswer, Latency, Modalities, Provenance,
    Scores, TextEvidence, VoiceEvidence,
};
pub use refusal::{ErrorCode, Refusal};
pub use request::{MAX_WORDS, Request, Subscribe, TranscriptRequest};
pub use subscription::Subscription;
pub use verbatim::Verbatim;

use decimals::{decimals4, four_decimals, option_decimals4};

/// Generates [`PUBLISHED`] and [`Event`] from one list of event types. A type that is listed
/// without a struct is reserved: a subscription may name it, but this version does not emit it.
macro_rules! events {
    ($($kind:literal $(=> $Type:ident($payload:ty))?,)+) => {
        /// The `type` of every event of `expressd.v1`, including reserved types, which this
        /// version does not emit.
        pub const PUBLISHED: [&str; [$($kind),+].len()] = [$($kind),+];

        /// An event for all clients, without its sequence number `seq`, which the ring assigns.
        #[derive(Clone, Debug)]
        pub enum Event {
            $($($Type($payload),)?)+
        }

        impl Event {
            /// The value of the JSON field `type`, for example `"expression"`.
            pub fn kind(&self) -> &'static str {
                match self { $($(Event::$Type(_) => $kind,)?)+ }
            }

            /// The event's struct, behind the trait that all event types implement.
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

/// The properties of an event that the ring, its readers and the sinks use, without knowing the
/// event's type.
pub trait Payload {
    /// Whether the event is part of the offline form (`src/event/protocol.md`, JSON Lines).
    fn is_offline(&self) -> bool;

    /// The newest media time in the event; `None` for `status`, which belongs to no moment of the
    /// media.
    fn time(&self) -> Option<MediaTime>;

    /// The subject of the event, which the filter `subjects` of a subscription is compared with;
    /// `None` if the event belongs to no subject.
    fn subject(&self) -> Option<SubjectId>;

    /// The subject that continues the event's subject after a merge; `None` for any event other
    /// than a merge.
    fn merged_into(&self) -> Option<SubjectId> {
        None
    }

    /// Number of bytes of heap memory that the event owns, without the allocator's overhead.
    fn heap_bytes(&self) -> usize;
}

impl Event {
    /// Whether the event is part of the offline form (`src/event/protocol.md`, JSON Lines).
    pub fn is_offline(&self) -> bool {
        self.payload().is_offline()
    }

    /// The event's frame as one line of JSON without a line break, with `seq` after `type`. The
    /// offline form omits the fields that depend on the machine and the time of day.
    pub fn to_json(&self, seq: u64, form: Form) -> String {
        match (self, form) {
            (Event::Expression(e), Form::Offline) => frame(self.kind(), seq, &e.offline()),
            _ => self.live_json(seq),
        }
    }
}

/// Serialises `event` as one JSON object that begins with `type` and `seq`.
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

/// The two JSON forms of an event (`src/event/protocol.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All fields; sent on sockets and written by `run --jsonl`.
    Live,
    /// Without the fields that depend on the machine and the time of day; written by
    /// `replay --jsonl`.
    Offline,
}

/// The event `subject`: a subject appeared, moved or changed, was lost, or was merged into another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectEvent {
    pub subject: SubjectId,
    /// Capture time of the video frame with the change.
    pub time_ns: MediaTime,
    pub phase: SubjectPhase,
    /// The subject that this one was merged into; `Some` only in the phase `merged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<SubjectId>,
    /// The face box `[x, y, width, height]` as fractions of the picture's width and height, 0..1;
    /// `x, y` is the top left corner.
    #[serde(rename = "box", serialize_with = "four_decimals")]
    pub rect: [f32; 4],
    /// Quality of the face from its size, blur and pose, 0..1.
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

/// The event `speech`: the start or the end of a turn, or a transcript.
#[derive(Clone, PartialEq, Serialize)]
pub struct SpeechEvent {
    pub phase: SpeechPhase,
    /// Start of the turn or of the transcript.
    pub start_ns: MediaTime,
    /// End of the turn or of the transcript; `None` in the phase `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_ns: Option<MediaTime>,
    /// The whole transcript; `None` in the phases `start` and `end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The transcript's words with their times, in spoken order; `None` in the phases `start` and
    /// `end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<SpokenWord>>,
    /// The subject that speaks; `None` if it is unknown.
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

/// A word of a transcript with its start and end.
#[derive(Clone, PartialEq, Serialize)]
pub struct SpokenWord {
    pub text: String,
    pub start_ns: MediaTime,
    pub end_ns: MediaTime,
    /// The transcriber's posterior probability of the word, 0..1; `None` if a client sent the
    /// transcript.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub confidence: Option<f32>,
}

/// The phase of a `speech` event. Transcripts are published during the turn and shortly after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeechPhase {
    /// A turn begins.
    Start,
    /// A transcript that a later one may replace.
    Partial,
    /// A transcript that is not replaced.
    Final,
    /// A turn ends.
    End,
}

/// The event `status`: the state of the daemon's sources, and its counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusEvent {
    pub sources: Sources,
    /// How far the daemon has reduced its work under load; `"none"` in this version.
    pub degraded: &'static str,
    /// Whether a command has closed camera and microphone.
    pub paused: bool,
    /// Counters by name, since the start of the daemon (`src/event/protocol.md`).
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

/// State of the video source and of the audio source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sources {
    pub video: SourceStatus,
    pub audio: SourceStatus,
}

/// State of one source, that is, of the camera, the microphone or a track of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceStatus {
    pub state: SourceState,
    /// Why the source is lost or off; `None` if no cause is known.
    pub reason: Option<String>,
    /// Media time of the recording's start, for each pass of a loop anew; `None` for a camera or
    /// microphone.
    pub origin_ns: Option<MediaTime>,
}

/// The state of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// The source is being opened and has not delivered yet.
    Opening,
    /// Frames or sound arrive.
    Delivering,
    /// The source failed or was disconnected; the daemon tries to open it again.
    Lost,
    /// The source is not configured, is paused, or has ended.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_begins_with_type_and_seq_and_writes_subjects_as_s3() {
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

    /// `src/event/protocol.md` has a table row for each emitted event type, and lists any other
    /// type under "Reserved".
    #[test]
    fn the_protocol_describes_every_event_type() {
        let text = include_str!("event/protocol.md");
        let (current, reserved) = text.split_once("## Reserved").unwrap();
        for kind in PUBLISHED {
            let has_row = current.contains(&format!("\n| `{kind}` |"));
            assert!(has_row != reserved.contains(&format!("`{kind}`")), "{kind}");
        }
    }
}
