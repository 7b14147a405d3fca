//! Boxes that MTCNN's networks propose: regression, squares, non-maximum suppression. As in
//! facenet-pytorch, a box is given by its corners in pixels.

/// A box that one of MTCNN's networks proposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Top left and bottom right corner `x1, y1, x2, y2`, in pixels.
    pub corners: [f32; 4],
    /// Probability of a face, 0..1.
    pub score: f32,
    /// Corrections of `x1, y1, x2, y2` by the network, as shares of the box's width and height.
    pub regression: [f32; 4],
}

impl Candidate {
    /// Moves the corners by `regression`. The box's width and height are the distances of its
    /// corners plus `extent` pixels: 0 for MTCNN's first network, 1 for the other two.
    pub fn regress(&mut self, extent: f32) {
        let [x1, y1, x2, y2] = self.corners;
        let (w, h) = (x2 - x1 + extent, y2 - y1 + extent);
        for (corner, (move_by, side)) in self
            .corners
            .iter_mut()
            .zip(self.regression.iter().zip([w, h, w, h]))
        {
            *corner += move_by * side;
        }
    }

    /// Replaces the box by a square with the same centre, whose side is the box's longer side.
    pub fn square(&mut self) {
        let [x1, y1, x2, y2] = self.corners;
        let (w, h) = (x2 - x1, y2 - y1);
        let side = w.max(h);
        let (x, y) = (x1 + w * 0.5 - side * 0.5, y1 + h * 0.5 - side * 0.5);
        self.corners = [x, y, x + side, y + side];
    }
}

/// The area that the intersection of two boxes is divided by, to measure their overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The area of the union.
    Union,
    /// The area of the smaller box. Widths and heights include both border pixels.
    Smaller,
}

/// Overlap of two boxes `x1, y1, x2, y2`, 0..1.
fn overlap(a: &[f32; 4], b: &[f32; 4], against: Overlap) -> f32 {
    let extent = if against == Overlap::Smaller {
        1.0
    } else {
        0.0
    };
    let area = |c: &[f32; 4]| (c[2] - c[0] + extent) * (c[3] - c[1] + extent);
    let w = (a[2].min(b[2]) - a[0].max(b[0]) + extent).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1]) + extent).max(0.0);
    let common = w * h;
    match against {
        Overlap::Union => common / (area(a) + area(b) - common),
        Overlap::Smaller => common / area(a).min(area(b)),
    }
}

/// Non-maximum suppression: of boxes that overlap by more than `threshold`, only the one with the
/// highest score is kept. The result is sorted by score, highest first; ties keep their order.
pub fn suppress(
    mut candidates: Vec<Candidate>,
    threshold: f32,
    against: Overlap,
) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        if kept
            .iter()
            .all(|k| overlap(&k.corners, &candidate.corners, against) <= threshold)
        {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn kept_boxes_do_not_overlap_and_each_suppressed_one_overlaps_a_better_one(
            boxes in prop::collection::vec(
                (0.0f32..100.0, 0.0f32..100.0, 1.0f32..50.0, 1.0f32..50.0, 0.0f32..1.0),
                0..40,
            ),
            threshold in 0.1f32..0.9,
        ) {
            let all: Vec<Candidate> = boxes
                .iter()
                .map(|(x, y, w, h, score)| Candidate {
                    corners: [*x, *y, x + w, y + h],
                    score: *score,
                    regression: [0.0; 4],
                })
                .collect();
            let kept = suppress(all.clone(), threshold, Overlap::Union);
            for (i, a) in kept.iter().enumerate() {
                for b in &kept[i + 1..] {
                    prop_assert!(
                        overlap(&a.corners, &b.corners, Overlap::Union) <= threshold
                            && a.score >= b.score
                    );
                }
            }
            for c in &all {
                prop_assert!(kept.iter().any(|k| k == c
                    || (k.score >= c.score
                        && overlap(&k.corners, &c.corners, Overlap::Union) > threshold)));
            }
        }
    }
}
