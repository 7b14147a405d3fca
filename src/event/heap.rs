//! Estimated heap memory of JSON values.

use serde_json::{Map, Value};

/// Number of bytes of heap memory of the entries of `object`, without the allocator's overhead.
pub(super) fn object(object: &Map<String, Value>) -> usize {
    let entry = |(key, value): (&String, &Value)| {
        size_of::<(String, Value)>() + key.capacity() + value_bytes(value)
    };
    object.iter().map(entry).sum()
}

/// Number of bytes of heap memory that `value` owns, without the size of the `Value` itself.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(values) => {
            values.capacity() * size_of::<Value>() + values.iter().map(value_bytes).sum::<usize>()
        }
        Value::Object(entries) => object(entries),
    }
}
