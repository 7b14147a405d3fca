//! What the face detectors have in common: the type of a detected face, settings, and the shrinking
//! of large pictures.

use super::image::RgbImage;
use crate::clip::{Landmarks, Picture, Rect};
use crate::encode::EncodeError;

/// Settings of the face detector, [`super::Detector`].
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorSettings {
    /// Side of the smallest face to detect, divided by the picture's longer side. In pixels, it is
    /// at least 20.
    pub min_face_share: f32,
    /// Lowest face probability (0..1) that each of MTCNN's three networks accepts.
    pub thresholds: [f32; 3],
    /// Size of a level of MTCNN's image pyramid, divided by the size of the previous level.
    pub pyramid_factor: f64,
    /// Number of threads for each network.
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
    /// Side of the smallest face to detect in `picture`, in pixels.
    pub(super) fn min_face_px(&self, picture: &Picture) -> f32 {
        (picture.width.max(picture.height) as f32 * self.min_face_share).max(20.0)
    }
}

/// A detected face, in pixels of its picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    pub rect: Rect,
    /// Probability of a face, 0..1.
    pub score: f32,
    pub landmarks: Landmarks,
}

impl Detection {
    /// The detection after the picture is scaled by `factor`, for width and height.
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

/// Shrinks `picture` by the largest of the factors 4, 2 and 1 with which a face of `min_face_px`
/// keeps `shrunk_face_px` pixels, into the buffer `copy`. Calls `detect` with the shrunk picture
/// and the smallest face's size in it. Returns the detections in pixels of `picture`.
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
