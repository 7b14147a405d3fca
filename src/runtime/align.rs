//! The thread "align": receives faces, sound and transcripts, and adds the aligner's outputs to the
//! inference queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::callbacks::TICK;
use super::failure::StageError;
use super::queue::InferenceQueue;
use super::replay_counts::SharedReplayCounts;
use crate::align::{AlignInput, Aligner};
use crate::lane::{LaneReceiver, Received};
use crate::notify::Heartbeat;
use crate::time::Clock;

/// Runs the aligner until the lane `inputs` ends. `counts` counts the inputs. `refused` receives
/// the number of inputs that were dropped because their stamps went back.
pub(super) fn align(
    mut aligner: Aligner,
    inputs: &LaneReceiver<AlignInput>,
    queue: &InferenceQueue,
    clock: &dyn Clock,
    (counts, refused): (&SharedReplayCounts, &AtomicU64),
    heartbeat: &Heartbeat,
) -> Result<(), StageError> {
    loop {
        heartbeat.send();
        let wait = aligner.next_deadline().map_or(TICK, |deadline| {
            let nanos = deadline.nanos_since(clock.now()).max(0);
            Duration::from_nanos(nanos as u64).min(TICK)
        });
        let ended = match inputs.recv(Some(wait)) {
            Received::Item(input) => {
                counts.add(&input);
                aligner.push(input);
                refused.store(aligner.refused(), Ordering::Relaxed);
                false
            }
            Received::TimedOut => false,
            Received::Ended => true,
        };
        while let Some(aligned) = aligner.pop(clock.now()) {
            queue.push(aligned, heartbeat)?;
        }
        if ended {
            return Ok(());
        }
    }
}
