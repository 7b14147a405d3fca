//! Face detection in whole pictures, by [`YuNet`] or [`Mtcnn`].

use std::path::Path;

use super::detection::{Detection, DetectorSettings};
use super::mtcnn::{Mtcnn, is_mtcnn};
use super::yunet::YuNet;
use crate::clip::Picture;
use crate::encode::{EncodeError, Provider, Runtime};

/// A face detector for whole pictures. Owned by one thread.
#[derive(Debug)]
pub enum Detector {
    YuNet(Box<YuNet>),
    Mtcnn(Box<Mtcnn>),
}

impl Detector {
    /// Opens the detector in the folder `dir`: MTCNN if it has a `pnet.onnx`, else YuNet.
    ///
    /// # Errors
    /// A graph is missing, does not match its `provenance.toml`, or cannot be opened.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        provider: Provider,
        settings: DetectorSettings,
    ) -> Result<Detector, EncodeError> {
        Ok(if is_mtcnn(dir) {
            Detector::Mtcnn(Box::new(Mtcnn::open(runtime, dir, provider, settings)?))
        } else {
            Detector::YuNet(Box::new(YuNet::open(runtime, dir, provider, settings)?))
        })
    }

    /// The detector's name in the literature.
    pub fn name(&self) -> &'static str {
        match self {
            Detector::YuNet(_) => "YuNet",
            Detector::Mtcnn(_) => "MTCNN",
        }
    }

    /// All faces, highest score first, in pixels of `picture`.
    ///
    /// # Errors
    /// A graph fails, or its outputs have other shapes.
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<Detection>, EncodeError> {
        match self {
            Detector::YuNet(yunet) => yunet.detect(picture),
            Detector::Mtcnn(mtcnn) => mtcnn.detect(picture),
        }
    }
}
