//! The networks that track faces from frame to frame.

use std::path::Path;

use super::detection::Detection;
use super::mtcnn::is_mtcnn;
use super::pose::detected_facing;
use super::refine::Refiner;
use super::yunet::CropDetector;
use crate::encode::{EncodeError, Provider, Runtime};

/// The networks that track faces from frame to frame. Owned by one thread.
#[derive(Debug)]
pub struct Follower {
    pub(super) refiner: Refiner,
    /// Detects a face that the refiner rejects. `None` with MTCNN as detector: its last network is
    /// the refiner.
    pub(super) crops: Option<CropDetector>,
}

impl Follower {
    /// Opens `onet.onnx` in `tracker`, and `yunet.onnx` in `detector` if YuNet is the detector.
    ///
    /// # Errors
    /// A graph is missing, does not match its `provenance.toml`, or cannot be opened.
    pub fn open(
        runtime: &Runtime,
        tracker: &Path,
        detector: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<Follower, EncodeError> {
        Ok(Follower {
            refiner: Refiner::open(runtime, tracker, provider, threads)?,
            crops: if is_mtcnn(detector) {
                None
            } else {
                Some(CropDetector::open(runtime, detector, provider, threads)?)
            },
        })
    }

    /// 1 for a detected face towards the camera, 0 for a profile. Always 1 with MTCNN as detector,
    /// where the tracker's landmarks alone decide.
    pub(super) fn facing(&self, detection: &Detection) -> f32 {
        if self.crops.is_some() {
            detected_facing(&detection.landmarks)
        } else {
            1.0
        }
    }
}
