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
    /// YuNet on crops, for faces that the refiner rejects. `None` if the detector is MTCNN, whose
    /// last network is the refiner itself.
    pub(super) crops: Option<CropDetector>,
}

impl Follower {
    /// Opens `onet.onnx` in the folder `tracker`, and `yunet.onnx` in the folder `detector` if
    /// YuNet is the detector.
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

    /// How far a detected face looks towards the camera: 1 for a frontal face, falling to 0 for a
    /// profile. Always 1 if the detector is MTCNN, because then only the tracker's landmarks
    /// decide.
    pub(super) fn facing(&self, detection: &Detection) -> f32 {
        if self.crops.is_some() {
            detected_facing(&detection.landmarks)
        } else {
            1.0
        }
    }
}
