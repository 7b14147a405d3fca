//! The filter that selects the events for one client.

use serde::{Serialize, Serializer};

use crate::clip::SubjectId;

/// A client's event filter: an event is sent if it passes every field. A field that is `None`
/// (`null` or absent in JSON) passes all events; an empty list passes none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subscription {
    /// The event types that pass.
    pub events: Option<Vec<&'static str>>,
    /// The subjects whose events pass. Events without a subject pass.
    pub subjects: Option<Vec<SubjectId>>,
    /// The top labels with which an `expression` event passes. Events of other types pass.
    pub labels: Option<Vec<String>>,
    /// The lowest confidence with which an `expression` event passes, 0..1. Events of other types
    /// pass.
    pub min_confidence: Option<f64>,
    /// The highest rate of `expression` events for each subject, in Hz of media time. An event
    /// that follows the subject's previous one too soon, by its `end_ns`, is skipped.
    #[serde(serialize_with = "integer_if_whole")]
    pub max_rate_hz: Option<f64>,
}

/// Serialises a whole number without decimals, so that the client reads `2` and not `2.0`.
fn integer_if_whole<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(v) if v.fract() == 0.0 && *v < 1e9 => s.serialize_u64(*v as u64),
        other => other.serialize(s),
    }
}
