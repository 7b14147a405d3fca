//! Numbers of the wire format, rounded.

use serde::{Serialize, Serializer};

/// A score, confidence or quality rounded to the four decimals of the wire format.
pub fn wire_decimals(value: f32) -> f64 {
    round(f64::from(value), 1e4)
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

pub(super) fn decimals4<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(wire_decimals(*value))
}

pub(super) fn decimals1<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(round(*value, 1e1))
}

pub(super) fn option_decimals4<S: Serializer>(
    value: &Option<f32>,
    s: S,
) -> Result<S::Ok, S::Error> {
    value.map(wire_decimals).serialize(s)
}

pub(super) fn option_decimals1<S: Serializer>(
    value: &Option<f64>,
    s: S,
) -> Result<S::Ok, S::Error> {
    value.map(|v| round(v, 1e1)).serialize(s)
}

pub(super) fn four_decimals<S: Serializer>(values: &[f32; 4], s: S) -> Result<S::Ok, S::Error> {
    values.map(wire_decimals).serialize(s)
}
