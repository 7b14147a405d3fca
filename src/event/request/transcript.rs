//! Parsing of `transcript` requests, with their limits.

use serde_json::{Map, Value};

use super::{MAX_WORDS, TranscriptRequest, refuse_unknown, subject};
use crate::event::{ErrorCode, Refusal};
use crate::time::{MediaTime, Span};

/// Largest number of tokens of one transcript, as estimated by [`tokens`].
const MAX_TOKENS: usize = 2048;
/// Longest time span of one transcript, in nanoseconds: 60 s. Within the span of a final
/// transcript, no other transcript of the same subject is accepted.
const MAX_NANOS: i64 = 60_000_000_000;

/// Parses the fields of a `transcript` request (without `type`) and checks their bounds.
///
/// # Errors
/// `bad_value` or `unknown_field`. The message names the field and does not quote the words.
pub(super) fn transcript(mut fields: Map<String, Value>) -> Result<TranscriptRequest, Refusal> {
    const KIND: &str = "transcript";
    let bad = |message: String| Refusal::new(ErrorCode::BadValue, message, Some(KIND));
    // Error messages never quote the words.
    let text = match fields.remove("text") {
        Some(Value::String(text)) if text.chars().any(char::is_alphanumeric) => text,
        _ => return Err(bad("`text` must be a string with a word in it".into())),
    };
    if text.split_whitespace().nth(MAX_WORDS).is_some() {
        return Err(bad(format!(
            "`text` may have {MAX_WORDS} words: send them in several transcripts"
        )));
    }
    if tokens(&text) > MAX_TOKENS {
        return Err(bad(format!(
            "`text` may have {MAX_TOKENS} tokens (8 letters, or a mark): \
             send them in several transcripts"
        )));
    }
    let mut time = |field: &str| match fields.remove(field).as_ref().and_then(Value::as_i64) {
        Some(nanos) if nanos >= 0 => Ok(MediaTime::from_nanos(nanos)),
        _ => Err(bad(format!(
            "`{field}` must be media time: a whole number of nanoseconds from 0"
        ))),
    };
    let (start, end) = (time("start_ns")?, time("end_ns")?);
    if start >= end {
        return Err(bad("`start_ns` must be before `end_ns`".into()));
    }
    if end.nanos_since(start) > MAX_NANOS {
        return Err(bad(format!(
            "`start_ns` to `end_ns` may be {} s: send it in several transcripts",
            MAX_NANOS / 1_000_000_000
        )));
    }
    let Some(Value::Bool(is_final)) = fields.remove("final") else {
        return Err(bad("`final` must be true or false".into()));
    };
    let subject = match fields.remove("subject") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_str().and_then(subject).ok_or_else(|| {
            bad("`subject` must be an id like \"s3\", or \"voice\"; \
                 leave it out if you do not know"
                .into())
        })?),
    };
    refuse_unknown(KIND, &fields, "text, start_ns, end_ns, final, subject")?;
    Ok(TranscriptRequest {
        text,
        span: Span::new(start, end),
        is_final,
        subject,
    })
}

/// Estimated number of tokens of a text encoder, independent of the bundle's tokenizer. It counts
/// one for each run of up to 8 ASCII letters and digits, and for any other visible character.
fn tokens(text: &str) -> usize {
    let (mut tokens, mut run) = (0, 0);
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            tokens += usize::from(run % 8 == 0);
            run += 1;
        } else {
            tokens += usize::from(!c.is_whitespace());
            run = 0;
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{code, parse};
    use super::*;
    use crate::clip::SubjectId;
    use crate::event::Request;

    fn frame_with(field: &str, value: Value) -> Value {
        let mut frame = json!({
            "type": "transcript", "text": "Good day", "start_ns": 1, "end_ns": 2, "final": true
        });
        frame[field] = value;
        frame
    }

    #[test]
    fn a_valid_transcript_request_is_parsed() {
        let expected = TranscriptRequest {
            text: "Good day".into(),
            span: Span::new(MediaTime::from_nanos(1), MediaTime::from_nanos(2)),
            is_final: true,
            subject: None,
        };
        assert_eq!(
            parse(frame_with("subject", Value::Null)),
            Ok(Request::Transcript(expected.clone()))
        );
        let named = TranscriptRequest {
            subject: Some(SubjectId::Face(3)),
            is_final: false,
            ..expected.clone()
        };
        let mut frame = frame_with("subject", json!("s3"));
        frame["final"] = false.into();
        assert_eq!(parse(frame), Ok(Request::Transcript(named)));
        assert!(
            !format!("{expected:?}").contains("day"),
            "`Debug` hides the words"
        );
    }

    #[test]
    fn a_refused_transcript_gets_an_error_with_the_field_but_not_the_words() {
        for (field, value) in [
            ("text", json!("")),
            ("text", json!(" .,! ")),
            ("text", json!("confidential ".repeat(MAX_WORDS + 1))),
            ("text", json!(format!("confidential{}", "!".repeat(15_800)))),
            ("text", json!("静".repeat(2049))),
            ("end_ns", json!(60_000_000_002_i64)),
            ("text", json!(["confidential"])),
            ("text", Value::Null),
            ("start_ns", json!(-1)),
            ("start_ns", json!(0.5)),
            ("start_ns", json!("confidential")),
            ("start_ns", json!(2)),
            ("end_ns", json!(0)),
            ("end_ns", json!(1e30)),
            ("end_ns", Value::Null),
            ("final", json!("yes")),
            ("final", Value::Null),
            ("subject", json!("confidential")),
            ("subject", json!(3)),
            ("subject", json!("s03")),
        ] {
            let refusal = parse(frame_with(field, value.clone())).unwrap_err();
            assert_eq!(
                (refusal.code, refusal.in_reply_to.as_deref()),
                (ErrorCode::BadValue, Some("transcript")),
                "{field}: {value}"
            );
            assert!(
                refusal.message.contains(field) && !refusal.message.contains("confidential"),
                "{}",
                refusal.message
            );
        }
        assert_eq!(
            code(frame_with("speaker", json!("s1"))),
            (ErrorCode::UnknownField, Some("transcript".into()))
        );
        let longest = "wordpiece wordpieces's ".repeat(MAX_WORDS / 2);
        for (field, value) in [
            ("text", json!("a ".repeat(MAX_WORDS))),
            ("text", json!(longest)),
            ("text", json!("静".repeat(2048))),
            ("end_ns", json!(60_000_000_001_i64)),
        ] {
            assert!(parse(frame_with(field, value)).is_ok(), "{field}");
        }
    }
}
