//! Converts coordinates when the size of the pictures changes within a stream.

use super::detection::Detection;
use crate::clip::Rect;
use crate::time::MediaTime;

/// The current size of a stream's pictures, and its last change.
#[derive(Clone, Debug, Default)]
pub struct PictureSize {
    /// Width and height in pixels; `None` before the first frame.
    size: Option<[usize; 2]>,
    /// Time of the first frame with the current size, and the current size divided by the previous
    /// one, for width and height; `None` before a change.
    changed: Option<(MediaTime, [f32; 2])>,
}

impl PictureSize {
    /// Records the width and height in pixels of the frame at `now`. If they have changed, returns
    /// the new size divided by the previous one, for width and height.
    pub fn update(&mut self, now: MediaTime, size: [usize; 2]) -> Option<[f32; 2]> {
        let before = self.size.replace(size)?;
        if before == size || before.contains(&0) {
            return None;
        }
        let factor = std::array::from_fn(|k| size[k] as f32 / before[k] as f32);
        self.changed = Some((now, factor));
        Some(factor)
    }

    /// Converts detections of the frame at `at` to the current picture size, if the frame precedes
    /// the last change.
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
    /// The box after the picture is scaled by `factor`, for width and height.
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
    fn detections_from_before_a_change_are_converted_to_the_new_size() {
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
