//! The threads "faces" and "detect": frames in, faces out, in the two ways in which a detection can come late.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::failure::StageError;
use super::pipeline::{IsLost, TICK};
use crate::align::AlignInput;
use crate::clip::{FramedFaces, VideoFrame};
use crate::face::{Detection, Detector, FaceStage};
use crate::lane::{LaneReceiver, LaneSender, Received};
use crate::notify::Beat;
use crate::time::MediaTime;

/// Frames that are read ahead of the tracker offline: what a detection takes, at full speed.
pub(super) const READ_AHEAD: usize = 12;

pub(super) struct FacesThread {
    pub stage: FaceStage,
    pub frames: LaneReceiver<VideoFrame>,
    pub inbox: LaneSender<AlignInput>,
    pub is_lost: IsLost,
    /// End of the newest frame.
    pub end: MediaTime,
}

impl FacesThread {
    /// Offline, every detection is used on the frame that it was made on: the same faces at the same frames on every run and at every
    /// pace. So that the tracker does not stand still meanwhile, frames are read ahead and the first of each interval of media time goes
    /// to the detector as it arrives; only where the stage looks for somebody in between does a frame wait.
    pub fn replay(
        mut self,
        interval: Duration,
        requests: &LaneSender<VideoFrame>,
        answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
        beat: &Beat,
    ) -> Result<(), StageError> {
        let interval = i64::try_from(interval.as_nanos())
            .unwrap_or(i64::MAX)
            .max(1);
        let (mut ahead, mut early, mut ended, mut newest_slot) =
            (VecDeque::new(), VecDeque::new(), false, None);
        loop {
            beat.beat();
            while !ended && ahead.len() < READ_AHEAD {
                match self.frames.recv(Some(TICK)) {
                    Received::TimedOut => beat.beat(),
                    Received::Ended => ended = true,
                    Received::Item(frame) => {
                        let slot = Some(frame.time.nanos().div_euclid(interval));
                        let asked = slot != newest_slot;
                        newest_slot = slot;
                        if asked {
                            requests
                                .send(frame.clone())
                                .map_err(|_| StageError::Gone("detector"))?;
                        }
                        ahead.push_back((frame, asked));
                    }
                }
            }
            let Some((frame, asked)) = ahead.pop_front() else {
                return self.finish(true);
            };
            if !asked && self.stage.wants_detection(&frame) {
                requests
                    .send(frame.clone())
                    .map_err(|_| StageError::Gone("detector"))?;
                let detections = answer_for(frame.time, answers, &mut early)?;
                self.stage.detected(frame.time, detections);
            } else if asked {
                let detections = answer_for(frame.time, answers, &mut early)?;
                self.stage.detected(frame.time, detections);
            }
            self.advance(&frame)?;
        }
    }

    /// Live, the detector has a thread of its own and delays no frame; what it found comes some frames later.
    pub fn live(
        mut self,
        requests: &LaneSender<VideoFrame>,
        answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
        busy: &AtomicBool,
        beat: &Beat,
    ) -> Result<(), StageError> {
        let mut lost = false;
        loop {
            beat.beat();
            match self.frames.recv(Some(TICK)) {
                Received::TimedOut => {
                    if !lost && (self.is_lost)() {
                        lost = true;
                        self.finish(false)?;
                    }
                }
                Received::Ended => return self.finish(true),
                Received::Item(frame) => {
                    lost = false;
                    while let Received::Item((at, detections)) = answers.recv(Some(Duration::ZERO))
                    {
                        self.stage.detected(at, detections);
                    }
                    if !busy.load(Ordering::Acquire) && self.stage.wants_detection(&frame) {
                        busy.store(true, Ordering::Release);
                        let _ = requests.send(frame.clone());
                    }
                    self.advance(&frame)?;
                }
            }
        }
    }

    fn advance(&mut self, frame: &VideoFrame) -> Result<(), StageError> {
        self.end = self
            .end
            .max(frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1)));
        let faces = self.stage.advance(frame)?;
        self.send(AlignInput::Faces(faces))
    }

    /// The subjects that are still there are lost now.
    fn finish(&mut self, ended: bool) -> Result<(), StageError> {
        let changes = self.stage.finish(self.end);
        if !changes.is_empty() {
            self.send(AlignInput::Faces(FramedFaces {
                time: self.end,
                picture_size: [0, 0],
                faces: Vec::new(),
                changes,
            }))?;
        }
        self.send(if ended {
            AlignInput::FacesEnded
        } else {
            AlignInput::FacesLost
        })
    }

    fn send(&self, input: AlignInput) -> Result<(), StageError> {
        self.inbox
            .send(input)
            .map(|_| ())
            .map_err(|_| StageError::Gone("aligner"))
    }
}

/// The answer to the request for the frame of this time; earlier requests' answers, for frames that are still ahead, are kept in `early`.
fn answer_for(
    time: MediaTime,
    answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
    early: &mut VecDeque<(MediaTime, Vec<Detection>)>,
) -> Result<Vec<Detection>, StageError> {
    if let Some(index) = early.iter().position(|(at, _)| *at == time) {
        return Ok(early.remove(index).expect("just found").1);
    }
    loop {
        match answers.recv(None) {
            Received::Item((at, detections)) if at == time => return Ok(detections),
            Received::Item(other) => early.push_back(other),
            Received::Ended | Received::TimedOut => return Err(StageError::Gone("detector")),
        }
    }
}

/// The detector's thread.
pub(super) fn detect(
    mut detector: Detector,
    requests: &LaneReceiver<VideoFrame>,
    answers: &LaneSender<(MediaTime, Vec<Detection>)>,
    busy: &AtomicBool,
    beat: &Beat,
) -> Result<(), StageError> {
    loop {
        beat.beat();
        match requests.recv(Some(TICK)) {
            Received::TimedOut => {}
            Received::Ended => return Ok(()),
            Received::Item(frame) => {
                let detections = detector.detect(&frame.picture)?;
                busy.store(false, Ordering::Release);
                if answers.send((frame.time, detections)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}
