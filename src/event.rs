//! The wire types of `expressd.v1`. No other type is serialised for clients.
//!
//! Field order is the order on the wire. Times (`*_ns`) are media time in nanoseconds, durations
//! (`*_ms`) are in milliseconds.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::clip::{Absence, SubjectId, SubjectPhase};
use crate::time::MediaTime;

#[doc = include_str!("event/protocol.md")]
pub mod protocol {}

mod answer;
mod refusal;
mod request;
mod strict;
mod subscription;
mod verbatim;
pub use answer::{Answer, BundleFacts, ClockPair, Hello};
pub use refusal::{ErrorCode, Refusal};
pub use request::{MAX_WORDS, Request, Subscribe, TranscriptRequest};
pub use subscription::Subscription;
pub use verbatim::Verbatim;

/// Every `type` that is published with a `seq` in `expressd.v1`, including those that this version
/// does not emit.
pub const PUBLISHED: [&str; 6] = [
    "subject",
    "expression",
    "episode",
    "speech",
    "marker",
    "status",
];

/// A published event without its `seq`, which the ring assigns.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    Subject(SubjectEvent),
    Expression(Box<ExpressionEvent>),
    Speech(SpeechEvent),
    Status(StatusEvent),
}

impl Event {
    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Subject(_) => "subject",
            Event::Expression(_) => "expression",
            Event::Speech(_) => "speech",
            Event::Status(_) => "status",
        }
    }

    /// Whether the event is part of the offline form (`src/event/protocol.md`, JSON Lines).
    pub fn is_offline(&self) -> bool {
        match self {
            Event::Subject(_) | Event::Expression(_) | Event::Speech(_) => true,
            Event::Status(_) => false,
        }
    }

    /// The frame as one line of JSON, with `seq` after `type`. The offline form omits the fields
    /// that depend on the machine and the time of day.
    pub fn to_json(&self, seq: u64, form: Form) -> String {
        #[derive(Serialize)]
        struct Tail<'a, T> {
            r#type: &'static str,
            seq: u64,
            #[serde(flatten)]
            event: &'a T,
        }
        fn line<T: Serialize>(kind: &'static str, seq: u64, event: &T) -> String {
            serde_json::to_string(&Tail {
                r#type: kind,
                seq,
                event,
            })
            .expect("events serialise")
        }
        match (self, form) {
            (Event::Subject(e), _) => line(self.kind(), seq, e),
            (Event::Speech(e), _) => line(self.kind(), seq, e),
            (Event::Status(e), _) => line(self.kind(), seq, e),
            (Event::Expression(e), Form::Live) => line(self.kind(), seq, e),
            (Event::Expression(e), Form::Offline) => {
                let mut e = e.clone();
                (e.latency_ms, e.deadline, e.degraded, e.provenance) = (None, None, None, None);
                (
                    e.modalities.face.age_ms,
                    e.modalities.voice.age_ms,
                    e.modalities.text.age_ms,
                ) = (None, None, None);
                line(self.kind(), seq, &e)
            }
        }
    }
}

/// The two forms of `src/event/protocol.md`: live (sockets), and offline (`replay --jsonl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Live,
    Offline,
}

/// A change of a track. `rect`: `x, y, w, h` as fractions of the picture, 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectEvent {
    pub subject: SubjectId,
    pub time_ns: MediaTime,
    pub phase: SubjectPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<SubjectId>,
    #[serde(rename = "box", serialize_with = "four_decimals")]
    pub rect: [f32; 4],
    #[serde(serialize_with = "decimals4")]
    pub quality: f32,
}

/// The recognition result of one clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpressionEvent {
    pub subject: SubjectId,
    pub start_ns: MediaTime,
    pub end_ns: MediaTime,
    pub scores: Scores,
    pub top: String,
    #[serde(serialize_with = "decimals4")]
    pub confidence: f32,
    pub abstain: bool,
    pub modalities: Modalities,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<&'static str>,
    /// Newest audio stamp used minus newest video stamp used; `None` unless both were used.
    #[serde(serialize_with = "option_decimals1")]
    pub skew_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Labels with their scores, in the manifest's order; a JSON object on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(pub Vec<(String, f32)>);

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(label, score)| (label, wire_decimals(*score))),
        )
    }
}

/// The use of each modality in one result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Modalities {
    pub face: FaceEvidence,
    pub voice: VoiceEvidence,
    pub text: TextEvidence,
}

/// Use of the face. `frames` and `missing` count slots of the face rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaceEvidence {
    pub used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    pub frames: u32,
    pub missing: u32,
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub quality: Option<f32>,
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Use of the voice. `speech`: share of the clip that is speech, 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VoiceEvidence {
    pub used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub speech: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_ms: Option<u32>,
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_confidence: Option<f32>,
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Use of the transcript.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextEvidence {
    pub used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Latency by stage, in milliseconds. `total` runs from the capture of the newest evidence to the
/// entry into the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// From the capture of the newest evidence to the output of the aligner.
    #[serde(serialize_with = "decimals1")]
    pub capture: f64,
    /// From the output of the aligner to the start of encoding.
    #[serde(serialize_with = "decimals1")]
    pub queue: f64,
    #[serde(serialize_with = "decimals1")]
    pub encode: f64,
    #[serde(serialize_with = "decimals1")]
    pub emit: f64,
    #[serde(serialize_with = "decimals1")]
    pub total: f64,
}

/// The latency budget of a result, and whether its total latency is within it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Deadline {
    pub budget_ms: u32,
    pub met: bool,
}

/// Origin of a result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// Fingerprint of all that determines the scores: `Manifest::score_fingerprint`.
    pub bundle: String,
    pub provider: &'static str,
    pub precision: &'static str,
    /// Hash of the effective configuration.
    pub config: String,
    pub calibration: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<SpokenWord>>,
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
    pub degraded: &'static str,
    pub paused: bool,
    pub counters: Map<String, Value>,
}

/// State of both sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sources {
    pub video: SourceStatus,
    pub audio: SourceStatus,
}

/// State of one source. `reason`: the cause of a loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceStatus {
    pub state: SourceState,
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

/// A score, confidence or quality rounded to the four decimals of the wire format.
pub fn wire_decimals(value: f32) -> f64 {
    round(f64::from(value), 1e4)
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
fn decimals4<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(wire_decimals(*value))
}
fn decimals1<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(round(*value, 1e1))
}
fn option_decimals4<S: Serializer>(value: &Option<f32>, s: S) -> Result<S::Ok, S::Error> {
    value.map(wire_decimals).serialize(s)
}
fn option_decimals1<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    value.map(|v| round(v, 1e1)).serialize(s)
}
fn four_decimals<S: Serializer>(values: &[f32; 4], s: S) -> Result<S::Ok, S::Error> {
    values.map(wire_decimals).serialize(s)
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
}
