//! Estimates the memory of a typed event, which counts towards the ring's limit of bytes together
//! with the event's frame.

use crate::event::Event;

/// Number of bytes of `event` and of its heap memory, without the allocator's overhead.
pub(super) fn memory(event: &Event) -> usize {
    size_of::<Event>() + event.payload().heap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ExpressionEvent, SpokenWord};
    use crate::hub::testing::{expression, words};

    #[test]
    fn the_memory_of_a_speech_event_includes_its_text_and_words() {
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
    fn a_default_ring_of_expressions_reaches_its_limit_of_events_before_that_of_bytes() {
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
