//! Who is who: detections to tracks, faces that come back to those that were hidden, and two tracks that claim one face.

use std::collections::BTreeSet;

use super::detection::Detection;
use super::track::{Observation, Track};
use crate::clip::Rect;
use crate::time::MediaTime;

/// Overlap from which on a detection and a track mean the same face.
const SAME_FACE_IOU: f32 = 0.3;
/// Likeness that a face must have to be a hidden subject again: where it was expected, thereabouts, and elsewhere.
const LIKENESS_EXPECTED: f32 = 0.35;
const LIKENESS_NEAR: f32 = 0.5;
const LIKENESS_FAR: f32 = 0.66;
/// How much likelier crossed-over identities must be to be exchanged.
const SWAP_MARGIN: f32 = 0.15;

/// Pairs of tracks that were once seen at the same time in different places: two people for certain. Serials, the smaller first.
pub type CannotLink = BTreeSet<(u32, u32)>;

fn pair(a: &Track, b: &Track) -> (u32, u32) {
    (a.serial.min(b.serial), a.serial.max(b.serial))
}

pub fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Do two boxes stand on one face?
pub fn one_face(a: &Rect, b: &Rect) -> bool {
    let side = a.w.max(a.h).min(b.w.max(b.h));
    let w = ((a.x + a.w).min(b.x + b.w) - a.x.max(b.x)).max(0.0);
    let h = ((a.y + a.h).min(b.y + b.h) - a.y.max(b.y)).max(0.0);
    a.iou(b) > 0.45
        || w * h > 0.7 * a.area().min(b.area())
        || distance(a.center(), b.center()) < 0.3 * side
}

/// Is a face that only the detector recognises another look at this one? Boxes of profiles differ
/// much between networks.
pub fn overlaps(a: &Rect, b: &Rect) -> bool {
    let w = ((a.x + a.w).min(b.x + b.w) - a.x.max(b.x)).max(0.0);
    let h = ((a.y + a.h).min(b.y + b.h) - a.y.max(b.y)).max(0.0);
    w * h > 0.3 * a.area().min(b.area())
}

/// For each detection the index of the track that it confirms; the best overlap first, no track twice. Boxes are compared as they were at `at`.
pub fn match_detections(
    tracks: &[Track],
    at: MediaTime,
    detections: &[Detection],
) -> Vec<Option<usize>> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for (t, track) in tracks.iter().enumerate().filter(|(_, t)| t.visible) {
        let Some(rect) = track.rect_at(at) else {
            continue;
        };
        for (d, detection) in detections.iter().enumerate() {
            let iou = rect.iou(&detection.rect);
            if iou > SAME_FACE_IOU || one_face(&rect, &detection.rect) {
                pairs.push((iou, d, t));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut matched = vec![None; detections.len()];
    let mut taken = vec![false; tracks.len()];
    for (_, d, t) in pairs {
        if matched[d].is_none() && !taken[t] {
            (matched[d], taken[t]) = (Some(t), true);
        }
    }
    matched
}

/// How far from a hidden subject's places a face is, in its sides, against how far it may have come. `None` where it cannot be it.
fn nearness(hidden: &Track, now: MediaTime, observation: &Observation) -> Option<f32> {
    let side = hidden.side.max(1.0);
    let found = observation.rect.center();
    let away = distance(hidden.center, found).min(distance(hidden.rect.center(), found)) / side;
    (away < 1.0 + 2.0 * hidden.hidden_secs(now)
        && (0.5..2.0).contains(&(observation.side() / side)))
    .then_some(away)
}

/// Is there a hidden subject that this face may turn out to be, once it is seen better?
pub fn may_return(tracks: &[Track], now: MediaTime, observation: &Observation) -> bool {
    tracks
        .iter()
        .any(|t| !t.visible && t.subject.is_some() && nearness(t, now, observation).is_some())
}

/// The hidden subject that a new face is, if it is one: by place and by looks.
pub fn returning(
    tracks: &[Track],
    seen: &[bool],
    cannot_link: &CannotLink,
    serial: Option<u32>,
    now: MediaTime,
    observation: &Observation,
) -> Option<usize> {
    let mut best: Option<(f32, usize)> = None;
    for (i, track) in tracks
        .iter()
        .enumerate()
        .filter(|(i, t)| !seen[*i] && t.subject.is_some())
    {
        if serial.is_some_and(|s| cannot_link.contains(&(track.serial.min(s), track.serial.max(s))))
        {
            continue;
        }
        let likeness = track.likeness(&observation.look);
        let needed = match nearness(track, now, observation) {
            Some(away) if away < 0.6 => LIKENESS_EXPECTED,
            Some(_) => LIKENESS_NEAR,
            None => LIKENESS_FAR,
        };
        if likeness >= needed && best.is_none_or(|(b, _)| likeness > b) {
            best = Some((likeness, i));
        }
    }
    best.map(|(_, i)| i)
}

/// Settles what the tracks claim to have seen: one face belongs to the track that it looks like (the other saw nothing), and two that
/// came apart after meeting get the faces that they look like.
pub fn settle(
    tracks: &mut [Track],
    observations: &mut [Option<Observation>],
    cannot_link: &mut CannotLink,
    now: MediaTime,
) {
    for i in 0..tracks.len() {
        for j in i + 1..tracks.len() {
            let (Some(a), Some(b)) = (&observations[i], &observations[j]) else {
                continue;
            };
            let iou = a.rect.iou(&b.rect);
            let met = now < tracks[i].entangled_until && now < tracks[j].entangled_until;
            if one_face(&a.rect, &b.rect) {
                let claim = |track: &Track, s: &Observation| {
                    (
                        track.likeness(&s.look),
                        -distance(track.center, s.rect.center()),
                    )
                };
                let (of_i, of_j) = (claim(&tracks[i], a), claim(&tracks[j], b));
                // Looks that tell nothing leave it to the place, and a subject comes before what is none yet.
                let i_keeps = if tracks[i].subject.is_some() != tracks[j].subject.is_some() {
                    tracks[i].subject.is_some()
                } else if (of_i.0 - of_j.0).abs() > 0.03 {
                    of_i.0 > of_j.0
                } else {
                    of_i.1 >= of_j.1
                };
                observations[if i_keeps { j } else { i }] = None;
            } else if met {
                let (li, lj) = (&tracks[i], &tracks[j]);
                let kept = li.likeness(&a.look) + lj.likeness(&b.look);
                let crossed = li.likeness(&b.look) + lj.likeness(&a.look);
                if crossed > kept + SWAP_MARGIN {
                    observations.swap(i, j);
                }
            }
            if iou > 0.05 {
                let until = now.plus_nanos(250_000_000);
                (tracks[i].entangled_until, tracks[j].entangled_until) = (until, until);
            } else if observations[i].is_some() && observations[j].is_some() {
                cannot_link.insert(pair(&tracks[i], &tracks[j]));
            }
        }
    }
}

/// A track that slid onto the face of a hidden subject gives it back: where the face looks clearly more like the hidden one.
pub fn give_back(tracks: &[Track], observations: &mut [Option<Observation>], now: MediaTime) {
    for t in 0..tracks.len() {
        let Some(observation) = &observations[t] else {
            continue;
        };
        let own = tracks[t].look.likeness(&observation.look);
        let owner = (0..tracks.len())
            .filter(|h| {
                observations[*h].is_none()
                    && tracks[*h].subject.is_some()
                    && nearness(&tracks[*h], now, observation).is_some()
            })
            .map(|h| (tracks[h].look.likeness(&observation.look), h))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, h)) = owner
            .filter(|(likeness, _)| tracks[t].subject.is_some() && *likeness > own + SWAP_MARGIN)
        {
            observations.swap(t, h);
        }
    }
}

/// A hidden subject and a visible one that are certainly the same person: never seen apart, in one place, and alike. Gives (hidden, visible).
pub fn duplicate(
    tracks: &[Track],
    cannot_link: &CannotLink,
    now: MediaTime,
) -> Option<(usize, usize)> {
    for (h, hidden) in tracks
        .iter()
        .enumerate()
        .filter(|(_, t)| !t.visible && t.subject.is_some() && t.hidden_secs(now) >= 0.3)
    {
        for (v, visible) in tracks
            .iter()
            .enumerate()
            .filter(|(_, t)| t.visible && t.subject.is_some())
        {
            let near = distance(hidden.center, visible.center) < 0.5 * visible.side
                || distance(hidden.rect.center(), visible.center) < 0.5 * visible.side;
            if near
                && !cannot_link.contains(&pair(hidden, visible))
                && hidden.look.likeness(&visible.look) >= 0.8
            {
                return Some((h, v));
            }
        }
    }
    None
}
