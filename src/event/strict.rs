//! Strict parsing of a client's JSON object.
//!
//! The first step checks the grammar of JSON, and an error of it is `malformed`. The second step
//! parses the values. Well-formed JSON can still hold what cannot be represented: a lone surrogate,
//! a number beyond `f64`, nesting over 127 levels, a duplicate key. The error is `bad_value`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::refusal::{ErrorCode, Refusal};
use super::verbatim::Verbatim;

/// The fields of a client frame, parsed and as received.
pub(super) struct Fields<'a> {
    /// The parsed values by key.
    pub values: Map<String, Value>,
    raw: RawFields<'a>,
}

impl Fields<'_> {
    /// The JSON text of a field as received; `null` if the field is absent.
    pub fn verbatim(&self, field: &str) -> Verbatim {
        self.raw
            .find(field)
            .map(Verbatim::from_raw)
            .unwrap_or_default()
    }
}

/// Parses `text` as one JSON object.
///
/// # Errors
/// `malformed`: the text is not JSON, or not an object. `bad_value`: the JSON is well formed, but
/// one of its values cannot be represented.
pub(super) fn read(text: &str) -> Result<Fields<'_>, Refusal> {
    let malformed = |message: String| Refusal::new(ErrorCode::Malformed, message, None);
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|error| malformed(format!("not JSON: {error}")))?;
    if !whole.get().starts_with('{') {
        return Err(malformed("a frame must be a JSON object".into()));
    }
    let raw: RawFields = serde_json::from_str(text).expect("a JSON object");
    match serde_json::from_str(text) {
        Ok(Strict(Value::Object(values))) => Ok(Fields { values, raw }),
        Ok(Strict(_)) => unreachable!("it begins with a brace"),
        Err(error) => {
            let kind: Option<String> = raw
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

/// Pairs of key and value of a JSON object as received, in order.
struct RawFields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> RawFields<'a> {
    /// The value of the first key equal to `field`, after the key's escapes are decoded.
    fn find(&self, field: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(key, _)| {
                serde_json::from_str::<String>(key.get()).is_ok_and(|key| key == field)
            })
            .map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for RawFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = RawFields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawFields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A JSON value whose deserialisation fails on a duplicate key; `serde_json` keeps the last value.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Strict)
    }
}

/// Builds the value for [`Strict`].
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

    fn error_of(text: &str) -> (ErrorCode, Option<String>) {
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
    fn text_other_than_a_json_object_is_malformed() {
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
            assert_eq!(error_of(text), (ErrorCode::Malformed, None), "{text}");
        }
        assert_eq!(error_of(&"[".repeat(8000)).0, ErrorCode::Malformed);
        assert_eq!(
            error_of(&format!("{{\"a\":{}", "[".repeat(8000))).0,
            ErrorCode::Malformed
        );
    }

    #[test]
    fn unrepresentable_json_is_a_bad_value() {
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
                error_of(text),
                (ErrorCode::BadValue, Some("ping".into())),
                "{text}"
            );
        }
        let without_type = (ErrorCode::BadValue, None);
        assert_eq!(error_of(r#"{"type":1e400}"#), without_type);
        assert_eq!(error_of(r#"{"type":"\ud800"}"#), without_type);
        assert!(read(&nested(126)).is_ok());
    }

    #[test]
    fn the_json_text_of_a_field_is_kept_unchanged() {
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
