//! Events for the tests of `hub`.

use proptest::prelude::*;
use serde_json::json;

use crate::clip::{SubjectId, SubjectPhase};
use crate::event::{
    Also, Event, ExpressionEvent, FaceEvidence, Modalities, Scores, SourceState, SourceStatus,
    Sources, SpeechEvent, SpeechPhase, SpokenWord, StatusEvent, SubjectEvent, TextEvidence,
    VoiceEvidence,
};
use crate::time::MediaTime;

pub const LABELS: [&str; 3] = ["happy", "sad", "angry"];

/// An `expression` event of subject `s<subject>` whose window of 2 s ends at `end_ms` milliseconds.
/// It has a single score, for the label `top`.
pub fn expression(subject: u32, top: &str, confidence: f32, end_ms: i64) -> Event {
    let subject = SubjectId::Face(subject);
    Event::Expression(expression_of(subject, top, confidence, end_ms))
}

fn expression_of(
    subject: SubjectId,
    top: &str,
    confidence: f32,
    end_ms: i64,
) -> Box<ExpressionEvent> {
    Box::new(ExpressionEvent {
        subject,
        start_ns: MediaTime::from_millis(end_ms - 2000),
        end_ns: MediaTime::from_millis(end_ms),
        scores: Scores(vec![(top.into(), confidence)]),
        top: top.into(),
        confidence,
        abstain: false,
        also: Also::default(),
        modalities: Modalities {
            face: FaceEvidence {
                used: true,
                reason: None,
                frames: 32,
                missing: 0,
                quality: Some(0.9),
                age_ms: Some(40.0),
            },
            voice: VoiceEvidence {
                used: false,
                reason: None,
                speech: None,
                missing_ms: None,
                owner_confidence: None,
                age_ms: None,
            },
            text: TextEvidence {
                used: false,
                reason: None,
                age_ms: None,
            },
        },
        latency_ms: None,
        deadline: None,
        degraded: None,
        skew_ms: None,
        provenance: None,
    })
}

/// A partial transcript (`speech` event) with a text of `bytes` bytes.
pub fn words(bytes: usize) -> Event {
    Event::Speech(SpeechEvent {
        phase: SpeechPhase::Partial,
        start_ns: MediaTime::ZERO,
        end_ns: Some(MediaTime::from_millis(1)),
        text: Some("x".repeat(bytes)),
        words: None,
        owner: None,
    })
}

/// Generates subjects: `s1` to `s3`, and the off-camera voice.
pub fn any_subject() -> impl Strategy<Value = SubjectId> {
    prop_oneof![(1u32..4).prop_map(SubjectId::Face), Just(SubjectId::Voice)]
}

fn any_time() -> impl Strategy<Value = MediaTime> {
    (0i64..2000).prop_map(MediaTime::from_millis)
}

/// Generates events of all types. Subjects, labels and times come from small sets, so that random
/// subscriptions match some events.
pub fn any_event() -> impl Strategy<Value = Event> {
    let phase = prop_oneof![
        Just(SubjectPhase::Appeared),
        Just(SubjectPhase::Updated),
        Just(SubjectPhase::Lost),
        Just(SubjectPhase::Merged),
    ];
    let into = prop::option::of(any_subject());
    let subject = (any_subject(), any_time(), phase, into, 0f32..1.0);
    let subject = subject.prop_map(|(subject, time_ns, phase, into, quality)| {
        Event::Subject(SubjectEvent {
            subject,
            time_ns,
            phase,
            into,
            rect: [quality, 0.25, 0.125, quality / 3.0],
            quality,
        })
    });
    let label = prop::sample::select(&LABELS[..]);
    let expression = (any_subject(), label, 0f32..1.0, 0i64..2000);
    let expression = expression.prop_map(|(subject, top, confidence, end_ms)| {
        let mut event = expression_of(subject, top, confidence, end_ms);
        event.abstain = confidence < 0.3;
        Event::Expression(event)
    });
    let text = prop::option::of("[a-z \"\\\\é]{0,300}");
    let speech = (prop::option::of(any_subject()), any_time(), text);
    let speech = speech.prop_map(|(owner, start_ns, text)| {
        let word = |text: &str| SpokenWord {
            text: text.into(),
            start_ns,
            end_ns: start_ns,
            confidence: Some(0.5),
        };
        let words = text
            .as_ref()
            .map(|text| text.split(' ').map(word).collect());
        Event::Speech(SpeechEvent {
            phase: if text.is_some() {
                SpeechPhase::Final
            } else {
                SpeechPhase::Start
            },
            start_ns,
            end_ns: text.as_ref().map(|_| start_ns),
            text,
            words,
            owner,
        })
    });
    let status = prop::option::of("[a-z ]{0,100}").prop_map(|reason| {
        let source = |reason: Option<String>| SourceStatus {
            state: match reason {
                Some(_) => SourceState::Lost,
                None => SourceState::Delivering,
            },
            reason,
            origin_ns: None,
        };
        let counters = json!({"frames": 7, "drops": {"slow_client": 1, "lists": [1, "two"]}});
        Event::Status(StatusEvent {
            sources: Sources {
                video: source(reason),
                audio: source(None),
            },
            degraded: "none",
            paused: false,
            counters: counters.as_object().expect("an object").clone(),
        })
    });
    prop_oneof![2 => subject, 4 => expression, 3 => speech, 1 => status]
}
