//! Merges the frames and the sound of a recording's decoders in the order that the stages need.

use std::collections::VecDeque;
use std::time::Duration;

use crate::align::NextInput;
use crate::clip::{AudioBlock, VideoFrame, samples_to_nanos};
use crate::lane::{LaneReceiver, Received};
use crate::time::{MediaTime, Span};

/// Time to wait for the stream that the stages need next, before the other stream is read.
const STEP: Duration = Duration::from_millis(2);
/// Number of waits without an item. After them, an item of the stream that is not needed is
/// removed, because its full lane may block the demuxer.
const STALLED_STEPS: u32 = 10;

/// The decoders' lanes, and received items that are held for the next part of the recording.
pub(super) struct Streams {
    /// Frames from the video decoder.
    pub frames: LaneReceiver<VideoFrame>,
    /// Blocks of sound from the audio decoder.
    pub blocks: LaneReceiver<AudioBlock>,
    /// Received items to be read before those of the lanes.
    pub held_frames: VecDeque<VideoFrame>,
    pub held_blocks: VecDeque<AudioBlock>,
    /// Whether another part of the recording follows.
    pub goes_on: bool,
}

impl Streams {
    /// The next frame or the end of the frames; `None` if none arrives within `timeout`.
    fn frame(&mut self, timeout: Duration) -> Option<Received<VideoFrame>> {
        let received = self
            .held_frames
            .pop_front()
            .map_or_else(|| self.frames.recv(Some(timeout)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    /// The next block of sound or the end of the sound; `None` if none arrives within `timeout`.
    fn block(&mut self, timeout: Duration) -> Option<Received<AudioBlock>> {
        let received = self
            .held_blocks
            .pop_front()
            .map_or_else(|| self.blocks.recv(Some(timeout)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    /// Removes one item of the stream that this part no longer needs (`frames`: of the frames, else
    /// of the sound), so that its full lane does not block the demuxer. The item is held if another
    /// part follows.
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

/// The next item of the stream that the stages need (`next_input`), or of the other stream if that
/// one has no item yet: one of the two is `Some`. Reading the other stream prevents that its full
/// lane blocks the demuxer. The order of reading does not change the stages' output.
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
        // A closed lane keeps returning `Ended`. The end of the stream that is not needed next is
        // ignored here; it is returned when that stream is needed.
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

/// The samples of `block` within `span`, with times relative to the start of `span`; `None` if
/// there are none.
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
