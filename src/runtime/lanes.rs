//! The queues between a session's threads.

use std::sync::Arc;

use crate::align::AlignInput;
use crate::capture::Outputs;
use crate::clip::{AudioBlock, VideoFrame};
use crate::face::Detection;
use crate::lane::{
    LaneCounters, LaneReceiver, LaneSender, WeakLaneSender, WhenFull, lane, lane_with_control,
};
use crate::session::{READ_AHEAD, Stages, Tempo, TranscriberInput};
use crate::time::MediaTime;

/// Capacity of the transcriber's lane, several seconds of sound: the transcriber is busy for a
/// while at the end of an utterance.
const TRANSCRIBER_ITEMS: usize = 256;

/// Both ends of a lane.
pub(super) type LaneEnds<T> = (LaneSender<T>, LaneReceiver<T>);

/// Both ends of every lane of a session, until the threads take them.
pub struct Lanes {
    /// The lanes of capture. A source that is paused keeps a clone, so that they stay open.
    pub outputs: Outputs,
    pub(super) frames: Option<LaneReceiver<VideoFrame>>,
    pub(super) sound: Option<LaneReceiver<AudioBlock>>,
    pub(super) detect: LaneEnds<VideoFrame>,
    pub(super) detections: LaneEnds<(MediaTime, Vec<Detection>)>,
    pub(super) transcribe: Option<LaneEnds<TranscriberInput>>,
    pub(super) align: LaneEnds<AlignInput>,
    counters: Vec<Arc<LaneCounters>>,
}

impl Lanes {
    /// Live, a full lane drops its oldest item; in a replay its sender waits.
    pub fn new(stages: &Stages, tempo: Tempo) -> Lanes {
        let when_full = match tempo {
            Tempo::Live => WhenFull::DropOldest,
            Tempo::Replay => WhenFull::Block,
        };
        let mut counters = Vec::new();
        let (frame_sender, frames) = stages
            .vision
            .as_ref()
            .map(|_| lane("frames", 4, when_full))
            .unzip();
        let (sound_sender, sound) = stages
            .speech
            .as_ref()
            .map(|_| lane("audio", 64, when_full))
            .unzip();
        counters.extend(frame_sender.as_ref().map(LaneSender::counters));
        counters.extend(sound_sender.as_ref().map(LaneSender::counters));
        let transcribe = stages
            .transcription
            .as_ref()
            .map(|_| lane("transcribe", TRANSCRIBER_ITEMS, when_full));
        counters.extend(transcribe.as_ref().map(|(sender, _)| sender.counters()));
        let align = lane_with_control("align", 256, when_full, AlignInput::is_control);
        counters.push(align.0.counters());
        let (detect, detections) = match tempo {
            Tempo::Live => (
                lane("detect", 1, WhenFull::DropNewest),
                lane("detections", 2, WhenFull::DropOldest),
            ),
            // One request and one answer for each frame that is read ahead, and one more: neither
            // side waits for the other.
            Tempo::Replay => (
                lane("detect", READ_AHEAD + 1, WhenFull::Block),
                lane("detections", READ_AHEAD + 1, WhenFull::Block),
            ),
        };
        if frames.is_some() {
            counters.extend([detect.0.counters(), detections.0.counters()]);
        }
        Lanes {
            outputs: Outputs {
                frames: frame_sender,
                audio: sound_sender,
            },
            frames,
            sound,
            detect,
            detections,
            transcribe,
            align,
            counters,
        }
    }

    /// The sender for clients' transcripts.
    pub fn transcripts(&self) -> WeakLaneSender<AlignInput> {
        self.align.0.downgrade()
    }

    /// The counters of all lanes.
    pub fn counters(&self) -> Vec<Arc<LaneCounters>> {
        self.counters.clone()
    }
}
