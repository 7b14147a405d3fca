//! Parsing of the frames that clients send. Unknown fields and values are refused, so that a typo
//! is reported.

use std::fmt;

use serde_json::{Map, Value};

use super::PUBLISHED;
use super::refusal::{ErrorCode, Refusal};
use super::strict;
use super::subscription::Subscription;
use super::verbatim::Verbatim;
use crate::clip::SubjectId;
use crate::time::Span;

mod transcript;
use transcript::transcript;

/// Largest number of words in one `transcript` request, enough for minutes of speech. It bounds the
/// `speech` event, which has an object for each word and goes to all clients.
pub const MAX_WORDS: usize = 512;

/// A valid frame from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Replaces the client's filter.
    Subscribe(Subscribe),
    /// Submits words of the client's own speech recogniser.
    Transcript(TranscriptRequest),
    /// Asks for a `pong` with the same `data`.
    Ping { data: Verbatim },
}

/// A transcript from a client's own speech recogniser. `Debug` hides the words.
#[derive(Clone, PartialEq)]
pub struct TranscriptRequest {
    /// The words, at least one and at most [`MAX_WORDS`].
    pub text: String,
    /// Media time in which the words were said.
    pub span: Span,
    /// Whether no later transcript replaces this one.
    pub is_final: bool,
    /// The subject that said the words; `None` if the client does not know it.
    pub subject: Option<SubjectId>,
}

impl fmt::Debug for TranscriptRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TranscriptRequest({:?}, final: {}, {:?})",
            self.span, self.is_final, self.subject
        )
    }
}

/// The request `subscribe`: replaces the client's filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscribe {
    /// The new filter.
    pub subscription: Subscription,
    /// The `seq` of the last event that the client has: later events that are still in the ring
    /// are sent again. `None`: only new events are sent.
    pub resume_after: Option<u64>,
}

impl Request {
    /// Parses one text frame of a client. `labels` are the bundle's labels, which a subscription
    /// may name.
    ///
    /// # Errors
    /// A [`Refusal`] with the code and message for the client, if the frame is not a valid request.
    pub fn parse(text: &str, labels: &[String]) -> Result<Request, Refusal> {
        let frame = strict::read(text)?;
        let data = frame.verbatim("data");
        let mut fields = frame.values;
        let kind = match fields.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => {
                return Err(Refusal::new(
                    ErrorCode::UnknownType,
                    "`type` must be a string",
                    None,
                ));
            }
            None => {
                return Err(Refusal::new(
                    ErrorCode::UnknownType,
                    "the frame has no `type`",
                    None,
                ));
            }
        };
        match kind.as_str() {
            "subscribe" => subscribe(fields, labels).map(Request::Subscribe),
            "ping" => {
                fields.remove("data");
                refuse_unknown(&kind, &fields, "data")?;
                Ok(Request::Ping { data })
            }
            "pause" | "resume" | "calibrate" => Err(Refusal::new(
                ErrorCode::NotAllowed,
                "needs the control token, and this daemon has none configured",
                Some(&kind),
            )),
            "transcript" => transcript(fields).map(Request::Transcript),
            "mark" => Err(Refusal::new(
                ErrorCode::UnknownType,
                format!("this version of the daemon does not take `{kind}` yet"),
                Some(&kind),
            )),
            _ => Err(Refusal::new(
                ErrorCode::UnknownType,
                "known types: subscribe, transcript, ping",
                Some(&kind),
            )),
        }
    }
}

/// Refuses a request with remaining fields. `rest` are the fields that were not read; `known`
/// lists the permitted ones for the message.
fn refuse_unknown(kind: &str, rest: &Map<String, Value>, known: &str) -> Result<(), Refusal> {
    match rest.keys().next() {
        None => Ok(()),
        Some(field) => Err(Refusal::new(
            ErrorCode::UnknownField,
            format!(
                "`{kind}` has no field `{}`; it has: {known}",
                excerpt(field)
            ),
            Some(kind),
        )),
    }
}

/// The first 64 characters of `text`, so that an error message stays short.
fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Parses the fields of a `subscribe` request (without `type`).
fn subscribe(mut fields: Map<String, Value>, labels: &[String]) -> Result<Subscribe, Refusal> {
    let bad = |message: String| Refusal::new(ErrorCode::BadValue, message, Some("subscribe"));
    let events = list(
        &mut fields,
        "events",
        |name| PUBLISHED.into_iter().find(|p| *p == name),
        &PUBLISHED.join(", "),
    )?;
    let subjects = list(
        &mut fields,
        "subjects",
        subject,
        "ids like \"s3\", and \"voice\"",
    )?;
    let labels = list(
        &mut fields,
        "labels",
        |name| labels.iter().find(|l| *l == name).cloned(),
        &labels.join(", "),
    )?;
    let min_confidence = match number(&mut fields, "min_confidence")? {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            return Err(bad(format!(
                "`min_confidence` must be within 0..1, not {value}"
            )));
        }
        other => other,
    };
    let max_rate_hz = match number(&mut fields, "max_rate_hz")? {
        Some(value) if value <= 0.0 => {
            return Err(bad(format!("`max_rate_hz` must be above 0, not {value}")));
        }
        other => other,
    };
    let resume_after =
        match fields.remove("resume_after") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_u64().ok_or_else(|| {
                bad("`resume_after` must be a seq: a whole number from 0".into())
            })?),
        };
    refuse_unknown(
        "subscribe",
        &fields,
        "events, subjects, labels, min_confidence, max_rate_hz, resume_after",
    )?;
    Ok(Subscribe {
        subscription: Subscription {
            events,
            subjects,
            labels,
            min_confidence,
            max_rate_hz,
        },
        resume_after,
    })
}

/// Removes the list of strings `field` and converts each string with `find`; `None` if the field is
/// absent or `null`. A string without a value is refused; the message lists the `known` ones.
fn list<T>(
    fields: &mut Map<String, Value>,
    field: &str,
    find: impl Fn(&str) -> Option<T>,
    known: &str,
) -> Result<Option<Vec<T>>, Refusal> {
    let bad = |message: String| Refusal::new(ErrorCode::BadValue, message, Some("subscribe"));
    let items = match fields.remove(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(bad(format!("`{field}` must be a list of strings"))),
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let name = item
            .as_str()
            .ok_or_else(|| bad(format!("`{field}` must be a list of strings")))?;
        found.push(find(name).ok_or_else(|| {
            bad(format!(
                "`{field}` cannot be \"{}\"; known: {known}",
                excerpt(name)
            ))
        })?);
    }
    Ok(Some(found))
}

/// Removes the number `field`; `None` if it is absent or `null`.
fn number(fields: &mut Map<String, Value>, field: &str) -> Result<Option<f64>, Refusal> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::new(
                ErrorCode::BadValue,
                format!("`{field}` must be a number"),
                Some("subscribe"),
            )),
        },
    }
}

/// Parses `voice`, or `s` and a number; `None` if `name` is no subject id.
fn subject(name: &str) -> Option<SubjectId> {
    if name == "voice" {
        return Some(SubjectId::Voice);
    }
    let number = name.strip_prefix('s')?;
    // Only the form that `Display` writes: "s03" is refused.
    let id = SubjectId::Face(number.parse().ok()?);
    (id.to_string() == name).then_some(id)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub fn parse(frame: Value) -> Result<Request, Refusal> {
        Request::parse(&frame.to_string(), &["happy".into(), "sad".into()])
    }
    pub fn code(frame: Value) -> (ErrorCode, Option<String>) {
        let refusal = parse(frame).unwrap_err();
        (refusal.code, refusal.in_reply_to)
    }

    #[test]
    fn a_parsed_subscription_serialises_to_the_same_filter() {
        let filter = json!({
            "events": ["expression"], "subjects": ["s3", "voice"], "labels": [],
            "min_confidence": 0.5, "max_rate_hz": 2
        });
        let mut frame = filter.clone();
        frame["type"] = "subscribe".into();
        frame["resume_after"] = 7.into();
        let Ok(Request::Subscribe(subscribe)) = parse(frame) else {
            panic!("refused")
        };
        assert_eq!(subscribe.resume_after, Some(7));
        assert_eq!(
            serde_json::to_value(&subscribe.subscription).unwrap(),
            filter
        );
        // The subscription in `subscribed` is a valid request.
        let mut back = serde_json::to_value(Subscription::default()).unwrap();
        back["type"] = "subscribe".into();
        assert_eq!(parse(back), Ok(Request::Subscribe(Subscribe::default())));
    }

    #[test]
    fn each_invalid_frame_is_refused_with_its_error_code() {
        use ErrorCode::*;
        let to = |kind: &str| Some(kind.to_owned());
        for text in ["", "{", "[1]", "7", "\"subscribe\"", "null"] {
            assert_eq!(
                Request::parse(text, &[]).unwrap_err().code,
                Malformed,
                "{text}"
            );
        }
        assert_eq!(code(json!({})), (UnknownType, None));
        assert_eq!(code(json!({"type": 3})), (UnknownType, None));
        assert_eq!(
            code(json!({"type": "subscibe"})),
            (UnknownType, to("subscibe"))
        );
        assert_eq!(
            code(json!({"type": "mark", "label": "x"})),
            (UnknownType, to("mark"))
        );
        assert_eq!(
            code(json!({"type": "pause", "what": "capture"})),
            (NotAllowed, to("pause"))
        );
        assert_eq!(
            code(json!({"type": "ping", "date": 1})),
            (UnknownField, to("ping"))
        );
        assert_eq!(
            code(json!({"type": "subscribe", "event": ["status"]})),
            (UnknownField, to("subscribe"))
        );
        for (field, value) in [
            ("events", json!(["expresion"])),
            ("events", json!("expression")),
            ("events", json!([1])),
            ("subjects", json!(["s03"])),
            ("subjects", json!(["bob"])),
            ("labels", json!(["joy"])),
            ("min_confidence", json!(1.5)),
            ("min_confidence", json!("0.5")),
            ("max_rate_hz", json!(0)),
            ("max_rate_hz", json!(-1)),
            ("resume_after", json!(-1)),
            ("resume_after", json!(1.5)),
        ] {
            assert_eq!(
                code(json!({"type": "subscribe", field: value})),
                (BadValue, to("subscribe")),
                "{field}: {value}"
            );
        }
    }
}
