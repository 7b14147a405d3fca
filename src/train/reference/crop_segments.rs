//! The reference's division of a clip into face crops (`src/train/method.md` a.3;
//! `src/utils/crop_face_util.py`): a state machine over one box per frame.
//!
//! The reference's defects are kept. The last segment is cut from the whole clip instead of from
//! its own frames. A clip without a face is cut to the whole picture if it has more than ten
//! frames. The last frame is never used.

/// A segment is kept if it has more frames than this.
const SHORTEST_FRAMES: usize = 10;
/// The clip is not divided further once it has more segments than this.
const MOST_SEGMENTS: usize = 30;

/// The edges of a box, in pixels of the picture: the detector's values rounded towards zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    pub left: i64,
    pub top: i64,
    pub right: i64,
    pub bottom: i64,
}

impl Edges {
    /// Whether two boxes overlap or touch.
    fn overlaps(&self, other: &Edges) -> bool {
        self.left <= other.right
            && self.right >= other.left
            && self.top <= other.bottom
            && self.bottom >= other.top
    }

    /// Whether all edges are 0, which is the reference's value for no box.
    fn is_zero(&self) -> bool {
        *self
            == Edges {
                left: 0,
                top: 0,
                right: 0,
                bottom: 0,
            }
    }
}

/// Consecutive frames of a clip that are cut to the same region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the first frame and index after the last frame, as the reference counts them.
    /// `None`: all frames of the clip, which is the reference's defect for the last segment.
    pub frames: Option<[usize; 2]>,
    /// The union of the segment's boxes, limited to the picture, in pixels. Without a box: inverted
    /// edges (left and top are width and height, right and bottom are 0).
    pub union: Edges,
}

impl Segment {
    /// The region that is cut from each frame of `width` x `height` pixels: the union, limited to
    /// the frame. Inverted edges give the whole frame.
    pub fn region(&self, width: i64, height: i64) -> Edges {
        let (left, right) = (self.union.left.max(0), self.union.right.min(width));
        let (top, bottom) = (self.union.top.max(0), self.union.bottom.min(height));
        Edges {
            left: left.min(right),
            top: top.min(bottom),
            right: left.max(right),
            bottom: top.max(bottom),
        }
    }
}

/// The segments of a clip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The segments in order.
    pub segments: Vec<Segment>,
    /// Width and height in pixels to which all segments are resized before they are joined: the
    /// largest of their unions.
    pub size: [i64; 2],
}

/// Divides a clip of `width` x `height` pixels into segments with overlapping boxes.
///
/// `boxes`: the most probable box (left, top, right, bottom) of each frame that can be read, in
/// pixels; `None` for a frame without a face. `frames`: the number of frames that the container
/// states.
pub fn cut(boxes: &[Option<[f64; 4]>], frames: usize, width: i64, height: i64) -> Cut {
    let mut cut = Cut::default();
    let nothing = Edges {
        left: width,
        top: height,
        right: 0,
        bottom: 0,
    };
    let mut union = nothing;
    let mut previous: Option<Edges> = None;
    let mut start = 0;
    // The reference numbers frames from 1, by the reader's position after reading. Therefore
    // `frames - 1` is the frame before the last.
    for (number, found) in (1..frames).zip(boxes) {
        let is_last = number + 1 == frames;
        if let (Some(edges), false) = (found, is_last) {
            let [left, top, right, bottom] = edges.map(|edge| edge as i64);
            let edges = Edges {
                left,
                top,
                right,
                bottom,
            };
            if previous.is_none_or(|p| p.overlaps(&edges)) {
                union = Edges {
                    left: union.left.min(left).max(0),
                    top: union.top.min(top).max(0),
                    right: union.right.max(right).min(width),
                    bottom: union.bottom.max(bottom).min(height),
                };
                // In the reference a box of zeros means that there is no box.
                previous = Some(edges).filter(|e| !e.is_zero());
            } else if number - start > SHORTEST_FRAMES {
                cut.close(Some([start, number]), union);
                // The box that ended the segment belongs to no segment.
                (start, union, previous) = (number, nothing, None);
            } else {
                continue;
            }
        }
        if is_last {
            if number - start > SHORTEST_FRAMES {
                cut.close(None, union);
            }
            break;
        }
        if cut.segments.len() > MOST_SEGMENTS {
            break;
        }
    }
    cut
}

impl Cut {
    /// Adds a segment, and enlarges the common size to its union.
    fn close(&mut self, frames: Option<[usize; 2]>, union: Edges) {
        self.segments.push(Segment { frames, union });
        self.size = [
            self.size[0].max(union.right - union.left),
            self.size[1].max(union.bottom - union.top),
        ];
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn number(value: &Value) -> i64 {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{value} is no number")) as i64
    }

    #[test]
    fn segments_equal_those_of_the_reference() {
        let golden = crate::testing::golden("face_crop_segments.json");
        let cases = golden["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let name = &case["case"];
            let corners = |found: &Value| {
                found
                    .as_array()
                    .map(|b| [0, 1, 2, 3].map(|k| b[k].as_f64().unwrap()))
            };
            let boxes: Vec<_> = case["boxes_x1y1x2y2"]
                .as_array()
                .unwrap()
                .iter()
                .map(corners)
                .collect();
            let cut = cut(
                &boxes,
                boxes.len(),
                number(&case["frame_w"]),
                number(&case["frame_h"]),
            );
            assert_eq!(
                cut.segments.len() as i64,
                number(&case["segments"]),
                "{name}"
            );
            assert_eq!(
                cut.size,
                [number(&case["result_w"]), number(&case["result_h"])],
                "{name}"
            );
            let expected: Vec<_> = case["coordinates_x1_x2_y1_y2"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| [0, 1, 2, 3].map(|k| number(&c[k])))
                .collect();
            let unions: Vec<_> = cut
                .segments
                .iter()
                .map(|s| [s.union.left, s.union.right, s.union.top, s.union.bottom])
                .collect();
            assert_eq!(unions, expected, "{name}");
            let calls = case["calls"].as_array().unwrap();
            assert_eq!(calls.len(), cut.segments.len(), "{name}");
            for (call, segment) in calls.iter().zip(&cut.segments) {
                let frames = call
                    .get("start")
                    .map(|start| [number(start) as usize, number(&call["end"]) as usize]);
                assert_eq!(segment.frames, frames, "{name}");
                let union = ["x1", "y1", "x2", "y2"].map(|k| number(&call[k]));
                assert_eq!(
                    [
                        segment.union.left,
                        segment.union.top,
                        segment.union.right,
                        segment.union.bottom
                    ],
                    union,
                    "{name}"
                );
            }
        }
    }

    /// Two boxes that do not overlap.
    const A: Option<[f64; 4]> = Some([10.0, 8.0, 30.0, 34.0]);
    const B: Option<[f64; 4]> = Some([45.0, 5.0, 60.0, 30.0]);

    #[test]
    fn a_clip_without_a_face_gives_the_whole_picture_and_a_short_clip_no_segment() {
        let blank = cut(&[None; 20], 20, 64, 48);
        assert_eq!(
            blank.segments[0].region(64, 48),
            Edges {
                left: 0,
                top: 0,
                right: 64,
                bottom: 48
            }
        );
        assert_eq!(blank.size, [0, 0]);
        for frames in [0, 1, 8, 11] {
            assert_eq!(cut(&vec![A; frames], frames, 64, 48), Cut::default());
        }
        assert_eq!(cut(&[A; 12], 12, 64, 48).segments.len(), 1);
    }

    #[test]
    fn division_stops_above_thirty_segments() {
        // The boxes change every eleven frames, so that each change ends a segment.
        let boxes: Vec<_> = (0..600)
            .map(|i| if (i / 11) % 2 == 0 { A } else { B })
            .collect();
        let cut = cut(&boxes, boxes.len(), 64, 48);
        assert_eq!(cut.segments.len(), 31);
        assert!(cut.segments.iter().all(|s| s.frames.is_some()));
    }

    #[test]
    fn a_truncated_clip_loses_its_last_segment() {
        assert_eq!(cut(&[A; 20], 40, 64, 48), Cut::default());
    }

    #[test]
    fn boxes_are_rounded_to_pixels_and_limited_to_the_picture() {
        let boxes = vec![Some([-3.7, 2.9, 70.2, 47.99]); 20];
        assert_eq!(
            cut(&boxes, 20, 64, 48).segments[0].union,
            Edges {
                left: 0,
                top: 2,
                right: 64,
                bottom: 47
            }
        );
    }
}
