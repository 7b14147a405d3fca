//! Face tracking on every frame, and the selection of frames for the detector.

use std::collections::VecDeque;

use crate::align::AlignInput;
use crate::clip::{FramedFaces, VideoFrame};
use crate::encode::EncodeError;
use crate::face::{Detection, FaceStage};
use crate::time::MediaTime;

/// Number of frames that are read ahead of the tracker in a replay. At full speed, about as many
/// frames arrive during one detection.
pub const READ_AHEAD: usize = 12;

/// Which frames are sent to the face detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectionPolicy {
    /// For live sources. A frame goes to the detector if the detector is idle and the tracker
    /// requests a detection. The tracker does not wait for the result, which arrives some frames
    /// later.
    WhenIdle,
    /// For replays. Every detection is used on its own frame, so the same frames give the same
    /// faces at any speed. The first frame of each detection interval goes to the detector as it
    /// arrives, up to `read_ahead` frames before the tracker needs the result. The tracker may
    /// request detections of further frames.
    EveryInterval { read_ahead: usize },
}

/// An input of [`Vision`].
#[derive(Debug)]
pub enum VisionInput {
    Frame(VideoFrame),
    /// The detector's result for the frame of that time, after [`VisionOutput::Detect`].
    Detections(MediaTime, Vec<Detection>),
    /// The video source currently delivers nothing, so all subjects are lost.
    Lost,
    /// No frame follows.
    Ended,
}

/// An output of [`Vision`].
#[derive(Debug)]
pub enum VisionOutput {
    /// The caller must run the detector on this frame and push [`VisionInput::Detections`].
    Detect(VideoFrame),
    /// An input for the aligner.
    Align(AlignInput),
}

/// A frame that was read ahead of the tracker.
#[derive(Debug)]
struct WaitingFrame {
    frame: VideoFrame,
    /// Whether the frame was sent to the detector.
    requested: bool,
}

/// Tracks faces in frames, and selects the frames for the face detector, which the caller runs.
#[derive(Debug)]
pub struct Vision {
    stage: FaceStage,
    policy: DetectionPolicy,
    /// The detection interval, in nanoseconds of media time.
    interval: i64,
    /// `EveryInterval`: number of the newest detection interval, counted from media time 0.
    newest_slot: Option<i64>,
    /// `EveryInterval`: frames that the tracker has not processed, oldest first.
    waiting: VecDeque<WaitingFrame>,
    /// `EveryInterval`: detections of frames in `waiting`, by the frame's time.
    answers: VecDeque<(MediaTime, Vec<Detection>)>,
    /// `WhenIdle`: whether the detector is busy.
    detecting: bool,
    /// End of the newest tracked frame.
    end: MediaTime,
    /// Whether a loss of the source was reported and no frame has arrived since.
    lost: bool,
    /// Whether [`VisionInput::Ended`] was received.
    ended: bool,
    out: VecDeque<VisionOutput>,
}

impl Vision {
    pub fn new(stage: FaceStage, policy: DetectionPolicy) -> Vision {
        let interval = i64::try_from(stage.detect_interval().as_nanos()).unwrap_or(i64::MAX);
        Vision {
            stage,
            policy,
            interval: interval.max(1),
            newest_slot: None,
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            detecting: false,
            end: MediaTime::ZERO,
            lost: false,
            ended: false,
            out: VecDeque::new(),
        }
    }

    /// The policy by which frames are selected for the detector.
    pub fn policy(&self) -> DetectionPolicy {
        self.policy
    }

    /// Returns the tracker with its open networks, for the next recording.
    pub fn into_stage(self) -> FaceStage {
        self.stage
    }

    /// End of the newest frame in which faces were tracked.
    pub fn end(&self) -> MediaTime {
        self.end
    }

    /// Whether a frame may be pushed now. If not, push [`VisionInput::Detections`] first.
    pub fn takes_frames(&self) -> bool {
        !self.ended && self.waiting.len() < self.read_ahead()
    }

    /// Whether the frames have ended and all of them are tracked.
    pub fn has_finished(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Processes the next input; then [`Self::pop`] returns the results.
    ///
    /// # Errors
    /// A network of the tracker fails.
    pub fn push(&mut self, input: VisionInput) -> Result<(), EncodeError> {
        match (input, self.policy) {
            (VisionInput::Frame(frame), DetectionPolicy::WhenIdle) => {
                self.lost = false;
                if !self.detecting && self.stage.wants_detection(&frame) {
                    self.detecting = true;
                    self.out.push_back(VisionOutput::Detect(frame.clone()));
                }
                self.track(&frame)?;
            }
            (VisionInput::Frame(frame), DetectionPolicy::EveryInterval { .. }) => {
                self.lost = false;
                let slot = Some(frame.time.nanos().div_euclid(self.interval));
                let requested = slot != self.newest_slot;
                self.newest_slot = slot;
                if requested {
                    self.out.push_back(VisionOutput::Detect(frame.clone()));
                }
                self.waiting.push_back(WaitingFrame { frame, requested });
                self.track_waiting()?;
            }
            (VisionInput::Detections(time, found), DetectionPolicy::WhenIdle) => {
                self.detecting = false;
                self.stage.detected(time, found);
            }
            (VisionInput::Detections(time, found), DetectionPolicy::EveryInterval { .. }) => {
                self.answers.push_back((time, found));
                self.track_waiting()?;
            }
            (VisionInput::Lost, _) => {
                if !std::mem::replace(&mut self.lost, true) {
                    self.finish(AlignInput::FacesLost);
                }
            }
            (VisionInput::Ended, _) => {
                self.ended = true;
                self.track_waiting()?;
            }
        }
        Ok(())
    }

    /// The next output; `None` if there is none yet.
    pub fn pop(&mut self) -> Option<VisionOutput> {
        self.out.pop_front()
    }

    /// Number of frames that may wait for the tracker.
    fn read_ahead(&self) -> usize {
        match self.policy {
            DetectionPolicy::WhenIdle => usize::MAX,
            DetectionPolicy::EveryInterval { read_ahead } => read_ahead.max(1),
        }
    }

    /// Tracks waiting frames in order. Stops at a frame whose detections have not arrived, or when
    /// more frames may be read ahead.
    fn track_waiting(&mut self) -> Result<(), EncodeError> {
        while self.ended || self.waiting.len() >= self.read_ahead() {
            let Some(first) = self.waiting.front_mut() else {
                break;
            };
            let time = first.frame.time;
            if !first.requested && self.stage.wants_detection(&first.frame) {
                first.requested = true;
                let request = VisionOutput::Detect(first.frame.clone());
                self.out.push_back(request);
            }
            if first.requested {
                let Some(index) = self.answers.iter().position(|(at, _)| *at == time) else {
                    return Ok(());
                };
                let (_, found) = self.answers.remove(index).expect("just found");
                self.stage.detected(time, found);
            }
            let first = self.waiting.pop_front().expect("just seen");
            self.track(&first.frame)?;
        }
        if self.ended {
            self.finish(AlignInput::FacesEnded);
        }
        Ok(())
    }

    /// Tracks the faces of one frame, and queues them for the aligner.
    fn track(&mut self, frame: &VideoFrame) -> Result<(), EncodeError> {
        let end = frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1));
        self.end = self.end.max(end);
        let faces = self.stage.advance(frame)?;
        let output = VisionOutput::Align(AlignInput::Faces(faces));
        self.out.push_back(output);
        Ok(())
    }

    /// Reports all present subjects as lost, then sends `last` to the aligner.
    fn finish(&mut self, last: AlignInput) {
        let changes = self.stage.finish(self.end);
        if !changes.is_empty() {
            let faces = FramedFaces {
                time: self.end,
                picture_size: [0, 0],
                faces: Vec::new(),
                changes,
            };
            let output = VisionOutput::Align(AlignInput::Faces(faces));
            self.out.push_back(output);
        }
        self.out.push_back(VisionOutput::Align(last));
    }
}
