//! Estimated memory of a typed event, which the ring counts beside the bytes of the frame.

use serde_json::{Map, Value};

use crate::event::{
    Event, ExpressionEvent, Provenance, Scores, SourceStatus, SpeechEvent, SpokenWord, StatusEvent,
};

/// Bytes of the event and of its heap memory, without the allocator's overhead.
pub(super) fn memory(event: &Event) -> usize {
    size_of::<Event>()
        + match event {
            Event::Subject(_) => 0,
            Event::Expression(expression) => {
                size_of::<ExpressionEvent>() + expression_heap(expression)
            }
            Event::Speech(speech) => speech_heap(speech),
            Event::Status(status) => status_heap(status),
        }
}

fn expression_heap(event: &ExpressionEvent) -> usize {
    let Scores(scores) = &event.scores;
    let labels: usize = scores.iter().map(|(label, _)| label.capacity()).sum();
    let provenance = event.provenance.as_ref().map_or(0, provenance_heap);
    scores.capacity() * size_of::<(String, f32)>() + labels + event.top.capacity() + provenance
}

fn provenance_heap(provenance: &Provenance) -> usize {
    provenance.bundle.capacity()
        + provenance.config.capacity()
        + provenance.calibration.as_ref().map_or(0, String::capacity)
}

fn speech_heap(event: &SpeechEvent) -> usize {
    let words = event.words.as_ref().map_or(0, |words| {
        let texts: usize = words.iter().map(|word| word.text.capacity()).sum();
        words.capacity() * size_of::<SpokenWord>() + texts
    });
    event.text.as_ref().map_or(0, String::capacity) + words
}

fn status_heap(event: &StatusEvent) -> usize {
    let reason = |source: &SourceStatus| source.reason.as_ref().map_or(0, String::capacity);
    reason(&event.sources.video) + reason(&event.sources.audio) + object_heap(&event.counters)
}

fn object_heap(object: &Map<String, Value>) -> usize {
    let entry = |(key, value): (&String, &Value)| {
        size_of::<(String, Value)>() + key.capacity() + value_heap(value)
    };
    object.iter().map(entry).sum()
}

fn value_heap(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(values) => {
            values.capacity() * size_of::<Value>() + values.iter().map(value_heap).sum::<usize>()
        }
        Value::Object(object) => object_heap(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::testing::{expression, words};

    #[test]
    fn spoken_words_count_with_their_text() {
        let (short, long) = (memory(&words(10)), memory(&words(10_010)));
        assert_eq!(long - short, 10_000);
        let mut event = words(10);
        if let Event::Speech(speech) = &mut event {
            let word = SpokenWord {
                text: "x".repeat(100),
                start_ns: speech.start_ns,
                end_ns: speech.start_ns,
                confidence: None,
            };
            speech.words = Some(vec![word; 50]);
        }
        assert!(memory(&event) >= short + 50 * (100 + size_of::<SpokenWord>()));
    }

    #[test]
    fn a_default_ring_has_room_for_as_many_expressions_as_slots() {
        let event = crate::testing::server::sample_expression(0);
        let frame = event.to_json(1, crate::event::Form::Live).len();
        let one = memory(&event) + frame;
        assert!(
            one * super::super::ring::MAX_EVENTS <= super::super::ring::MAX_BYTES,
            "{one} bytes each"
        );
        assert!(memory(&expression(1, "happy", 0.5, 0)) > size_of::<ExpressionEvent>());
    }
}
