//! Estimated memory of a typed event, which the ring counts beside the bytes of the frame.

use crate::event::Event;

/// Bytes of the event and of its heap memory, without the allocator's overhead.
pub(super) fn memory(event: &Event) -> usize {
    size_of::<Event>() + event.payload().heap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ExpressionEvent, SpokenWord};
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
