//! The event `expression` and the types of its fields.

use serde::{Serialize, Serializer};

use super::Payload;
use super::decimals::{decimals1, decimals4, option_decimals1, option_decimals4, wire_decimals};
use crate::clip::{Absence, SubjectId};
use crate::time::MediaTime;

/// The event `expression`: the recognition of one clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpressionEvent {
    pub subject: SubjectId,
    /// Start of the time that the clip covers.
    pub start_ns: MediaTime,
    /// End of the time that the clip covers.
    pub end_ns: MediaTime,
    pub scores: Scores,
    /// The label with the highest score.
    pub top: String,
    /// Calibrated probability that the label `top` is correct, 0..1.
    #[serde(serialize_with = "decimals4")]
    pub confidence: f32,
    /// Whether the confidence is below the bundle's threshold, so that `top` should not be relied
    /// on.
    pub abstain: bool,
    /// The answers of the bundle's further heads; absent if there is none.
    #[serde(skip_serializing_if = "Also::is_empty")]
    pub also: Also,
    pub modalities: Modalities,
    /// Latency of each stage; `None` in the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Latency>,
    /// The latency budget and whether it was met; `None` in the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// How far the daemon had reduced its work under load, `"none"` in this version; `None` in the
    /// offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<&'static str>,
    /// Capture time of the newest audio in the clip minus that of the newest video, in
    /// milliseconds; `None` unless the clip has face and voice.
    #[serde(serialize_with = "option_decimals1")]
    pub skew_ms: Option<f64>,
    /// Bundle and settings that produced the scores; `None` in the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

impl ExpressionEvent {
    /// A copy of the event without the fields that depend on the machine and the time of day.
    pub(super) fn offline(&self) -> ExpressionEvent {
        let mut event = self.clone();
        (event.latency_ms, event.deadline) = (None, None);
        (event.degraded, event.provenance) = (None, None);
        let modalities = &mut event.modalities;
        (modalities.face.age_ms, modalities.voice.age_ms) = (None, None);
        modalities.text.age_ms = None;
        event
    }
}

/// Implemented for the boxed event, because `Event` boxes it: it is much larger than other events.
impl Payload for Box<ExpressionEvent> {
    fn is_offline(&self) -> bool {
        true
    }

    fn time(&self) -> Option<MediaTime> {
        Some(self.end_ns)
    }

    fn subject(&self) -> Option<SubjectId> {
        Some(self.subject)
    }

    fn heap_bytes(&self) -> usize {
        size_of::<ExpressionEvent>()
            + self.scores.heap_bytes()
            + self.top.capacity()
            + self.also.heap_bytes()
            + self.provenance.as_ref().map_or(0, Provenance::heap_bytes)
    }
}

/// Pairs of a label and its score (0..1), in the order of the manifest's labels; serialised as one
/// JSON object with the labels as keys.
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

impl Scores {
    fn heap_bytes(&self) -> usize {
        let labels = self.0.iter().map(|(label, _)| label.capacity());
        self.0.capacity() * size_of::<(String, f32)>() + labels.sum::<usize>()
    }
}

/// The answers of further heads as pairs of the head's name and its answer, in the order of the
/// manifest; serialised as one JSON object with the names as keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Also(pub Vec<(String, HeadAnswer)>);

impl Also {
    /// Whether no further head gave an answer.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn heap_bytes(&self) -> usize {
        let answers = self.0.iter();
        let owned = answers.map(|(name, answer)| name.capacity() + answer.heap_bytes());
        self.0.capacity() * size_of::<(String, HeadAnswer)>() + owned.sum::<usize>()
    }
}

impl Serialize for Also {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, answer)| (name, answer)))
    }
}

/// The answer of a further head.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum HeadAnswer {
    /// Of a head with labels.
    Labels { scores: Scores },
    /// Of a head with numbers.
    Numbers {
        /// Pairs of a number's name and its value, within the range that the manifest states.
        values: Scores,
        /// Whether the numbers are computed from labels instead of learned from ratings of their
        /// own; absent if not.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        derived: bool,
    },
}

impl HeadAnswer {
    fn heap_bytes(&self) -> usize {
        match self {
            HeadAnswer::Labels { scores: pairs } | HeadAnswer::Numbers { values: pairs, .. } => {
                pairs.heap_bytes()
            }
        }
    }
}

/// For each modality, whether it contributed to the scores of an event, and which data it had.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Modalities {
    pub face: FaceEvidence,
    pub voice: VoiceEvidence,
    pub text: TextEvidence,
}

/// The face modality of an event. The clip is divided into slots, one for each period of the
/// manifest's face rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaceEvidence {
    /// Whether the face contributed to the scores.
    pub used: bool,
    /// Why the face did not contribute; `None` if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Number of slots with a usable face.
    pub frames: u32,
    /// Number of slots without a usable face.
    pub missing: u32,
    /// Mean quality of the clip's faces, 0..1; `None` if it has none.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub quality: Option<f32>,
    /// Age of the clip's newest face when the event was built, in milliseconds; `None` if the clip
    /// has no face, and in the offline form.
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// The voice modality of an event. Optional values are `None` if the clip has no voice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VoiceEvidence {
    /// Whether the voice contributed to the scores.
    pub used: bool,
    /// Why the voice did not contribute; `None` if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Share of the clip's time that is speech, 0..1; `None` if the clip has no voice.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub speech: Option<f32>,
    /// Duration within the clip for which no sound was captured, in milliseconds; `None` if the
    /// clip has no voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_ms: Option<u32>,
    /// Probability that the voice is the subject's, 0..1; `None` if the clip has no voice.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_confidence: Option<f32>,
    /// Age of the clip's newest sample when the event was built, in milliseconds; `None` if the
    /// clip has no voice, and in the offline form.
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// The text modality of an event, that is, the words that the subject said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextEvidence {
    /// Whether the words contributed to the scores.
    pub used: bool,
    /// Why the words did not contribute; `None` if they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Age of the clip's newest word when the event was built, in milliseconds; `None` if the clip
    /// has no word, and in the offline form.
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Latency of each stage, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// From the capture of the newest evidence to the output of the aligner.
    #[serde(serialize_with = "decimals1")]
    pub capture: f64,
    /// From the output of the aligner to the start of encoding.
    #[serde(serialize_with = "decimals1")]
    pub queue: f64,
    /// From the start of encoding to the recognition result.
    #[serde(serialize_with = "decimals1")]
    pub encode: f64,
    /// From the recognition result to the construction of the event.
    #[serde(serialize_with = "decimals1")]
    pub emit: f64,
    /// From the capture of the newest evidence to the construction of the event: the sum of the
    /// four stages.
    #[serde(serialize_with = "decimals1")]
    pub total: f64,
}

/// The latency budget of an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Deadline {
    /// The longest permitted total latency, in milliseconds, from the configuration.
    pub budget_ms: u32,
    /// Whether the event's total latency is at most `budget_ms`.
    pub met: bool,
}

/// The bundle and the settings that produced an event's scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// SHA-256 of everything in the bundle that determines scores, in hexadecimal
    /// (`Manifest::score_fingerprint`).
    pub bundle: String,
    /// ONNX Runtime's execution provider, for example `"cpu"`.
    pub provider: &'static str,
    /// Number format of the networks, for example `"int8"`.
    pub precision: &'static str,
    /// Hash of the effective configuration.
    pub config: String,
    /// Reserved for a calibration to one person; `None` in this version.
    pub calibration: Option<String>,
}

impl Provenance {
    fn heap_bytes(&self) -> usize {
        self.bundle.capacity()
            + self.config.capacity()
            + self.calibration.as_ref().map_or(0, String::capacity)
    }
}
