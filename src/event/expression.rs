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
    /// Start of the clip.
    pub start_ns: MediaTime,
    /// End of the clip.
    pub end_ns: MediaTime,
    pub scores: Scores,
    /// The label with the highest score.
    pub top: String,
    /// The calibrated probability of `top`, 0..1.
    #[serde(serialize_with = "decimals4")]
    pub confidence: f32,
    /// Whether the evidence does not support a label.
    pub abstain: bool,
    pub modalities: Modalities,
    /// `None` in the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Latency>,
    /// `None` in the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// The degradation of the daemon when the result was made (`src/event/protocol.md`); `None` in
    /// the offline form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<&'static str>,
    /// Newest audio stamp used minus newest video stamp used; `None` unless both were used.
    #[serde(serialize_with = "option_decimals1")]
    pub skew_ms: Option<f64>,
    /// `None` in the offline form.
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

/// Use of the face. Slots are those of the face rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaceEvidence {
    /// Whether the face is part of the evidence.
    pub used: bool,
    /// The reason if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Number of slots with a usable face.
    pub frames: u32,
    /// Number of slots without one.
    pub missing: u32,
    /// Mean quality of the used faces, 0..1.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub quality: Option<f32>,
    /// Age of the newest used frame when the event was built.
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Use of the voice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VoiceEvidence {
    /// Whether the voice is part of the evidence.
    pub used: bool,
    /// The reason if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Share of the clip that is speech, 0..1.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub speech: Option<f32>,
    /// Length of the parts of the clip without sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_ms: Option<u32>,
    /// Probability that the voice is the subject's, 0..1.
    #[serde(
        serialize_with = "option_decimals4",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_confidence: Option<f32>,
    /// Age of the newest used sample when the event was built.
    #[serde(
        serialize_with = "option_decimals1",
        skip_serializing_if = "Option::is_none"
    )]
    pub age_ms: Option<f64>,
}

/// Use of the transcript.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextEvidence {
    /// Whether the text is part of the evidence.
    pub used: bool,
    /// The reason if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Absence>,
    /// Age of the newest used word when the event was built.
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
    /// From the start of encoding to the recognition result.
    #[serde(serialize_with = "decimals1")]
    pub encode: f64,
    /// From the recognition result to the entry into the ring.
    #[serde(serialize_with = "decimals1")]
    pub emit: f64,
    /// From the capture of the newest evidence to the entry into the ring.
    #[serde(serialize_with = "decimals1")]
    pub total: f64,
}

/// The latency budget of a result, and whether its total latency is within it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Deadline {
    pub budget_ms: u32,
    /// Whether the total latency is within the budget.
    pub met: bool,
}

/// Origin of a result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// Fingerprint of all that determines the scores: `Manifest::score_fingerprint`.
    pub bundle: String,
    /// The execution provider of the graphs.
    pub provider: &'static str,
    /// The precision of the graphs.
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
