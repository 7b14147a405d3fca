//! Changes of the picture size within a stream: coordinates are rescaled.

use super::detection::Detection;
use crate::clip::Rect;
use crate::time::MediaTime;

/// The size of the pictures of a stream, and its last change.
#[derive(Clone, Debug, Default)]
pub struct PictureSize {
    size: Option<[usize; 2]>,
    /// First frame of this size, and this size over the previous one, per axis.
    changed: Option<(MediaTime, [f32; 2])>,
}

impl PictureSize {
    /// Notes the size of the frame at `now`, in pixels. Returns the ratio to the previous size, per
    /// axis, if it changed.
    pub fn update(&mut self, now: MediaTime, size: [usize; 2]) -> Option<[f32; 2]> {
        let before = self.size.replace(size)?;
        if before == size || before.contains(&0) {
            return None;
        }
        let factor = std::array::from_fn(|k| size[k] as f32 / before[k] as f32);
        self.changed = Some((now, factor));
        Some(factor)
    }

    /// Scales detections of the frame at `at`, which may precede the last change, to the present
    /// size.
    pub fn rescale(&self, at: MediaTime, detections: &mut [Detection]) {
        let Some((_, factor)) = self.changed.filter(|(changed, _)| at < *changed) else {
            return;
        };
        for detection in detections {
            *detection = detection.scaled(factor);
        }
    }
}

impl Rect {
    /// The box in a picture that is scaled by `factor`, per axis.
    pub(super) fn scaled(&self, factor: [f32; 2]) -> Rect {
        Rect {
            x: self.x * factor[0],
            y: self.y * factor[1],
            w: self.w * factor[0],
            h: self.h * factor[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_of_before_a_change_are_brought_to_the_new_size() {
        let at = |ms: i64| MediaTime::from_nanos(ms * 1_000_000);
        let mut size = PictureSize::default();
        assert_eq!(size.update(at(0), [320, 240]), None);
        assert_eq!(size.update(at(40), [320, 240]), None);
        assert_eq!(size.update(at(80), [640, 120]), Some([2.0, 0.5]));
        let rect = Rect {
            x: 10.0,
            y: 20.0,
            w: 30.0,
            h: 40.0,
        };
        let found = Detection {
            rect,
            landmarks: [[1.0, 2.0]; 5],
            score: 0.9,
        };
        let mut detections = [found];
        size.rescale(at(80), &mut detections);
        assert_eq!(detections[0].rect, rect);
        size.rescale(at(40), &mut detections);
        assert_eq!(detections[0].rect, rect.scaled([2.0, 0.5]));
        assert_eq!(detections[0].landmarks, [[2.0, 1.0]; 5]);
    }
}
