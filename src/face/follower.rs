//! The networks that follow faces from frame to frame.

use std::path::Path;

use super::detection::Detection;
use super::mtcnn::is_mtcnn;
use super::pose::detected_facing;
use super::refine::Refiner;
use super::yunet::CropDetector;
use crate::encode::{EncodeError, Provider, Runtime};

/// The networks that follow faces from frame to frame.
#[derive(Debug)]
pub struct Follower {
    pub(super) refiner: Refiner,
    /// Finds a face where the refiner recognises none. Not with MTCNN as detector: what MTCNN
    /// finds, its last network recognises.
    pub(super) crops: Option<CropDetector>,
}

impl Follower {
    /// Opens `onet.onnx` in `tracker`, and `yunet.onnx` in `detector` if that is the detector
    /// there.
    ///
    /// # Errors
    /// A graph that is missing, is another than its `provenance.toml` says, or cannot be opened.
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

    /// 1 for a detected face towards the camera, 0 for a profile. Always 1 with MTCNN, beside which
    /// the tracker's landmarks alone decide.
    pub(super) fn facing(&self, detection: &Detection) -> f32 {
        if self.crops.is_some() {
            detected_facing(&detection.landmarks)
        } else {
            1.0
        }
    }
}
