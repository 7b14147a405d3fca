//! The thread "infer": recognizes clips and builds events. It owns the graphs of the encoders.

use super::callbacks::Emit;
use super::queue::{InferenceQueue, Popped};
use crate::clip::Clip;
use crate::notify::Heartbeat;
use crate::recognize::Recognizer;
use crate::schedule::deadline;
use crate::session::{ClipTimestamps, EventBuilder, events_of};
use crate::time::Clock;

/// Largest number of clips in a batch. A live schedule holds at most one clip of each subject.
const MAX_CLIPS: usize = 16;

/// Recognizes clips and passes all events to `emit`, until the queue ends.
pub(super) fn infer(
    mut recognizer: Recognizer,
    events: &EventBuilder,
    queue: &InferenceQueue,
    clock: &dyn Clock,
    mut emit: Emit,
    heartbeat: &Heartbeat,
) {
    loop {
        heartbeat.send();
        let due = match queue.pop_due(clock, MAX_CLIPS) {
            Popped::Due(due) => due,
            Popped::TimedOut => continue,
            Popped::Ended => return,
        };
        for item in due.before {
            // `Due::before` holds no clips.
            for event in events_of(item).into_iter().flatten() {
                emit(event, None);
            }
        }
        if !due.clips.is_empty() {
            recognize(&mut recognizer, events, queue, clock, &mut emit, &due.clips);
        }
    }
}

/// Recognizes `clips` as one batch, and passes their events to `emit` in the order of the clips.
fn recognize(
    recognizer: &mut Recognizer,
    events: &EventBuilder,
    queue: &InferenceQueue,
    clock: &dyn Clock,
    emit: &mut Emit,
    clips: &[Clip],
) {
    let taken = clock.now();
    let budget_nanos = i64::from(events.budget_ms) * 1_000_000;
    let left_nanos: Vec<i64> = clips
        .iter()
        .map(|clip| deadline(clip, budget_nanos).nanos_since(taken))
        .collect();
    let recognitions = recognizer.recognize_all(&clips.iter().collect::<Vec<_>>(), &left_nanos);
    let recognized = clock.now();
    queue.note_encoded(clips.len(), recognized.nanos_since(taken));
    for (clip, recognition) in clips.iter().zip(&recognitions) {
        let timestamps = ClipTimestamps {
            taken,
            recognized,
            emitted: clock.now(),
        };
        let event = events.expression(clip, recognition, timestamps);
        emit(event, Some((clip, recognition)));
    }
}
