//! Strict reading of a client's JSON object.
//!
//! Two steps: the grammar alone (text that fails is not JSON), then the values. JSON that is well formed can still hold what has no
//! value here: a lone surrogate, a number beyond `f64`, nesting over 127 levels, a key that occurs twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::{ErrorCode, Refusal};

/// A JSON value exactly as it was sent: order of keys, digits of numbers, white space.
#[derive(Clone, Debug)]
pub struct Verbatim(Box<RawValue>);

impl Verbatim {
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

/// The fields of a client frame.
pub(super) struct Fields<'a> {
    pub values: Map<String, Value>,
    sent: Sent<'a>,
}

impl Fields<'_> {
    /// The field as it was sent; `null` if it is absent.
    pub fn verbatim(&self, field: &str) -> Verbatim {
        self.sent
            .find(field)
            .map(|value| Verbatim(value.to_owned()))
            .unwrap_or_default()
    }
}

/// Reads a JSON object. Refused as `malformed`: text that is not JSON, JSON that is not an object. As `bad_value`: well-formed JSON
/// that holds what has no value.
pub(super) fn read(text: &str) -> Result<Fields<'_>, Refusal> {
    let malformed = |message: String| Refusal::new(ErrorCode::Malformed, message, None);
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|error| malformed(format!("not JSON: {error}")))?;
    if !whole.get().starts_with('{') {
        return Err(malformed("a frame must be a JSON object".into()));
    }
    let sent: Sent = serde_json::from_str(text).expect("a JSON object");
    match serde_json::from_str(text) {
        Ok(Strict(Value::Object(values))) => Ok(Fields { values, sent }),
        Ok(Strict(_)) => unreachable!("it begins with a brace"),
        Err(error) => {
            let kind: Option<String> = sent
                .find("type")
                .and_then(|kind| serde_json::from_str(kind.get()).ok());
            Err(Refusal::new(
                ErrorCode::BadValue,
                error.to_string(),
                kind.as_deref(),
            ))
        }
    }
}

/// Keys and values of an object as they were sent, in order.
struct Sent<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Sent<'a> {
    fn find(&self, field: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(key, _)| {
                serde_json::from_str::<String>(key.get()).is_ok_and(|key| key == field)
            })
            .map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Sent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Sent<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Sent(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A value whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Strict)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                let key: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format!("the key `{key}` occurs twice")));
            }
            let Strict(value) = map.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (ErrorCode, Option<String>) {
        match read(text) {
            Ok(_) => panic!("{text} was read"),
            Err(refusal) => (refusal.code, refusal.in_reply_to),
        }
    }

    fn nested(levels: usize) -> String {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"type":"ping","data":{open}{close}}}"#)
    }

    #[test]
    fn what_is_no_json_object_is_malformed() {
        for text in [
            "",
            " ",
            "{",
            "[]",
            "7",
            "null",
            "\"a\"",
            "{}{}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":+1}",
            "{\"a\":NaN}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\ud80\"}",
            "{\"a\":\"\u{1}\"}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":tru}",
            "\u{feff}{}",
        ] {
            assert_eq!(refused(text), (ErrorCode::Malformed, None), "{text}");
        }
        assert_eq!(refused(&"[".repeat(8000)).0, ErrorCode::Malformed);
        assert_eq!(
            refused(&format!("{{\"a\":{}", "[".repeat(8000))).0,
            ErrorCode::Malformed
        );
    }

    #[test]
    fn json_without_a_value_is_a_bad_value() {
        let deep = nested(127);
        for text in [
            r#"{"type":"ping","data":"\ud800"}"#,
            r#"{"type":"ping","data":"\udc00\ud800"}"#,
            r#"{"type":"ping","data":{"\ud800":1}}"#,
            r#"{"\udfff":1,"type":"ping"}"#,
            r#"{"type":"ping","data":1e400}"#,
            r#"{"type":"ping","data":[-1E999]}"#,
            r#"{"type":"ping","data":1,"data":2}"#,
            r#"{"type":"ping","data":1,"\u0064ata":2}"#,
            r#"{"type":"ping","data":[{"a":1,"b":2,"a":3}]}"#,
            r#"{"type":"ping","type":"subscribe"}"#,
            &deep,
        ] {
            assert_eq!(
                refused(text),
                (ErrorCode::BadValue, Some("ping".into())),
                "{text}"
            );
        }
        let without_type = (ErrorCode::BadValue, None);
        assert_eq!(refused(r#"{"type":1e400}"#), without_type);
        assert_eq!(refused(r#"{"type":"\ud800"}"#), without_type);
        assert!(read(&nested(126)).is_ok());
    }

    #[test]
    fn a_field_stays_as_it_was_sent() {
        for data in [
            "null",
            r#"{"z":1,"a":{"y":2,"b":[1, 2 ,3]}}"#,
            "123456789012345678901234567890",
            "18446744073709551616",
            "-0.10e+3",
            "1.000",
            r#""\u0041\/\ud83d\ude00""#,
        ] {
            let text = format!("\n{{\"type\" : \"ping\",\t\"data\": {data} }} ");
            let fields = read(&text).expect("JSON");
            assert_eq!(fields.verbatim("data").as_str(), data);
            assert_eq!(fields.verbatim("nothing").as_str(), "null");
            assert_eq!(fields.values["type"], "ping");
        }
    }
}
