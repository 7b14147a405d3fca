//! Candidate boxes of the cascade: regression, squares, suppression of overlaps. Coordinates as the reference has them, corners in pixels.

/// A box that a network of the cascade proposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// `x1, y1, x2, y2`.
    pub corners: [f32; 4],
    pub score: f32,
    /// What the network wants the corners moved by, in shares of width and height.
    pub regression: [f32; 4],
}

impl Candidate {
    /// Moves the corners by the regression; sides count `extent` pixels more than the corners' distance (the first network's 0, the
    /// others' 1).
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

    /// The square of the longer side around the same centre.
    pub fn square(&mut self) {
        let [x1, y1, x2, y2] = self.corners;
        let (w, h) = (x2 - x1, y2 - y1);
        let side = w.max(h);
        let (x, y) = (x1 + w * 0.5 - side * 0.5, y1 + h * 0.5 - side * 0.5);
        self.corners = [x, y, x + side, y + side];
    }
}

/// What two boxes have in common, against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    Union,
    /// The smaller of both; sides count both border pixels.
    Smaller,
}

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

/// Keeps the best of those that overlap by more than `threshold`; the result is sorted, best first, the earlier first among equals.
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
        fn survivors_do_not_overlap_and_every_victim_has_a_better_one(
            boxes in prop::collection::vec((0.0f32..100.0, 0.0f32..100.0, 1.0f32..50.0, 1.0f32..50.0, 0.0f32..1.0), 0..40),
            threshold in 0.1f32..0.9,
        ) {
            let all: Vec<Candidate> = boxes.iter().map(|(x, y, w, h, score)| Candidate { corners: [*x, *y, x + w, y + h], score: *score, regression: [0.0; 4] }).collect();
            let kept = suppress(all.clone(), threshold, Overlap::Union);
            for (i, a) in kept.iter().enumerate() {
                for b in &kept[i + 1..] {
                    prop_assert!(overlap(&a.corners, &b.corners, Overlap::Union) <= threshold && a.score >= b.score);
                }
            }
            for c in &all {
                prop_assert!(kept.iter().any(|k| k == c || (k.score >= c.score && overlap(&k.corners, &c.corners, Overlap::Union) > threshold)));
            }
        }
    }
}
