//! The lanes between a session's threads.

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

/// Capacity of the transcriber's lane in audio blocks, several seconds of sound: at the end of an
/// utterance the transcriber is busy for a while.
const TRANSCRIBER_ITEMS: usize = 256;

/// The sending and the receiving end of a lane.
pub(super) type LaneEnds<T> = (LaneSender<T>, LaneReceiver<T>);

/// The lanes of a session, whose ends [`Pipeline::spawn`](super::Pipeline::spawn) gives to the
/// threads.
pub struct Lanes {
    /// The sending ends for captured frames and sound. A paused source keeps a clone, so that its
    /// lane stays open.
    pub outputs: Outputs,
    /// Captured frames, for the tracker; `None` without video.
    pub(super) frames: Option<LaneReceiver<VideoFrame>>,
    /// Captured sound, for the voice-activity detection; `None` without audio.
    pub(super) sound: Option<LaneReceiver<AudioBlock>>,
    /// Frames from the tracker to the detector.
    pub(super) detect: LaneEnds<VideoFrame>,
    /// Detections with their frame's time, from the detector to the tracker.
    pub(super) detections: LaneEnds<(MediaTime, Vec<Detection>)>,
    /// Sound for the transcriber; `None` without transcription.
    pub(super) transcribe: Option<LaneEnds<TranscriberInput>>,
    /// Inputs of the aligner.
    pub(super) align: LaneEnds<AlignInput>,
    counters: Vec<Arc<LaneCounters>>,
}

impl Lanes {
    /// Creates the lanes that `stages` need. Live, a full lane drops an item, most lanes the
    /// oldest; in a replay the sender waits.
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
            // Room for a request and a result of each frame that is read ahead, and one more, so
            // that tracker and detector never block on each other.
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

    /// The sending end for transcripts of clients. It does not keep the aligner's lane open.
    pub fn transcripts(&self) -> WeakLaneSender<AlignInput> {
        self.align.0.downgrade()
    }

    /// The counters of all lanes.
    pub fn counters(&self) -> Vec<Arc<LaneCounters>> {
        self.counters.clone()
    }
}
