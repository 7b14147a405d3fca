//! Merges the output of a recording's decoders in the order that the stages need.

use std::collections::VecDeque;
use std::time::Duration;

use crate::align::NextInput;
use crate::clip::{AudioBlock, VideoFrame, samples_to_nanos};
use crate::lane::{LaneReceiver, Received};
use crate::time::{MediaTime, Span};

/// Time to wait for the source that is behind, before the other one is read.
const STEP: Duration = Duration::from_millis(2);
/// Number of waits without an item after which the demuxer may be blocked by a source that this
/// part no longer needs.
const STALLED_STEPS: u32 = 10;

/// The lanes of the decoders, and received items that belong to the next part.
pub(super) struct Streams {
    pub frames: LaneReceiver<VideoFrame>,
    pub blocks: LaneReceiver<AudioBlock>,
    pub held_frames: VecDeque<VideoFrame>,
    pub held_blocks: VecDeque<AudioBlock>,
    /// Whether another part follows.
    pub goes_on: bool,
}

impl Streams {
    fn frame(&mut self, timeout: Duration) -> Option<Received<VideoFrame>> {
        let received = self
            .held_frames
            .pop_front()
            .map_or_else(|| self.frames.recv(Some(timeout)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    fn block(&mut self, timeout: Duration) -> Option<Received<AudioBlock>> {
        let received = self
            .held_blocks
            .pop_front()
            .map_or_else(|| self.blocks.recv(Some(timeout)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    /// Drops one item of a source that this part no longer needs, so that the demuxer does not
    /// block on it.
    fn clear(&mut self, frames: bool) {
        if frames {
            if let Received::Item(frame) = self.frames.recv(Some(Duration::ZERO)) {
                self.held_frames.extend(self.goes_on.then_some(frame));
            }
        } else if let Received::Item(block) = self.blocks.recv(Some(Duration::ZERO)) {
            self.held_blocks.extend(self.goes_on.then_some(block));
        }
    }
}

/// The next item of the source that is behind, or of the other source if that one has none yet. The
/// output does not depend on which source is read. A demuxer that must deliver the other source
/// first never blocks.
pub(super) fn next(
    streams: &mut Streams,
    next_input: NextInput,
    needs_video: bool,
    needs_audio: bool,
) -> (Option<Received<VideoFrame>>, Option<Received<AudioBlock>>) {
    let mut tries = 0;
    loop {
        let found = if next_input == NextInput::Faces {
            match streams.frame(STEP) {
                None if needs_audio => (None, streams.block(Duration::ZERO)),
                found => (found, None),
            }
        } else {
            match streams.block(STEP) {
                None if needs_video => (streams.frame(Duration::ZERO), None),
                found => (None, found),
            }
        };
        // A closed lane keeps returning `Ended`. Only the wanted source's end counts now; the
        // other's counts once that source is wanted.
        match (&found, next_input) {
            ((None, None), _)
            | ((Some(Received::Ended), None), NextInput::VadBlock)
            | ((None, Some(Received::Ended)), NextInput::Faces) => {}
            _ => return found,
        }
        tries += 1;
        if !(needs_video && needs_audio) && (tries >= STALLED_STEPS || !streams.goes_on) {
            streams.clear(!needs_video);
        }
    }
}

/// The samples of `block` within `span`, with stamps from the start of `span`.
pub(super) fn within(block: AudioBlock, span: &Span) -> Option<AudioBlock> {
    let one = samples_to_nanos(1);
    let index = |time: MediaTime| {
        (time.nanos_since(block.time).max(0) as u64)
            .div_ceil(one as u64)
            .min(block.samples.len() as u64) as usize
    };
    let (from, to) = (index(span.start), index(span.end));
    if from >= to {
        return None;
    }
    let samples = if to - from == block.samples.len() {
        block.samples
    } else {
        block.samples[from..to].into()
    };
    Some(AudioBlock {
        time: block
            .time
            .plus_nanos(samples_to_nanos(from as i64) - span.start.nanos()),
        samples,
    })
}
