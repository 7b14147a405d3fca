//! The `expression` event and its parts.

use serde::{Serialize, Serializer};

use super::Payload;
use super::decimals::{decimals1, decimals4, option_decimals1, option_decimals4, wire_decimals};
use crate::clip::{Absence, SubjectId};
use crate::time::MediaTime;

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

impl ExpressionEvent {
    /// Without the fields that depend on the machine and the time of day.
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

/// The event is boxed, because it is much larger than the others.
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
        let Scores(scores) = &self.scores;
        let labels: usize = scores.iter().map(|(label, _)| label.capacity()).sum();
        size_of::<ExpressionEvent>()
            + scores.capacity() * size_of::<(String, f32)>()
            + labels
            + self.top.capacity()
            + self.provenance.as_ref().map_or(0, Provenance::heap_bytes)
    }
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

impl Provenance {
    fn heap_bytes(&self) -> usize {
        self.bundle.capacity()
            + self.config.capacity()
            + self.calibration.as_ref().map_or(0, String::capacity)
    }
}
