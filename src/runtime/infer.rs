//! The thread "infer": clips and changes in, events out. It owns the encoders' graphs.

use super::callbacks::Emit;
use super::queue::{InferenceQueue, Popped};
use crate::align::Aligned;
use crate::notify::Beat;
use crate::recognize::Recognizer;
use crate::schedule::deadline;
use crate::session::{ClipTimestamps, EventBuilder};
use crate::time::Clock;

/// Runs until the queue ends.
pub(super) fn infer(
    mut recognizer: Recognizer,
    events: &EventBuilder,
    queue: &InferenceQueue,
    clock: &dyn Clock,
    mut emit: Emit,
    beat: &Beat,
) {
    loop {
        beat.beat();
        let aligned = match queue.pop(clock) {
            Popped::Item(aligned) => aligned,
            Popped::TimedOut => continue,
            Popped::Ended => return,
        };
        match aligned {
            Aligned::Subject(change) => emit(change.into(), None),
            Aligned::Speech(turn) => emit(turn.into(), None),
            Aligned::Words(words) => emit(words.into(), None),
            Aligned::Clip(clip) => {
                let taken = clock.now();
                let budget_nanos = i64::from(events.budget_ms) * 1_000_000;
                let left_nanos = deadline(&clip, budget_nanos).nanos_since(taken);
                let recognition = recognizer.recognize_within(&clip, left_nanos);
                let timestamps = ClipTimestamps {
                    taken,
                    recognized: clock.now(),
                    emitted: clock.now(),
                };
                let event = events.expression(&clip, &recognition, timestamps);
                emit(event, Some((&clip, &recognition)));
            }
        }
    }
}
