//! A detected face, and the common parts of the detectors: settings and the shrinking of large
//! pictures.

use super::image::RgbImage;
use crate::clip::{Landmarks, Picture, Rect};
use crate::encode::EncodeError;

/// Settings of [`super::Detector`].
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorSettings {
    /// Smallest face to detect, as a share of the picture's longer side; at least 20 px.
    pub min_face_share: f32,
    /// Probability thresholds of MTCNN's three networks.
    pub thresholds: [f32; 3],
    /// Scale from one level of MTCNN's image pyramid to the next.
    pub pyramid_factor: f64,
    /// Threads per network.
    pub threads: usize,
}

impl Default for DetectorSettings {
    fn default() -> Self {
        DetectorSettings {
            min_face_share: 1.0 / 16.0,
            thresholds: [0.6, 0.7, 0.7],
            pyramid_factor: 0.709,
            threads: 1,
        }
    }
}

impl DetectorSettings {
    /// The smallest face in pixels of this picture.
    pub(super) fn min_face_px(&self, picture: &Picture) -> f32 {
        (picture.width.max(picture.height) as f32 * self.min_face_share).max(20.0)
    }
}

/// A detected face, in pixels of its picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    pub rect: Rect,
    /// Probability, 0..1.
    pub score: f32,
    pub landmarks: Landmarks,
}

impl Detection {
    /// The detection in a picture scaled by `factor`, per axis.
    pub(super) fn scaled(mut self, factor: [f32; 2]) -> Detection {
        self.rect = self.rect.scaled(factor);
        for point in &mut self.landmarks {
            for k in 0..2 {
                point[k] *= factor[k];
            }
        }
        self
    }
}

/// Detects in a copy of `picture`, shrunk by 4, 2 or 1 per axis so that its smallest face keeps
/// `shrunk_face_px` pixels. `detect` gets the copy and that face's size in it. The detections are
/// in pixels of `picture`.
pub(super) fn in_shrunk(
    picture: &Picture,
    min_face_px: f32,
    shrunk_face_px: f32,
    copy: &mut RgbImage,
    detect: impl FnOnce(&RgbImage, f32) -> Result<Vec<Detection>, EncodeError>,
) -> Result<Vec<Detection>, EncodeError> {
    let shrink = [4, 2]
        .into_iter()
        .find(|s| min_face_px / *s as f32 >= shrunk_face_px)
        .unwrap_or(1);
    copy.fill_from(picture, shrink);
    let found = detect(copy, min_face_px / shrink as f32)?;
    let scale = [shrink as f32; 2];
    Ok(found.into_iter().map(|d| d.scaled(scale)).collect())
}
