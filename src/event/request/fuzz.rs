//! Fuzz test of the parser of client frames.

use serde_json::{Value, json};

use super::*;
use crate::event::Answer;
use crate::testing::fuzz::Target;

const LABELS: [&str; 3] = ["neutral", "happy", "sad"];

fn labels() -> Vec<String> {
    LABELS.map(str::to_owned).into()
}

/// Client frames to mutate: every type, with all of its fields.
fn seeds() -> [Value; 5] {
    [
        json!({
            "type": "subscribe", "events": ["expression", "speech"], "subjects": ["s3", "voice"],
            "labels": ["happy"], "min_confidence": 0.5, "max_rate_hz": 2, "resume_after": 7
        }),
        json!({"type": "subscribe", "labels": [], "min_confidence": null}),
        json!({
            "type": "transcript", "text": "Good day, everybody", "start_ns": 1_000_000_000,
            "end_ns": 2_000_000_000_i64, "final": true, "subject": "s3"
        }),
        json!({"type": "ping", "data": {"a": [1, 2.5, null, "é\n"], "b": {"c": -1e10}}}),
        json!({"type": "calibrate", "subject": "s1"}),
    ]
}

/// Whether both numbers are absent, or equal but for the rounding of one conversion to JSON.
fn is_near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= a.abs() * 1e-12,
        (a, b) => a == b,
    }
}

/// Writes a parsed subscription as a frame, and parses that frame.
fn parsed_again(subscribe: &Subscribe) -> Subscribe {
    let mut frame = serde_json::to_value(&subscribe.subscription).expect("JSON");
    frame["type"] = "subscribe".into();
    frame["resume_after"] = subscribe.resume_after.into();
    match Request::parse(&frame.to_string(), &labels()) {
        Ok(Request::Subscribe(subscribe)) => subscribe,
        other => panic!("{frame}: {other:?}"),
    }
}

/// Parses `input` as a frame. A refusal must give a short `error` frame. An accepted request,
/// written as a frame and parsed again, must give the same request.
fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Request::parse(&text, &labels()) {
        Err(refusal) => {
            assert!(!refusal.message.is_empty());
            assert!(
                refusal.message.len() <= 1024 + 2 * text.len(),
                "{}",
                refusal.message
            );
            let answer: Value = serde_json::from_str(&refusal.answer().to_json()).expect("JSON");
            assert_eq!(answer["type"], "error");
        }
        Ok(Request::Subscribe(subscribe)) => {
            let mut again = parsed_again(&subscribe);
            let (before, after) = (&subscribe.subscription, &mut again.subscription);
            assert!(is_near(before.min_confidence, after.min_confidence));
            assert!(is_near(before.max_rate_hz, after.max_rate_hz));
            after.min_confidence = before.min_confidence;
            after.max_rate_hz = before.max_rate_hz;
            assert_eq!(again, subscribe);
        }
        Ok(Request::Transcript(transcript)) => {
            let words = transcript.text.split_whitespace().count();
            assert!((1..=MAX_WORDS).contains(&words));
            assert!(transcript.span.nanos() > 0 && transcript.span.start.nanos() >= 0);
            let frame = json!({
                "type": "transcript", "text": transcript.text,
                "start_ns": transcript.span.start, "end_ns": transcript.span.end,
                "final": transcript.is_final,
                "subject": transcript.subject.map(|subject| subject.to_string()),
            });
            let again = Request::parse(&frame.to_string(), &labels());
            assert_eq!(again, Ok(Request::Transcript(transcript)));
        }
        Ok(Request::Ping { data }) => {
            let sent = data.as_str().to_owned();
            assert!(sent == "null" || text.contains(&sent), "{sent}");
            let answer = Answer::Pong { data }.to_json();
            assert!(
                answer.contains(&sent) && answer.starts_with(r#"{"type":"pong""#),
                "{answer}"
            );
        }
    }
}

#[test]
fn a_mutated_frame_is_refused_or_parses_to_the_same_request_again() {
    let seeds = seeds().map(|frame| frame.to_string());
    Target::text("request", 20_000)
        .seeds(seeds)
        .words(&[
            "pause", "resume", "mark", "status", "subject", "s1", "s03", "voice", "type",
        ])
        .run(check);
}
