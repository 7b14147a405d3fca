//! The metric HOTA (Luiten et al. 2021): the geometric mean of detection and association accuracy,
//! averaged over 19 localisation thresholds.

use super::{EPSILON, Sequence, best_pairs, share};

/// Number of IoU thresholds: 0.05, 0.10, ..., 0.95.
const THRESHOLDS: usize = 19;

/// The IoU threshold at `index`.
fn threshold(index: usize) -> f64 {
    (index + 1) as f64 * 0.05
}

/// The metrics, each averaged over the thresholds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hota {
    /// Higher-order tracking accuracy: the geometric mean of `det_a` and `ass_a` at each threshold.
    pub hota: f64,
    /// Detection accuracy: matches divided by the sum of matches, misses and false positives.
    pub det_a: f64,
    /// Association accuracy: the mean over all matches of the Jaccard index of person and track.
    /// The index is the number of frames in which they are matched, divided by the number of frames
    /// in which either is present.
    pub ass_a: f64,
    /// Localisation accuracy: mean IoU of the matches; 1 without a match.
    pub loc_a: f64,
}

/// A value for each pair of true person and track, `[truth][track]`.
type Table = Vec<Vec<f64>>;

/// Soft Jaccard index of each pair of true person and track over the sequence, computed before
/// boxes are matched one to one. With it the matching of a frame prefers pairs that belong together
/// in the whole sequence. `truths` and `tracks` are the numbers of boxes.
fn alignment(sequence: &Sequence, truths: &[usize], tracks: &[usize]) -> Table {
    let mut together = vec![vec![0.0; tracks.len()]; truths.len()];
    for frame in &sequence.frames {
        let sum_of_truth: Vec<f64> = frame.iou.iter().map(|row| row.iter().sum()).collect();
        let sum_of_track: Vec<f64> = (0..frame.tracks.len())
            .map(|track| frame.iou.iter().map(|row| row[track]).sum())
            .collect();
        for (i, truth) in frame.truths.iter().enumerate() {
            for (j, track) in frame.tracks.iter().enumerate() {
                let iou = frame.iou[i][j];
                let either = sum_of_truth[i] + sum_of_track[j] - iou;
                if either > EPSILON {
                    together[*truth][*track] += iou / either;
                }
            }
        }
    }
    for (row, of_truth) in together.iter_mut().zip(truths) {
        for (together, of_track) in row.iter_mut().zip(tracks) {
            *together /= (of_truth + of_track) as f64 - *together;
        }
    }
    together
}

/// Computes HOTA and its parts.
pub(super) fn hota(sequence: &Sequence) -> Hota {
    let [truths, tracks] = sequence.lengths();
    let alignment = alignment(sequence, &truths, &tracks);
    let mut matched = vec![vec![vec![0usize; tracks.len()]; truths.len()]; THRESHOLDS];
    let mut iou_sums = [0.0; THRESHOLDS];
    for frame in &sequence.frames {
        let pairs = best_pairs(frame.truths.len(), frame.tracks.len(), |i, j| {
            alignment[frame.truths[i]][frame.tracks[j]] * frame.iou[i][j]
        });
        for (i, j) in pairs {
            let (truth, track, iou) = (frame.truths[i], frame.tracks[j], frame.iou[i][j]);
            for t in (0..THRESHOLDS).filter(|t| iou >= threshold(*t) - EPSILON) {
                matched[t][truth][track] += 1;
                iou_sums[t] += iou;
            }
        }
    }
    let boxes = truths.iter().sum::<usize>() + tracks.iter().sum::<usize>();
    let mut means = Hota::default();
    for (matched, iou_sum) in matched.iter().zip(iou_sums) {
        let (mut matches, mut association) = (0, 0.0);
        for (row, of_truth) in matched.iter().zip(&truths) {
            for (both, of_track) in row.iter().zip(&tracks) {
                matches += both;
                association += (both * both) as f64 / (of_truth + of_track - both).max(1) as f64;
            }
        }
        let det_a = share(matches as f64, (boxes - matches) as f64);
        let ass_a = association / matches.max(1) as f64;
        means.hota += (det_a * ass_a).sqrt() / THRESHOLDS as f64;
        means.det_a += det_a / THRESHOLDS as f64;
        means.ass_a += ass_a / THRESHOLDS as f64;
        means.loc_a += share(iou_sum, matches as f64) / THRESHOLDS as f64;
    }
    means
}
