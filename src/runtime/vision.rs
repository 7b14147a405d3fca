//! The threads "faces" and "detect". "faces" tracks faces in the frames and sends them to the
//! aligner; meanwhile "detect" runs the face detector on selected frames.

use std::time::Duration;

use super::callbacks::{IsLost, TICK};
use super::failure::StageError;
use crate::align::AlignInput;
use crate::clip::VideoFrame;
use crate::face::{Detection, Detector};
use crate::lane::{LaneReceiver, LaneSender, Received};
use crate::notify::Heartbeat;
use crate::session::{DetectionPolicy, Vision, VisionInput, VisionOutput};
use crate::time::MediaTime;

/// The thread that tracks faces in the frames.
pub(super) struct VisionThread {
    pub vision: Vision,
    /// The captured frames.
    pub frames: LaneReceiver<VideoFrame>,
    /// Frames for the detector.
    pub requests: LaneSender<VideoFrame>,
    /// Results of the detector, each with the time of its frame.
    pub detections: LaneReceiver<(MediaTime, Vec<Detection>)>,
    /// The aligner's inputs.
    pub inbox: LaneSender<AlignInput>,
    /// Whether the camera is lost.
    pub is_lost: IsLost,
}

impl VisionThread {
    /// Runs until all frames are tracked.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), StageError> {
        while !self.vision.has_finished() {
            heartbeat.send();
            if !self.vision.takes_frames() {
                self.await_detections()?;
                continue;
            }
            match self.frames.recv(Some(TICK)) {
                Received::TimedOut if self.is_live() && (self.is_lost)() => {
                    self.push(VisionInput::Lost)?
                }
                Received::TimedOut => {}
                Received::Ended => self.push(VisionInput::Ended)?,
                Received::Item(frame) => {
                    if self.is_live() {
                        self.take_detections()?;
                    }
                    self.push(VisionInput::Frame(frame))?;
                }
            }
        }
        Ok(())
    }

    fn is_live(&self) -> bool {
        self.vision.policy() == DetectionPolicy::WhenIdle
    }

    /// Waits for the detector's next result, which the tracker needs to go on.
    fn await_detections(&mut self) -> Result<(), StageError> {
        match self.detections.recv(None) {
            Received::Item((time, found)) => self.push(VisionInput::Detections(time, found)),
            Received::Ended | Received::TimedOut => Err(StageError::Gone("detector")),
        }
    }

    /// Passes the detections that have arrived to the tracker.
    fn take_detections(&mut self) -> Result<(), StageError> {
        while let Received::Item((time, found)) = self.detections.recv(Some(Duration::ZERO)) {
            self.push(VisionInput::Detections(time, found))?;
        }
        Ok(())
    }

    fn push(&mut self, input: VisionInput) -> Result<(), StageError> {
        self.vision.push(input)?;
        while let Some(output) = self.vision.pop() {
            match output {
                VisionOutput::Detect(frame) => {
                    let sent = self.requests.send(frame);
                    sent.map_err(|_| StageError::Gone("detector"))?;
                }
                VisionOutput::Align(input) => {
                    let sent = self.inbox.send(input);
                    sent.map_err(|_| StageError::Gone("aligner"))?;
                }
            }
        }
        Ok(())
    }
}

/// The thread "detect": runs the face detector on each frame of `requests`, until the lane ends.
pub(super) fn detect(
    mut detector: Detector,
    requests: &LaneReceiver<VideoFrame>,
    detections: &LaneSender<(MediaTime, Vec<Detection>)>,
    heartbeat: &Heartbeat,
) -> Result<(), StageError> {
    loop {
        heartbeat.send();
        match requests.recv(Some(TICK)) {
            Received::TimedOut => {}
            Received::Ended => return Ok(()),
            Received::Item(frame) => {
                let found = detector.detect(&frame.picture)?;
                if detections.send((frame.time, found)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}
