//! Metrics of multiple-object tracking against ground truth.
//!
//! | figures | definition |
//! |---|---|
//! | MOTA, MOTP, identity switches, fragmentations | CLEAR MOT (Bernardin and Stiefelhagen 2008) |
//! | IDF1, IDP, IDR | identity metrics (Ristani et al. 2016) |
//! | HOTA, DetA, AssA, LocA | higher order tracking accuracy (Luiten et al. 2021) |
//!
//! Where the papers leave a choice, the metrics follow TrackEval, the code of HOTA's authors:
//! `tests/golden/make_tracking_metrics.py` computes a random sequence with TrackEval and
//! py-motmetrics, and a test compares all metrics. Similarity is the intersection over union (IoU);
//! CLEAR MOT and the identity metrics need at least [`MATCHED`]. MOTP is the mean IoU of the
//! matches, so that more is better.
//!
//! Boxes that the tracker need not find, such as an occluded face, are [`AnnotatedFrame::ignored`].
//! As in the MOT Challenge, neither such a box nor a track on it counts.

mod assignment;
mod clear;
mod hota;
mod identity;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clip::Rect;
use assignment::best_pairs;

/// Lowest IoU of a match in CLEAR MOT and in the identity metrics.
pub const MATCHED: f64 = 0.5;
/// Tolerance in comparisons of an IoU with a threshold.
const EPSILON: f64 = f64::EPSILON;

/// A box with an identity: a true person, or a track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelledBox {
    /// Identity, unique in its frame and list.
    pub id: u32,
    /// Position in pixels.
    pub rect: Rect,
}

/// The true boxes of one frame, and the tracker's output. An id occurs at most once in each list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnnotatedFrame {
    /// Boxes of persons that the tracker should find.
    pub truth: Vec<LabelledBox>,
    /// True boxes that do not count, whether the tracker finds them or not.
    pub ignored: Vec<Rect>,
    /// Boxes of the tracker's output.
    pub tracked: Vec<LabelledBox>,
}

/// The frames of one or more recordings, in order.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    frames: Vec<IndexedFrame>,
    /// Index of each true person, by (recording, id).
    truths: BTreeMap<(usize, u32), usize>,
    /// Index of each track, by (recording, id).
    tracks: BTreeMap<(usize, u32), usize>,
    /// Number of recordings.
    recordings: usize,
}

/// The boxes of one frame, and the IoU of each pair of true box and track.
#[derive(Clone, Debug, Default)]
struct IndexedFrame {
    /// Indices of the true persons in the frame.
    truths: Vec<usize>,
    /// Indices of the tracks in the frame.
    tracks: Vec<usize>,
    /// `[truth][track]`, in the order of `truths` and `tracks`.
    iou: Vec<Vec<f64>>,
}

/// All metrics of a sequence; see the module for their definitions. Shares are in [0, 1], except
/// MOTA, which is at most 1 and may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Number of true boxes.
    pub boxes: usize,
    /// Number of true boxes without a match.
    pub misses: usize,
    /// Number of the tracker's boxes without a match.
    pub false_positives: usize,
    /// Number of identity switches (CLEAR MOT).
    pub switches: usize,
    /// Number of fragmentations (CLEAR MOT).
    pub fragmentations: usize,
    /// Multiple-object tracking accuracy.
    pub mota: f64,
    /// Multiple-object tracking precision: mean IoU of the matches.
    pub motp: f64,
    /// F1 score of the identities.
    pub idf1: f64,
    /// Precision of the identities.
    pub idp: f64,
    /// Recall of the identities.
    pub idr: f64,
    /// Higher-order tracking accuracy.
    pub hota: f64,
    /// Detection accuracy of HOTA.
    pub det_a: f64,
    /// Association accuracy of HOTA.
    pub ass_a: f64,
    /// Localisation accuracy of HOTA.
    pub loc_a: f64,
}

impl Sequence {
    /// Appends the frames of a recording. Its ids are unrelated to those of other recordings.
    pub fn append(&mut self, frames: &[AnnotatedFrame]) {
        let recording = self.recordings;
        self.recordings += 1;
        for frame in frames {
            let tracked = frame.counted_tracks();
            let index = |ids: &mut BTreeMap<_, usize>, boxes: &[LabelledBox]| -> Vec<usize> {
                let next = |id: u32| {
                    let count = ids.len();
                    *ids.entry((recording, id)).or_insert(count)
                };
                boxes.iter().map(|b| b.id).map(next).collect()
            };
            self.frames.push(IndexedFrame {
                truths: index(&mut self.truths, &frame.truth),
                tracks: index(&mut self.tracks, &tracked),
                iou: overlaps(frame.truth.iter().map(|b| &b.rect), &tracked),
            });
        }
    }

    /// Computes all metrics of the sequence.
    ///
    /// # Panics
    /// The sequence has no true box.
    pub fn figures(&self) -> Figures {
        let clear = clear::clear(self);
        assert!(clear.boxes > 0, "figures need a truth");
        let identity = identity::identity(self);
        let hota = hota::hota(self);
        Figures {
            boxes: clear.boxes,
            misses: clear.misses,
            false_positives: clear.false_positives,
            switches: clear.switches,
            fragmentations: clear.fragmentations,
            mota: clear.mota(),
            motp: clear.motp(),
            idf1: identity.f1(),
            idp: identity.precision(),
            idr: identity.recall(),
            hota: hota.hota,
            det_a: hota.det_a,
            ass_a: hota.ass_a,
            loc_a: hota.loc_a,
        }
    }

    /// [Number of boxes of each true person, number of boxes of each track], by index.
    fn lengths(&self) -> [Vec<usize>; 2] {
        let mut lengths = [vec![0; self.truths.len()], vec![0; self.tracks.len()]];
        for frame in &self.frames {
            frame.truths.iter().for_each(|t| lengths[0][*t] += 1);
            frame.tracks.iter().for_each(|t| lengths[1][*t] += 1);
        }
        lengths
    }
}

impl Figures {
    /// The metrics with shares rounded to three decimals.
    pub fn rounded(self) -> Figures {
        let three = |share: f64| (share * 1000.0).round() / 1000.0;
        Figures {
            mota: three(self.mota),
            motp: three(self.motp),
            idf1: three(self.idf1),
            idp: three(self.idp),
            idr: three(self.idr),
            hota: three(self.hota),
            det_a: three(self.det_a),
            ass_a: three(self.ass_a),
            loc_a: three(self.loc_a),
            ..self
        }
    }
}

impl AnnotatedFrame {
    /// The tracks, except those that are matched to an ignored box.
    fn counted_tracks(&self) -> Vec<LabelledBox> {
        let all = self.truth.iter().map(|b| &b.rect).chain(&self.ignored);
        let iou = overlaps(all, &self.tracked);
        let pairs = best_pairs(iou.len(), self.tracked.len(), |truth, track| {
            at_least(iou[truth][track], MATCHED)
        });
        let on_ignored = |track: usize| {
            pairs
                .iter()
                .any(|(truth, t)| *t == track && *truth >= self.truth.len())
        };
        let tracked = self.tracked.iter().enumerate();
        tracked
            .filter(|(track, _)| !on_ignored(*track))
            .map(|(_, b)| *b)
            .collect()
    }
}

/// The IoU if it is at least `threshold`, else 0.
fn at_least(iou: f64, threshold: f64) -> f64 {
    if iou >= threshold - EPSILON { iou } else { 0.0 }
}

/// The IoU of each pair, `[truth][track]`.
fn overlaps<'a>(truth: impl Iterator<Item = &'a Rect>, tracked: &[LabelledBox]) -> Vec<Vec<f64>> {
    truth
        .map(|rect| tracked.iter().map(|b| iou(rect, &b.rect)).collect())
        .collect()
}

/// Intersection over union as [`Rect::iou`], but in double precision as in TrackEval.
fn iou(a: &Rect, b: &Rect) -> f64 {
    let [ax, ay, aw, ah] = [a.x, a.y, a.w, a.h].map(f64::from);
    let [bx, by, bw, bh] = [b.x, b.y, b.w, b.h].map(f64::from);
    let w = ((ax + aw).min(bx + bw) - ax.max(bx)).max(0.0);
    let h = ((ay + ah).min(by + bh) - ay.max(by)).max(0.0);
    let union = aw * ah + bw * bh - w * h;
    if union > 0.0 { w * h / union } else { 0.0 }
}

/// `part / whole`; 1 if `whole` is 0, because then no error is possible.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 1.0 }
}

#[cfg(test)]
mod tests;
