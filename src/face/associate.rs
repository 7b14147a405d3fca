//! Data association: matches detections with tracks and returning faces with hidden subjects, and
//! resolves conflicts of two tracks over one face.

use std::collections::BTreeSet;

use super::detection::Detection;
use super::track::{Observation, Track};
use crate::clip::Rect;
use crate::time::MediaTime;

/// Overlap (intersection over union) above which a detection matches a track.
const SAME_FACE_IOU: f32 = 0.3;
/// Lowest similarity with which a face at the expected position of a hidden subject is that
/// subject.
const LIKENESS_EXPECTED: f32 = 0.35;
/// Lowest similarity with which a face near the expected position of a hidden subject is that
/// subject.
const LIKENESS_NEAR: f32 = 0.5;
/// Lowest similarity with which a face at any other position is a hidden subject.
const LIKENESS_FAR: f32 = 0.66;
/// Increase of similarity from which two tracks exchange their faces.
const SWAP_MARGIN: f32 = 0.15;

/// Pairs of tracks that were seen at the same time in different places, and so are two people. A
/// pair has the tracks' serial numbers, the smaller first.
pub type CannotLink = BTreeSet<(u32, u32)>;

fn pair(a: &Track, b: &Track) -> (u32, u32) {
    (a.serial.min(b.serial), a.serial.max(b.serial))
}

/// Euclidean distance of two points.
pub fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Whether two boxes are so near to each other that they show the same face.
pub fn same_face(a: &Rect, b: &Rect) -> bool {
    let side = a.w.max(a.h).min(b.w.max(b.h));
    let w = ((a.x + a.w).min(b.x + b.w) - a.x.max(b.x)).max(0.0);
    let h = ((a.y + a.h).min(b.y + b.h) - a.y.max(b.y)).max(0.0);
    a.iou(b) > 0.45
        || w * h > 0.7 * a.area().min(b.area())
        || distance(a.center(), b.center()) < 0.3 * side
}

/// Whether two boxes may show the same face, one of which only the detector finds. The condition is
/// weaker than [`same_face`], because the networks' boxes of profiles differ much.
pub fn overlaps(a: &Rect, b: &Rect) -> bool {
    let w = ((a.x + a.w).min(b.x + b.w) - a.x.max(b.x)).max(0.0);
    let h = ((a.y + a.h).min(b.y + b.h) - a.y.max(b.y)).max(0.0);
    w * h > 0.3 * a.area().min(b.area())
}

/// Matches detections of the frame at time `at` with the visible tracks' boxes of that time,
/// greatest overlap first. Returns for each detection the index of its track; no track occurs
/// twice.
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
            if iou > SAME_FACE_IOU || same_face(&rect, &detection.rect) {
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

/// Distance of a face from the predicted or the last position of a hidden subject, whichever is
/// nearer, divided by the subject's face side. `None` if the subject cannot have moved as far while
/// it was hidden, or if the sizes differ too much.
fn nearness(hidden: &Track, now: MediaTime, observation: &Observation) -> Option<f32> {
    let side = hidden.side.max(1.0);
    let found = observation.rect.center();
    let away = distance(hidden.center, found).min(distance(hidden.rect.center(), found)) / side;
    (away < 1.0 + 2.0 * hidden.hidden_secs(now)
        && (0.5..2.0).contains(&(observation.side() / side)))
    .then_some(away)
}

/// Whether a face may be a hidden subject by position and size, whatever its appearance.
pub fn may_return(tracks: &[Track], now: MediaTime, observation: &Observation) -> bool {
    tracks
        .iter()
        .any(|t| !t.visible && t.subject.is_some() && nearness(t, now, observation).is_some())
}

/// The index in `tracks` of the hidden subject that a new face belongs to, by position and
/// appearance; `None` if it is none. `seen` tells for each track whether it is observed in this
/// frame. `serial` is the serial number of the face's own track, if it has one.
pub fn returning_subject(
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
        let likeness = track.likeness(&observation.appearance);
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

/// Resolves conflicts of tracks. If two tracks have one face, the less similar track loses its
/// observation. If two tracks separate after an overlap, each takes the face that is more similar
/// to it.
pub fn resolve_conflicts(
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
            let overlapped = now < tracks[i].entangled_until && now < tracks[j].entangled_until;
            if same_face(&a.rect, &b.rect) {
                let claim = |track: &Track, s: &Observation| {
                    (
                        track.likeness(&s.appearance),
                        -distance(track.center, s.rect.center()),
                    )
                };
                let (of_i, of_j) = (claim(&tracks[i], a), claim(&tracks[j], b));
                // Subjects precede unconfirmed tracks; appearances that do not discriminate leave
                // the decision to the place.
                let i_keeps = if tracks[i].subject.is_some() != tracks[j].subject.is_some() {
                    tracks[i].subject.is_some()
                } else if (of_i.0 - of_j.0).abs() > 0.03 {
                    of_i.0 > of_j.0
                } else {
                    of_i.1 >= of_j.1
                };
                observations[if i_keeps { j } else { i }] = None;
            } else if overlapped {
                let (li, lj) = (&tracks[i], &tracks[j]);
                let kept = li.likeness(&a.appearance) + lj.likeness(&b.appearance);
                let crossed = li.likeness(&b.appearance) + lj.likeness(&a.appearance);
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

/// Assigns the face of a track to a hidden subject if it is clearly more similar to that subject
/// than to its current track.
pub fn reassign_to_hidden(
    tracks: &[Track],
    observations: &mut [Option<Observation>],
    now: MediaTime,
) {
    for t in 0..tracks.len() {
        let Some(observation) = &observations[t] else {
            continue;
        };
        let own = tracks[t].appearance.likeness(&observation.appearance);
        let owner = (0..tracks.len())
            .filter(|h| {
                observations[*h].is_none()
                    && tracks[*h].subject.is_some()
                    && nearness(&tracks[*h], now, observation).is_some()
            })
            .map(|h| (tracks[h].appearance.likeness(&observation.appearance), h))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, h)) = owner
            .filter(|(likeness, _)| tracks[t].subject.is_some() && *likeness > own + SWAP_MARGIN)
        {
            observations.swap(t, h);
        }
    }
}

/// The indices in `tracks` of a hidden and a visible subject that are the same person: they were
/// never seen at the same time, are at the same position, and look similar.
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
                && hidden.appearance.likeness(&visible.appearance) >= 0.8
            {
                return Some((h, v));
            }
        }
    }
    None
}
