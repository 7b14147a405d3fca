use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::event::Form;
use crate::hub::ring::EvictedKeys;
use crate::hub::testing::{LABELS, any_event, any_subject, expression};

/// A second implementation of the filter, by `src/event/protocol.md`, on the JSON that a client
/// reads.
#[derive(Default)]
struct Reference {
    last_end: HashMap<String, i64>,
}

impl Reference {
    fn passes(&mut self, wanted: &Subscription, frame: &Value) -> bool {
        let kind = frame["type"].as_str().unwrap();
        if wanted
            .events
            .as_ref()
            .is_some_and(|kinds| !kinds.contains(&kind))
        {
            return false;
        }
        let own = frame["subject"].as_str().or(frame["owner"].as_str());
        if let Some(subjects) = &wanted.subjects {
            let names: Vec<String> = subjects.iter().map(SubjectId::to_string).collect();
            let has = |name: Option<&str>| name.is_some_and(|name| names.iter().any(|n| n == name));
            if names.is_empty() || own.is_some() && !has(own) && !has(frame["into"].as_str()) {
                return false;
            }
        }
        if wanted.labels.as_ref().is_some_and(Vec::is_empty) {
            return false;
        }
        if kind != "expression" {
            return true;
        }
        let top = frame["top"].as_str().unwrap();
        if wanted
            .labels
            .as_ref()
            .is_some_and(|labels| !labels.iter().any(|l| l == top))
        {
            return false;
        }
        let confidence = frame["confidence"].as_f64().unwrap();
        if wanted
            .min_confidence
            .is_some_and(|least| confidence < least)
        {
            return false;
        }
        if let Some(rate_hz) = wanted.max_rate_hz {
            let end = frame["end_ns"].as_i64().unwrap();
            let last = self.last_end.get(own.unwrap()).copied();
            let gap = 0.995e9 / rate_hz;
            if last.is_some_and(|last| end >= last && ((end - last) as f64) < gap) {
                return false;
            }
            self.last_end.insert(own.unwrap().to_owned(), end);
        }
        true
    }
}

fn any_subscription() -> impl Strategy<Value = Subscription> {
    let kinds = prop::sample::subsequence(vec!["subject", "expression", "speech", "status"], 0..=4);
    let labels = prop::sample::subsequence(LABELS.map(str::to_owned).to_vec(), 0..=3);
    (
        prop::option::of(kinds),
        prop::option::of(prop::collection::vec(any_subject(), 0..3)),
        prop::option::of(labels),
        // Numbers that confidences round to.
        prop::option::of((0u32..=10_000).prop_map(|n| f64::from(n) / 1e4)),
        prop::option::of(0.5f64..50.0),
    )
        .prop_map(
            |(events, subjects, labels, min_confidence, max_rate_hz)| Subscription {
                events,
                subjects,
                labels,
                min_confidence,
                max_rate_hz,
            },
        )
}

#[test]
fn min_confidence_is_compared_with_the_rounded_confidence() {
    let mut filter = Filter::new(Subscription {
        min_confidence: Some(0.7),
        ..Default::default()
    });
    let mut passes = |confidence| {
        let event = expression(1, "happy", confidence, 0);
        filter.passes(FilterKeys::from_event(&event))
    };
    assert!(passes(0.69999) && !passes(0.6999));
}

proptest! {
    /// The filter's result for a typed event, and for the keys of an event without its frame,
    /// equals the result of [`Reference`] for the event's JSON.
    #[test]
    fn a_typed_event_passes_the_filter_exactly_if_its_json_does(
        events in prop::collection::vec(any_event(), 1..60),
        wanted in any_subscription(),
    ) {
        let mut reference = Reference::default();
        let [mut typed, mut without_frames] = [(); 2].map(|()| Filter::new(wanted.clone()));
        for event in &events {
            let frame = event.to_json(1, Form::Live);
            let expected = reference.passes(&wanted, &serde_json::from_str(&frame).unwrap());
            prop_assert_eq!(typed.passes(FilterKeys::from_event(event)), expected, "{}", frame);
            let evicted = EvictedKeys::from_event(event);
            prop_assert_eq!(without_frames.passes(evicted.keys()), expected, "{}", frame);
        }
    }
}
