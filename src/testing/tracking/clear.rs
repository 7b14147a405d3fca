//! The metrics CLEAR MOT (Bernardin and Stiefelhagen 2008).

use super::{MATCHED, Sequence, at_least, best_pairs, share};

/// Added to the weight of a match that continues the match of the previous frame. Other matches
/// have a weight of at most 1.
const CONTINUED: f64 = 1000.0;

/// Counts of errors and matches over a sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClearMot {
    /// Number of true boxes.
    pub boxes: usize,
    /// Number of matches.
    pub matches: usize,
    /// Number of true boxes without a match.
    pub misses: usize,
    /// Number of the tracker's boxes without a match.
    pub false_positives: usize,
    /// Number of matches whose track differs from that of the person's previous match.
    pub switches: usize,
    /// Number of times that a person is matched again after frames without a match.
    pub fragmentations: usize,
    /// Sum of the IoU of all matches.
    iou: f64,
}

impl ClearMot {
    /// Multiple-object tracking accuracy.
    pub fn mota(&self) -> f64 {
        let errors = self.misses + self.false_positives + self.switches;
        1.0 - errors as f64 / self.boxes as f64
    }

    /// Multiple-object tracking precision: mean IoU of the matches.
    pub fn motp(&self) -> f64 {
        share(self.iou, self.matches as f64)
    }
}

/// The last match of a true person before the current frame.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// Track of the last match; `None` if there was no match.
    track: Option<usize>,
    /// Index of the frame of the last match.
    frame: Option<usize>,
    /// Whether the person was in a later frame without a match.
    interrupted: bool,
}

/// Matches boxes and tracks frame by frame: first as many continued matches as possible, then the
/// highest sum of IoU.
pub(super) fn clear(sequence: &Sequence) -> ClearMot {
    let mut clear = ClearMot::default();
    let mut past = vec![Past::default(); sequence.truths.len()];
    for (f, frame) in sequence.frames.iter().enumerate() {
        let (truths, tracks) = (&frame.truths, &frame.tracks);
        let pairs = best_pairs(truths.len(), tracks.len(), |truth, track| {
            let iou = at_least(frame.iou[truth][track], MATCHED);
            let Past {
                track: last,
                frame: when,
                ..
            } = past[truths[truth]];
            let continued = last == Some(tracks[track]) && when.is_some_and(|when| when + 1 == f);
            if iou > 0.0 && continued {
                CONTINUED + iou
            } else {
                iou
            }
        });
        for truth in 0..truths.len() {
            if pairs.iter().all(|(t, _)| *t != truth) {
                past[truths[truth]].interrupted = true;
            }
        }
        for (truth, track) in &pairs {
            let state = &mut past[truths[*truth]];
            if let Some(last) = state.track {
                clear.switches += usize::from(last != tracks[*track]);
                clear.fragmentations += usize::from(state.interrupted);
            }
            *state = Past {
                track: Some(tracks[*track]),
                frame: Some(f),
                interrupted: false,
            };
            clear.iou += frame.iou[*truth][*track];
        }
        clear.boxes += truths.len();
        clear.matches += pairs.len();
        clear.misses += truths.len() - pairs.len();
        clear.false_positives += tracks.len() - pairs.len();
    }
    clear
}
