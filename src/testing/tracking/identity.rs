//! The identity metrics (Ristani et al. 2016): they count boxes with the right identity, under the
//! best one-to-one assignment of whole tracks to true persons.

use super::{EPSILON, MATCHED, Sequence, best_pairs, share};

/// Counts of boxes over a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Number of true boxes that are matched by the track that is assigned to the person.
    right: usize,
    /// Number of true boxes.
    boxes: usize,
    /// Number of boxes of all tracks.
    tracked: usize,
}

impl Identity {
    /// IDP: right boxes divided by the boxes of the tracks.
    pub fn precision(&self) -> f64 {
        share(self.right as f64, self.tracked as f64)
    }

    /// IDR: right boxes divided by the true boxes.
    pub fn recall(&self) -> f64 {
        share(self.right as f64, self.boxes as f64)
    }

    /// IDF1: harmonic mean of IDP and IDR.
    pub fn f1(&self) -> f64 {
        share(2.0 * self.right as f64, (self.boxes + self.tracked) as f64)
    }
}

/// Assigns tracks to true persons and counts the right boxes.
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
    // Boxes that are not matched count the same for each assignment, so the best assignment has the
    // most matched boxes.
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
