//! A JSON value that is sent back to the client unchanged.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as received, `null` by default. The order of keys, the digits of numbers and white
/// space are kept.
#[derive(Clone, Debug)]
pub struct Verbatim(Box<RawValue>);

impl Verbatim {
    pub(super) fn from_raw(value: &RawValue) -> Self {
        Verbatim(value.to_owned())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Default for Verbatim {
    fn default() -> Self {
        Verbatim(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Verbatim {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Verbatim {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}
