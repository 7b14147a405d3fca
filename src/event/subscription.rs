//! The filter of one client.

use serde::{Serialize, Serializer};

use crate::clip::SubjectId;

/// A client's event filter. `None` (`null` or absent on the wire) passes all events; an empty list
/// passes none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subscription {
    pub events: Option<Vec<&'static str>>,
    /// Applies to events of a subject; other events pass.
    pub subjects: Option<Vec<SubjectId>>,
    /// Applies to the top label of `expression`; other events pass.
    pub labels: Option<Vec<String>>,
    /// Applies to the confidence of `expression`, 0..1; other events pass.
    pub min_confidence: Option<f64>,
    /// Highest rate of `expression` events per subject, in Hz, by their `end_ns`. Earlier events
    /// are skipped.
    #[serde(serialize_with = "integer_if_whole")]
    pub max_rate_hz: Option<f64>,
}

fn integer_if_whole<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(v) if v.fract() == 0.0 && *v < 1e9 => s.serialize_u64(*v as u64),
        other => other.serialize(s),
    }
}
