//! Rounding of the numbers in the JSON frames.

use serde::{Serialize, Serializer};

/// `value`, a score, confidence or quality, rounded to four decimals as in the JSON frames.
pub fn wire_decimals(value: f32) -> f64 {
    round(f64::from(value), 1e4)
}

/// Rounds `value` to a multiple of `1 / steps`.
fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

/// Serialises `value` rounded to four decimals.
pub(super) fn decimals4<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(wire_decimals(*value))
}

/// Serialises `value` rounded to one decimal.
pub(super) fn decimals1<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(round(*value, 1e1))
}

/// Serialises `value` rounded to four decimals, and `None` as `null`.
pub(super) fn option_decimals4<S: Serializer>(
    value: &Option<f32>,
    s: S,
) -> Result<S::Ok, S::Error> {
    value.map(wire_decimals).serialize(s)
}

/// Serialises `value` rounded to one decimal, and `None` as `null`.
pub(super) fn option_decimals1<S: Serializer>(
    value: &Option<f64>,
    s: S,
) -> Result<S::Ok, S::Error> {
    value.map(|v| round(v, 1e1)).serialize(s)
}

/// Serialises an array of four numbers, each rounded to four decimals.
pub(super) fn four_decimals<S: Serializer>(values: &[f32; 4], s: S) -> Result<S::Ok, S::Error> {
    values.map(wire_decimals).serialize(s)
}
