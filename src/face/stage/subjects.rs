//! The life of subjects: new tracks, confirmation, re-identification, merging and loss.

use std::sync::Arc;

use super::FaceStage;
use super::face::track_quality;
use super::observations::{ACCEPTED, RETURNED};
use crate::clip::{Face, SubjectChange, SubjectId, SubjectPhase};
use crate::face::associate::{duplicate, may_return, overlaps, returning_subject, same_face};
use crate::face::track::{Observation, Track, UnmatchedDetection};
use crate::time::MediaTime;

/// Score from which a single detection confirms a track.
const CERTAIN: f32 = 0.95;
/// Highest score from which two detections confirm a track; below it, [`PERSISTENT`] are needed.
const LIKELY: f32 = 0.88;
/// Number of detections that confirm a track with any scores.
const PERSISTENT: u32 = 6;
/// How long the confirmation of a track near a hidden subject is deferred, to decide whether it is
/// that subject.
const UNDECIDED_NANOS: i64 = 600_000_000;

impl FaceStage {
    /// Assigns each unmatched detection to a hidden subject that returns, or to a new track.
    /// `arrivals` are the observations of the unmatched detections, `observations` those of the
    /// tracks. A face that a track already has is skipped.
    pub(super) fn admit(
        &mut self,
        now: MediaTime,
        unmatched: &[UnmatchedDetection],
        arrivals: Vec<Option<Observation>>,
        observations: &mut Vec<Option<Observation>>,
    ) {
        for (unmatched_detection, arrival) in unmatched.iter().zip(arrivals) {
            let Some(arrival) = arrival.filter(|a| a.score >= ACCEPTED) else {
                continue;
            };
            if observations.iter().flatten().any(|s| {
                same_face(&s.rect, &arrival.rect)
                    || (s.by_detector || arrival.by_detector) && overlaps(&s.rect, &arrival.rect)
            }) {
                continue;
            }
            let seen: Vec<bool> = observations.iter().map(Option::is_some).collect();
            if let Some(i) =
                returning_subject(&self.tracks, &seen, &self.cannot_link, None, now, &arrival)
            {
                let track = &mut self.tracks[i];
                (track.hits, track.misses, track.facing) =
                    (track.hits + 1, 0, unmatched_detection.facing);
                // The track's own place may be a frame old and elsewhere.
                (track.center, track.side, track.velocity) =
                    (arrival.rect.center(), arrival.side(), [0.0; 2]);
                observations[i] = Some(arrival);
            } else if self.tracks.len() < 3 * self.settings.max_subjects {
                self.tracks.push(Track::new(
                    self.next_serial,
                    now,
                    &arrival,
                    unmatched_detection,
                ));
                self.next_serial += 1;
                observations.push(Some(arrival));
            }
        }
    }

    /// Gives each unconfirmed track that looks like a hidden subject that subject.
    pub(super) fn reidentify(&mut self, now: MediaTime, observations: &[Option<Observation>]) {
        let seen: Vec<bool> = observations.iter().map(Option::is_some).collect();
        for (i, observation) in observations.iter().enumerate() {
            let (None, Some(observation)) = (self.tracks[i].subject, observation) else {
                continue;
            };
            let serial = Some(self.tracks[i].serial);
            if let Some(h) = returning_subject(
                &self.tracks,
                &seen,
                &self.cannot_link,
                serial,
                now,
                observation,
            ) {
                let mut hidden = self.tracks[h].clone();
                self.tracks[i].inherit(&mut hidden);
                self.tracks[h] = hidden;
            }
        }
    }

    /// Makes confirmed tracks subjects. One detection confirms a track if its score is at least
    /// [`CERTAIN`] and the refining network agrees. Otherwise two detections confirm it if the best
    /// score is at least [`LIKELY`], or [`PERSISTENT`] detections of any score. At `max_subjects`
    /// the smallest subject is lost, if the new face is clearly larger.
    pub(super) fn confirm(
        &mut self,
        now: MediaTime,
        changes: &mut Vec<SubjectChange>,
        observations: &[Option<Observation>],
    ) {
        for i in 0..self.tracks.len() {
            let track = &self.tracks[i];
            let Some(observation) = &observations[i] else {
                continue;
            };
            // A single detection suffices only where both networks recognise the face.
            let certain =
                track.best_detection >= CERTAIN && track.score >= RETURNED && !track.by_detector;
            let confirmed =
                track.hits >= 2 && track.best_detection >= LIKELY || track.hits >= PERSISTENT;
            if track.subject.is_some() || !(certain || confirmed) {
                continue;
            }
            // A half hidden face has no reliable appearance: the decision on a return is deferred.
            let undecided =
                now < track.entangled_until || now.nanos_since(track.born) < UNDECIDED_NANOS;
            if undecided && may_return(&self.tracks, now, observation) {
                continue;
            }
            let subjects: Vec<usize> = (0..self.tracks.len())
                .filter(|t| self.tracks[*t].subject.is_some())
                .collect();
            if subjects.len() >= self.settings.max_subjects {
                let weight = |t: &Track| if t.visible { t.side } else { 0.0 };
                let Some(smallest) = subjects
                    .into_iter()
                    .min_by(|a, b| weight(&self.tracks[*a]).total_cmp(&weight(&self.tracks[*b])))
                else {
                    continue;
                };
                if weight(&self.tracks[smallest]) * 1.4 > self.tracks[i].side {
                    continue;
                }
                let loser = &mut self.tracks[smallest];
                changes.extend(loser.report(now, SubjectPhase::Lost, None, self.picture_size));
                (loser.subject, loser.hits, loser.best_detection) = (None, 0, 0.0);
            }
            let track = &mut self.tracks[i];
            track.subject = Some(self.next_subject);
            track.quality = track_quality(
                &self.follower,
                track,
                observation,
                &observation.landmarks,
                now,
            );
            self.next_subject += 1;
            changes.extend(track.report(now, SubjectPhase::Appeared, None, self.picture_size));
        }
    }

    /// Ends tracks. Two tracks of the same person are merged. A hidden track without a subject ends
    /// immediately, one with a subject after `lost_after`.
    pub(super) fn retire(
        &mut self,
        now: MediaTime,
        changes: &mut Vec<SubjectChange>,
        faces: &mut [Arc<Face>],
    ) {
        while let Some((hidden, visible)) = duplicate(&self.tracks, &self.cannot_link, now) {
            let older = if self.tracks[hidden].subject < self.tracks[visible].subject {
                hidden
            } else {
                visible
            };
            let (Some(younger_id), Some(older_id)) = (
                self.tracks[hidden + visible - older].subject,
                self.tracks[older].subject,
            ) else {
                return;
            };
            let place = &mut self.tracks[visible];
            place.subject = Some(younger_id);
            changes.extend(place.report(
                now,
                SubjectPhase::Merged,
                Some(older_id),
                self.picture_size,
            ));
            place.subject = Some(older_id);
            for face in faces
                .iter_mut()
                .filter(|f| f.subject == SubjectId::Face(younger_id))
            {
                Arc::make_mut(face).subject = SubjectId::Face(older_id);
            }
            self.tracks.remove(hidden);
        }
        let lost_after = self.settings.lost_after.as_nanos() as i64;
        changes.extend(self.lose(now, |t| {
            !t.visible && (t.subject.is_none() || now.nanos_since(t.last_seen) >= lost_after)
        }));
    }

    /// Removes the tracks for which `selects` is true. Returns the phase `lost` of their subjects.
    pub(super) fn lose(
        &mut self,
        now: MediaTime,
        selects: impl Fn(&Track) -> bool,
    ) -> Vec<SubjectChange> {
        let size = self.picture_size;
        let lost = self
            .tracks
            .iter_mut()
            .filter(|t| selects(t))
            .filter_map(|t| t.report(now, SubjectPhase::Lost, None, size))
            .collect();
        let gone: Vec<u32> = self
            .tracks
            .iter()
            .filter(|t| selects(t))
            .map(|t| t.serial)
            .collect();
        self.tracks.retain(|t| !selects(t));
        self.cannot_link
            .retain(|(a, b)| !gone.contains(a) && !gone.contains(b));
        lost
    }
}
