//! Identity metrics (Ristani et al. 2016): boxes with the right identity, under the best
//! one-to-one assignment of whole tracks to truths.

use super::{EPSILON, MATCHED, Sequence, best_pairs, share};

/// Counts over a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Boxes of a truth on which its assigned track lies.
    right: usize,
    boxes: usize,
    tracked: usize,
}

impl Identity {
    pub fn precision(&self) -> f64 {
        share(self.right as f64, self.tracked as f64)
    }

    pub fn recall(&self) -> f64 {
        share(self.right as f64, self.boxes as f64)
    }

    pub fn f1(&self) -> f64 {
        share(2.0 * self.right as f64, (self.boxes + self.tracked) as f64)
    }
}

pub(super) fn identity(sequence: &Sequence) -> Identity {
    let [truths, tracks] = sequence.lengths();
    let mut together = vec![vec![0usize; tracks.len()]; truths.len()];
    for frame in &sequence.frames {
        for (truth, row) in frame.truths.iter().zip(&frame.iou) {
            for (track, iou) in frame.tracks.iter().zip(row) {
                together[*truth][*track] += usize::from(*iou >= MATCHED - EPSILON);
            }
        }
    }
    // Boxes outside the matching count the same for each assignment, so the best one has most
    // boxes inside.
    let pairs = best_pairs(truths.len(), tracks.len(), |truth, track| {
        together[truth][track] as f64
    });
    Identity {
        right: pairs
            .iter()
            .map(|(truth, track)| together[*truth][*track])
            .sum(),
        boxes: truths.iter().sum(),
        tracked: tracks.iter().sum(),
    }
}
