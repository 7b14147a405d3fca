//! The stage: every frame in, its faces out.

use std::sync::Arc;
use std::time::Duration;

use super::appearance::Appearance;
use super::associate::{
    Apart, duplicate, give_back, match_detections, may_return, one_face, overlaps, returning,
    settle,
};
use super::closeup::Closeup;
use super::detect::Detection;
use super::lips::lip_motion;
use super::pose::facing;
use super::quality::{frontal, quality};
use super::refine::Follower;
use super::resize::PictureSize;
use super::shot::ShotWatch;
use super::track::{Newcomer, Sighting, Track};
use crate::clip::{
    Face, FramedFaces, Landmarks, Picture, Rect, SubjectChange, SubjectId, SubjectPhase,
    VideoFrame, face_slot,
};
use crate::encode::EncodeError;
use crate::model::manifest::FacePreprocessing;
use crate::preprocess::align;
use crate::time::MediaTime;

#[derive(Clone, Debug, PartialEq)]
pub struct FaceSettings {
    /// Between two detections while all is well; half of it while someone is looked for.
    pub detect_interval: Duration,
    /// A subject that is hidden this long is lost.
    pub lost_after: Duration,
    /// More are not followed at a time: the largest stay.
    pub max_subjects: usize,
}

impl Default for FaceSettings {
    fn default() -> Self {
        FaceSettings {
            detect_interval: Duration::from_millis(500),
            lost_after: Duration::from_millis(2000),
            max_subjects: 8,
        }
    }
}

/// Probability under which a followed face is hidden, and above which a new and a returning one is believed.
const SEEN: f32 = 0.6;
const BELIEVED: f32 = 0.7;
const RETURNED: f32 = 0.8;
/// A detection that needs no second one.
const CERTAIN: f32 = 0.95;
/// A detection of which two make a subject, and how many any others.
const LIKELY: f32 = 0.88;
const PERSISTENT: u32 = 6;
/// Likeness to the frame before under which it is another face, without and with a change of the whole picture.
const SAME: f32 = 0.3;
const SAME_SHOT: f32 = 0.6;
/// Likeness that a hidden face must have where it is expected.
const LIKE_EXPECTED: f32 = 0.5;
/// Detections in a row that did not see what is followed: from then on only what is sure is believed.
const DOUBTED_AFTER: u32 = 6;
const DOUBTED: f32 = 0.9;
/// How long a face near a hidden subject's place may stay without a name.
const UNDECIDED_NANOS: i64 = 600_000_000;
/// Share of its quality that a face keeps which only the detector recognises; it gets no crop.
const UNRECOGNISED: f32 = 0.14;
/// The side of the square that is looked at, over the face's longer side.
const SQUARE: f32 = 1.0;

/// Follows every face on every frame, between and across detections. Deterministic: the same frames and detections give the same faces.
#[derive(Debug)]
pub struct FaceStage {
    settings: FaceSettings,
    preprocessing: Option<FacePreprocessing>,
    follower: Follower,
    tracks: Vec<Track>,
    apart: Apart,
    newcomers: Vec<Newcomer>,
    shots: ShotWatch,
    detected_at: Option<MediaTime>,
    /// The last cut.
    shot_began: Option<MediaTime>,
    last_frame: Option<MediaTime>,
    picture_size: [usize; 2],
    size: PictureSize,
    next_serial: u32,
    next_subject: u32,
    next_face: u64,
    inputs: Vec<f32>,
}

impl FaceStage {
    /// `preprocessing` is the manifest's `[face]`: without it there are no crops.
    pub fn new(
        settings: FaceSettings,
        preprocessing: Option<FacePreprocessing>,
        follower: Follower,
    ) -> Self {
        FaceStage {
            settings,
            preprocessing,
            follower,
            tracks: Vec::new(),
            apart: Apart::new(),
            newcomers: Vec::new(),
            shots: ShotWatch::default(),
            detected_at: None,
            shot_began: None,
            last_frame: None,
            picture_size: [0; 2],
            size: PictureSize::default(),
            next_serial: 0,
            next_subject: 1,
            next_face: 0,
            inputs: Vec::new(),
        }
    }

    /// The graphs back, for the next stage: opening them takes longer than a short recording.
    pub fn into_follower(self) -> Follower {
        self.follower
    }

    /// Should a detection be asked for with this frame? By media time since the last one that was fed; at once after a cut. While one is
    /// under way the caller does not ask.
    pub fn wants_detection(&self, frame: &VideoFrame) -> bool {
        let Some(detected_at) = self.detected_at else {
            return true;
        };
        let interval = self.settings.detect_interval.as_nanos() as i64;
        let calm = self.tracks.iter().any(|t| t.visible)
            && self.tracks.iter().all(|t| t.visible && t.subject.is_some());
        frame.time.nanos_since(detected_at) >= if calm { interval } else { interval / 2 }
    }

    /// How often faces are looked for while all that are known are in sight.
    pub fn detect_interval(&self) -> Duration {
        self.settings.detect_interval
    }

    /// Feeds a finished detection made on this or an earlier frame (live it comes late: what moved since is taken into account).
    pub fn detected(&mut self, at: MediaTime, mut detections: Vec<Detection>) {
        if self.shot_began.is_some_and(|began| at < began) {
            return;
        }
        self.detected_at = Some(self.detected_at.map_or(at, |before| before.max(at)));
        self.size.bring(at, &mut detections);
        let matched = match_detections(&self.tracks, at, &detections);
        for (t, track) in self.tracks.iter_mut().enumerate() {
            let Some(rect) = track.rect_at(at).filter(|_| track.visible) else {
                continue;
            };
            let Some(d) = matched.iter().position(|m| *m == Some(t)) else {
                track.misses += 1;
                continue;
            };
            let detection = &detections[d];
            track.misses = 0;
            track.hits += 1;
            track.best_detection = track.best_detection.max(detection.score);
            if rect.iou(&detection.rect) < 0.6 {
                // Drifted: where the cascade sees it, moved by what the track moved since.
                let (found, then) = (detection.rect.center(), rect.center());
                track.center = std::array::from_fn(|k| track.center[k] + found[k] - then[k]);
                track.side = detection.rect.w.max(detection.rect.h);
            }
        }
        let fresh = detections
            .iter()
            .zip(&matched)
            .filter(|(_, m)| m.is_none())
            .map(|(d, _)| Newcomer {
                rect: d.rect,
                score: d.score,
            });
        let limit = 2 * self.settings.max_subjects;
        self.newcomers.extend(fresh.take(limit));
    }

    /// Follows, aligns, crops and judges everyone on this frame.
    pub fn advance(&mut self, frame: &VideoFrame) -> Result<FramedFaces, EncodeError> {
        let (now, picture) = (frame.time, &*frame.picture);
        let seconds = self
            .last_frame
            .map_or(0.0, |before| now.nanos_since(before) as f32 * 1e-9)
            .clamp(0.0, 0.5);
        self.last_frame = Some(now);
        self.picture_size = [picture.width, picture.height];
        if let Some(factor) = self.size.follow(now, self.picture_size) {
            self.tracks.iter_mut().for_each(|t| t.rescale(factor));
            self.newcomers.iter_mut().for_each(|n| n.rescale(factor));
        }
        let mut changes = Vec::new();
        let picture_changed = self.shots.changed(picture);
        let newcomers = std::mem::take(&mut self.newcomers);
        self.tracks
            .iter_mut()
            .for_each(|t| t.predict(seconds, [picture.width, picture.height]));
        let mut places: Vec<([f32; 2], f32)> = self
            .tracks
            .iter()
            .map(|t| (t.center, t.side * SQUARE))
            .collect();
        places.extend(
            newcomers
                .iter()
                .map(|n| (n.rect.center(), n.rect.w.max(n.rect.h) * SQUARE)),
        );
        let mut sightings = self.look(picture, &places)?;
        let mut arrivals = sightings.split_off(self.tracks.len());
        self.look_again(picture, &mut sightings)?;
        for (track, sighting) in self.tracks.iter().zip(&mut sightings) {
            if !sighting.as_ref().is_some_and(|s| believable(track, s)) {
                *sighting = None;
            }
        }
        self.look_by_detector(picture, &newcomers, &mut sightings, &mut arrivals)?;

        if picture_changed
            && !self.tracks.iter().zip(&sightings).any(|(t, s)| {
                t.visible
                    && s.as_ref()
                        .is_some_and(|s| t.recent.likeness(&s.look) >= SAME_SHOT)
            })
        {
            // A cut: nobody of before is there. Who is there now is looked for with the next frame.
            changes.extend(self.lose(now, |_| true));
            self.detected_at = None;
            self.shot_began = Some(now);
            self.apart.clear();
            sightings.clear();
        }

        settle(&mut self.tracks, &mut sightings, &mut self.apart, now);
        give_back(&self.tracks, &mut sightings, now);
        self.admit(now, &newcomers, arrivals, &mut sightings);
        for (track, sighting) in self.tracks.iter_mut().zip(&sightings) {
            match sighting {
                Some(sighting) => track.see(now, seconds, sighting),
                None => track.visible = false,
            }
        }
        let mut faces = Vec::new();
        self.recognise(now, &sightings);
        self.confirm(now, &mut changes, &sightings);
        for (track, sighting) in self.tracks.iter_mut().zip(&sightings) {
            if let (Some(sighting), Some(subject)) = (sighting, track.subject) {
                let face = face_of(
                    track,
                    sighting,
                    subject,
                    self.next_face,
                    now,
                    seconds,
                    picture,
                    self.preprocessing.as_ref(),
                    &self.follower,
                );
                self.next_face += 1;
                faces.push(Arc::new(face));
                if track.has_news(now, self.picture_size) {
                    changes.extend(track.tell(now, SubjectPhase::Updated, None, self.picture_size));
                }
            }
        }
        self.retire(now, &mut changes, &mut faces);
        Ok(FramedFaces {
            time: now,
            picture_size: self.picture_size,
            faces,
            changes,
        })
    }

    /// The end of the recording or of the session: everyone who is still there is lost.
    pub fn finish(&mut self, end: MediaTime) -> Vec<SubjectChange> {
        self.newcomers.clear();
        self.lose(end, |_| true)
    }

    /// One run of the network over all places.
    fn look(
        &mut self,
        picture: &Picture,
        places: &[([f32; 2], f32)],
    ) -> Result<Vec<Option<Sighting>>, EncodeError> {
        self.inputs.clear();
        let closeups: Vec<Closeup> = places
            .iter()
            .map(|(center, side)| Closeup::cut(picture, *center, *side, &mut self.inputs))
            .collect();
        let found = self.follower.refiner.refine(&self.inputs)?;
        let sighting = |(closeup, found): (Closeup, super::refine::Refinement)| {
            // Nothing is worked out for what nobody will believe.
            if found.score < SEEN {
                return None;
            }
            let [x1, y1, x2, y2] = found.regression;
            let (a, b) = (
                closeup.to_picture([x1, y1]),
                closeup.to_picture([1.0 + x2, 1.0 + y2]),
            );
            let detection = Detection {
                rect: Rect {
                    x: a[0],
                    y: a[1],
                    w: b[0] - a[0],
                    h: b[1] - a[1],
                },
                score: found.score,
                landmarks: found.landmarks.map(|p| closeup.to_picture(p)),
            };
            observe(picture, closeup, detection, false)
        };
        Ok(closeups.into_iter().zip(found).map(sighting).collect())
    }

    /// The detector's look, on a crop, at what it found and the refining network does not recognise, and at tracks that this network has
    /// just lost: faces from the side, in bad light, half covered.
    fn look_by_detector(
        &mut self,
        picture: &Picture,
        newcomers: &[Newcomer],
        sightings: &mut [Option<Sighting>],
        arrivals: &mut [Option<Sighting>],
    ) -> Result<(), EncodeError> {
        let Some(crops) = &mut self.follower.crops else {
            return Ok(());
        };
        let lost: Vec<usize> = (0..self.tracks.len())
            .filter(|i| self.tracks[*i].visible && sightings[*i].is_none())
            .collect();
        let unknown: Vec<usize> = (0..newcomers.len())
            .filter(|i| {
                arrivals[*i]
                    .as_ref()
                    .is_none_or(|arrival| arrival.score < BELIEVED)
            })
            .collect();
        let tracked = lost.iter().map(|i| {
            let track = &self.tracks[*i];
            (track.center, track.side)
        });
        let detected = unknown.iter().map(|i| {
            let rect = newcomers[*i].rect;
            (rect.center(), rect.w.max(rect.h))
        });
        let places: Vec<_> = tracked.chain(detected).collect();
        let found = crops.look(picture, &places)?;
        self.inputs.clear();
        let mut observed = found.into_iter().map(|found| {
            let detection = found?;
            let side = detection.rect.w.max(detection.rect.h);
            let closeup = Closeup::cut(
                picture,
                detection.rect.center(),
                side * SQUARE,
                &mut self.inputs,
            );
            observe(picture, closeup, detection, true)
        });
        for i in lost {
            sightings[i] = observed
                .next()
                .flatten()
                .filter(|sighting| believable(&self.tracks[i], sighting));
        }
        for i in unknown {
            if let Some(sighting) = observed.next().flatten() {
                arrivals[i] = Some(sighting);
            }
        }
        Ok(())
    }

    /// A second look for those who were there a frame ago and are not where they were expected: where they were, and in a wider square.
    fn look_again(
        &mut self,
        picture: &Picture,
        sightings: &mut [Option<Sighting>],
    ) -> Result<(), EncodeError> {
        let missed: Vec<usize> = (0..self.tracks.len())
            .filter(|i| {
                self.tracks[*i].visible
                    && self.tracks[*i].subject.is_some()
                    && !self.tracks[*i].by_detector
                    && sightings[*i].is_none()
            })
            .collect();
        let places: Vec<_> = missed
            .iter()
            .flat_map(|i| {
                let track = &self.tracks[*i];
                [
                    (track.rect.center(), track.side),
                    (track.center, track.side * 1.4),
                ]
            })
            .collect();
        let found = self.look(picture, &places)?;
        for (i, two) in missed.into_iter().zip(found.chunks(2)) {
            sightings[i] = two
                .iter()
                .flatten()
                .filter(|s| s.score >= BELIEVED)
                .max_by(|a, b| a.score.total_cmp(&b.score))
                .cloned();
        }
        Ok(())
    }

    /// New faces: who was hidden and is back, who is new, what is already followed.
    fn admit(
        &mut self,
        now: MediaTime,
        newcomers: &[Newcomer],
        arrivals: Vec<Option<Sighting>>,
        sightings: &mut Vec<Option<Sighting>>,
    ) {
        for (newcomer, arrival) in newcomers.iter().zip(arrivals) {
            let Some(arrival) = arrival.filter(|a| a.score >= BELIEVED) else {
                continue;
            };
            if sightings.iter().flatten().any(|s| {
                one_face(&s.rect, &arrival.rect)
                    || (s.by_detector || arrival.by_detector) && overlaps(&s.rect, &arrival.rect)
            }) {
                continue;
            }
            let seen: Vec<bool> = sightings.iter().map(Option::is_some).collect();
            if let Some(i) = returning(&self.tracks, &seen, &self.apart, None, now, &arrival) {
                let track = &mut self.tracks[i];
                (track.hits, track.misses) = (track.hits + 1, 0);
                // It may have been seen a frame ago, elsewhere: take the place as it is found.
                (track.center, track.side, track.velocity) =
                    (arrival.rect.center(), arrival.side(), [0.0; 2]);
                sightings[i] = Some(arrival);
            } else if self.tracks.len() < 3 * self.settings.max_subjects {
                self.tracks
                    .push(Track::new(self.next_serial, now, &arrival, newcomer.score));
                self.next_serial += 1;
                sightings.push(Some(arrival));
            }
        }
    }

    /// A face that was new a moment ago and is now seen better may be a hidden subject after all.
    fn recognise(&mut self, now: MediaTime, sightings: &[Option<Sighting>]) {
        let seen: Vec<bool> = sightings.iter().map(Option::is_some).collect();
        for (i, sighting) in sightings.iter().enumerate() {
            let (None, Some(sighting)) = (self.tracks[i].subject, sighting) else {
                continue;
            };
            let serial = Some(self.tracks[i].serial);
            if let Some(h) = returning(&self.tracks, &seen, &self.apart, serial, now, sighting) {
                let mut hidden = self.tracks[h].clone();
                self.tracks[i].inherit(&mut hidden);
                self.tracks[h] = hidden;
            }
        }
    }

    /// Makes subjects of those who are certain, or were detected often enough; with too many the smallest goes.
    fn confirm(
        &mut self,
        now: MediaTime,
        changes: &mut Vec<SubjectChange>,
        sightings: &[Option<Sighting>],
    ) {
        for i in 0..self.tracks.len() {
            let track = &self.tracks[i];
            let Some(sighting) = &sightings[i] else {
                continue;
            };
            // Two networks agree; the detector alone has to see a face twice.
            let certain =
                track.best_detection >= CERTAIN && track.score >= RETURNED && !track.by_detector;
            let confirmed =
                track.hits >= 2 && track.best_detection >= LIKELY || track.hits >= PERSISTENT;
            if track.subject.is_some() || !(certain || confirmed) {
                continue;
            }
            // Half hidden, a face looks like nobody: who may be back is given a while to show.
            let undecided =
                now < track.entangled_until || now.nanos_since(track.born) < UNDECIDED_NANOS;
            if undecided && may_return(&self.tracks, now, sighting) {
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
                changes.extend(loser.tell(now, SubjectPhase::Lost, None, self.picture_size));
                (loser.subject, loser.hits, loser.best_detection) = (None, 0, 0.0);
            }
            let track = &mut self.tracks[i];
            track.subject = Some(self.next_subject);
            track.quality = judge(&self.follower, sighting, &sighting.landmarks);
            self.next_subject += 1;
            changes.extend(track.tell(now, SubjectPhase::Appeared, None, self.picture_size));
        }
    }

    /// Ends tracks: duplicates are merged, the unconfirmed go at once, the hidden after a while.
    fn retire(
        &mut self,
        now: MediaTime,
        changes: &mut Vec<SubjectChange>,
        faces: &mut [Arc<Face>],
    ) {
        while let Some((hidden, visible)) = duplicate(&self.tracks, &self.apart, now) {
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
            changes.extend(place.tell(
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

    fn lose(&mut self, now: MediaTime, who: impl Fn(&Track) -> bool) -> Vec<SubjectChange> {
        let size = self.picture_size;
        let lost = self
            .tracks
            .iter_mut()
            .filter(|t| who(t))
            .filter_map(|t| t.tell(now, SubjectPhase::Lost, None, size))
            .collect();
        let gone: Vec<u32> = self
            .tracks
            .iter()
            .filter(|t| who(t))
            .map(|t| t.serial)
            .collect();
        self.tracks.retain(|t| !who(t));
        self.apart
            .retain(|(a, b)| !gone.contains(a) && !gone.contains(b));
        lost
    }
}

/// What is seen at a place; `None` where it is too small or its landmarks are degenerate.
fn observe(
    picture: &Picture,
    closeup: Closeup,
    detection: Detection,
    by_detector: bool,
) -> Option<Sighting> {
    let Detection {
        rect,
        score,
        landmarks,
    } = detection;
    if rect.w < 8.0 || rect.h < 8.0 {
        return None;
    }
    let patch = closeup.straighten(&landmarks)?;
    let look = Appearance::new(picture, &rect, &landmarks, &patch);
    Some(Sighting {
        rect,
        landmarks,
        score,
        closeup,
        look,
        by_detector,
    })
}

/// The quality of what is seen. A face that the refining network does not recognise is worth little as evidence, whatever its pose.
fn judge(follower: &Follower, sighting: &Sighting, landmarks: &Landmarks) -> f32 {
    let facing = if follower.crops.is_some() {
        facing(landmarks)
    } else {
        frontal(landmarks)
    };
    let trust = if sighting.by_detector {
        UNRECOGNISED
    } else {
        1.0
    };
    trust * quality(&sighting.closeup, landmarks, sighting.score, facing)
}

/// Is this the face that the track follows?
fn believable(track: &Track, sighting: &Sighting) -> bool {
    let growth = sighting.side() / track.side.max(1.0);
    let likeness = track.likeness(&sighting.look);
    let (score, like) = if track.visible {
        (
            if track.misses >= DOUBTED_AFTER {
                DOUBTED
            } else {
                SEEN
            },
            SAME,
        )
    } else {
        (RETURNED, LIKE_EXPECTED)
    };
    sighting.score >= score && likeness >= like && (0.4..2.5).contains(&growth)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the frame's and the track's sides of one noun"
)]
fn face_of(
    track: &mut Track,
    sighting: &Sighting,
    subject: u32,
    id: u64,
    now: MediaTime,
    seconds: f32,
    picture: &Picture,
    preprocessing: Option<&FacePreprocessing>,
    follower: &Follower,
) -> Face {
    let (landmarks, rect) = track.smooth(sighting, seconds);
    track.rect = rect;
    track.quality = judge(follower, sighting, &landmarks);
    let patch = sighting.closeup.straighten(&landmarks);
    let lip_motion = match (&track.patch, &patch) {
        (Some(before), Some(now)) => lip_motion(before, now),
        _ => 0.0,
    };
    track.patch = patch;
    let crop = preprocessing
        .filter(|p| !sighting.by_detector && track.quality >= p.min_quality)
        .and_then(|p| {
            let slot = face_slot(now, p.rate_hz);
            if track.slot == Some(slot) {
                return None;
            }
            let crop = align(picture, &landmarks, p)?;
            track.slot = Some(slot);
            Some(Arc::new(crop))
        });
    Face {
        id,
        subject: SubjectId::Face(subject),
        time: now,
        rect,
        landmarks,
        score: sighting.score,
        quality: track.quality,
        lip_motion,
        crop,
    }
}

#[cfg(test)]
mod tests;
