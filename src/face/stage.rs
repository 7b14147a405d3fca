//! The face stage: tracks faces on every frame, and confirms, re-identifies and ends subjects.

use std::sync::Arc;
use std::time::Duration;

mod face;
mod observations;
mod subjects;

use super::associate::{CannotLink, match_detections, reassign_to_hidden, resolve_conflicts};
use super::detection::Detection;
use super::follower::Follower;
use super::resize::PictureSize;
use super::scene_cut::SceneCutDetector;
use super::track::{Track, UnmatchedDetection};
use crate::clip::{FramedFaces, SubjectChange, SubjectPhase, VideoFrame};
use crate::encode::EncodeError;
use crate::manifest::FacePreprocessing;
use crate::time::MediaTime;
use face::FaceBuilder;
use observations::{SQUARE, plausible};

/// Settings of [`FaceStage`].
#[derive(Clone, Debug, PartialEq)]
pub struct FaceSettings {
    /// Interval between detections; half of it while a subject is hidden or a track unconfirmed.
    pub detect_interval: Duration,
    /// How long a subject may be hidden before it is lost.
    pub lost_after: Duration,
    /// Largest number of subjects at the same time. If there are more faces, the largest are kept.
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

/// Similarity of a face's appearance to its track from which a scene cut is ruled out.
const SAME_SHOT: f32 = 0.6;

/// Tracks every face on every frame; the caller supplies detections at an interval. The same frames
/// and detections always give the same faces.
#[derive(Debug)]
pub struct FaceStage {
    settings: FaceSettings,
    preprocessing: Option<FacePreprocessing>,
    follower: Follower,
    tracks: Vec<Track>,
    cannot_link: CannotLink,
    /// Detections without a track, for the next frame.
    unmatched: Vec<UnmatchedDetection>,
    scene_cuts: SceneCutDetector,
    /// Time of the newest frame with detections; `None` after a scene cut.
    detected_at: Option<MediaTime>,
    /// Time of the last scene cut.
    shot_began: Option<MediaTime>,
    /// Time of the previous frame.
    last_frame: Option<MediaTime>,
    /// Width and height of the newest frame, in pixels.
    picture_size: [usize; 2],
    size: PictureSize,
    next_serial: u32,
    next_subject: u32,
    next_face: u64,
    /// Buffer of the networks' inputs.
    inputs: Vec<f32>,
}

impl FaceStage {
    /// `preprocessing` is the manifest's section `[face]`; without it, faces have no crops.
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
            cannot_link: CannotLink::new(),
            unmatched: Vec::new(),
            scene_cuts: SceneCutDetector::default(),
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

    /// Returns the open networks, for the stage of the next recording. Opening them takes longer
    /// than a short recording.
    pub fn into_follower(self) -> Follower {
        self.follower
    }

    /// Whether the detector should run on this frame: the detection interval has passed, or there
    /// was no detection since the start or a scene cut. Must not be called while the detector runs.
    pub fn wants_detection(&self, frame: &VideoFrame) -> bool {
        let Some(detected_at) = self.detected_at else {
            return true;
        };
        let interval = self.settings.detect_interval.as_nanos() as i64;
        let calm = self.tracks.iter().any(|t| t.visible)
            && self.tracks.iter().all(|t| t.visible && t.subject.is_some());
        frame.time.nanos_since(detected_at) >= if calm { interval } else { interval / 2 }
    }

    /// Interval between detections while all known faces are visible.
    pub fn detect_interval(&self) -> Duration {
        self.settings.detect_interval
    }

    /// Adds the detections of the frame of time `at`. If later frames were tracked since, the
    /// motion in between is compensated.
    pub fn detected(&mut self, at: MediaTime, mut detections: Vec<Detection>) {
        if self.shot_began.is_some_and(|began| at < began) {
            return;
        }
        self.detected_at = Some(self.detected_at.map_or(at, |before| before.max(at)));
        self.size.rescale(at, &mut detections);
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
            track.facing = self.follower.facing(detection);
            if rect.iou(&detection.rect) < 0.6 {
                // The track has drifted: its new position is the detected one, moved by the track's
                // motion since the time `at`.
                let (found, then) = (detection.rect.center(), rect.center());
                track.center = std::array::from_fn(|k| track.center[k] + found[k] - then[k]);
                track.side = detection.rect.w.max(detection.rect.h);
            }
        }
        let fresh = detections
            .iter()
            .zip(&matched)
            .filter(|(_, m)| m.is_none())
            .map(|(d, _)| UnmatchedDetection {
                rect: d.rect,
                score: d.score,
                facing: self.follower.facing(d),
            });
        let limit = 2 * self.settings.max_subjects;
        self.unmatched.extend(fresh.take(limit));
    }

    /// Tracks all faces on the next frame. Returns the subjects' faces with landmarks, quality and
    /// crops, and the changes of subjects.
    ///
    /// # Errors
    /// A network fails.
    pub fn advance(&mut self, frame: &VideoFrame) -> Result<FramedFaces, EncodeError> {
        let (now, picture) = (frame.time, &*frame.picture);
        let seconds = self
            .last_frame
            .map_or(0.0, |before| now.nanos_since(before) as f32 * 1e-9)
            .clamp(0.0, 0.5);
        self.last_frame = Some(now);
        self.picture_size = [picture.width, picture.height];
        if let Some(factor) = self.size.update(now, self.picture_size) {
            self.tracks.iter_mut().for_each(|t| t.rescale(factor));
            self.unmatched.iter_mut().for_each(|n| n.rescale(factor));
        }
        let mut changes = Vec::new();
        let picture_changed = self.scene_cuts.changed(picture);
        let unmatched = std::mem::take(&mut self.unmatched);
        self.tracks
            .iter_mut()
            .for_each(|t| t.predict(seconds, [picture.width, picture.height]));
        let mut places: Vec<([f32; 2], f32)> = self
            .tracks
            .iter()
            .map(|t| (t.center, t.side * SQUARE))
            .collect();
        places.extend(
            unmatched
                .iter()
                .map(|n| (n.rect.center(), n.rect.w.max(n.rect.h) * SQUARE)),
        );
        let mut observations = self.observe_places(picture, &places)?;
        let mut arrivals = observations.split_off(self.tracks.len());
        self.retry_missed(picture, &mut observations)?;
        for (track, observation) in self.tracks.iter().zip(&mut observations) {
            if !observation.as_ref().is_some_and(|s| plausible(track, s)) {
                *observation = None;
            }
        }
        self.observe_by_detector(picture, &unmatched, &mut observations, &mut arrivals)?;

        if picture_changed
            && !self.tracks.iter().zip(&observations).any(|(t, s)| {
                t.visible
                    && s.as_ref()
                        .is_some_and(|s| t.recent.likeness(&s.appearance) >= SAME_SHOT)
            })
        {
            // Scene cut: every track ends. The next frame requests a detection.
            changes.extend(self.lose(now, |_| true));
            self.detected_at = None;
            self.shot_began = Some(now);
            self.cannot_link.clear();
            observations.clear();
        }

        resolve_conflicts(
            &mut self.tracks,
            &mut observations,
            &mut self.cannot_link,
            now,
        );
        reassign_to_hidden(&self.tracks, &mut observations, now);
        self.admit(now, &unmatched, arrivals, &mut observations);
        for (track, observation) in self.tracks.iter_mut().zip(&observations) {
            match observation {
                Some(observation) => track.update(now, seconds, observation),
                None => track.visible = false,
            }
        }
        self.reidentify(now, &observations);
        self.confirm(now, &mut changes, &observations);
        let builder = FaceBuilder {
            now,
            seconds,
            picture,
            preprocessing: self.preprocessing.as_ref(),
            follower: &self.follower,
        };
        let mut faces = Vec::new();
        for (track, observation) in self.tracks.iter_mut().zip(&observations) {
            if let (Some(observation), Some(subject)) = (observation, track.subject) {
                let face = builder.face(track, observation, subject, self.next_face);
                self.next_face += 1;
                faces.push(Arc::new(face));
                if track.needs_update(now, self.picture_size) {
                    changes.extend(track.report(
                        now,
                        SubjectPhase::Updated,
                        None,
                        self.picture_size,
                    ));
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

    /// Ends all tracks, at the end of the recording or session. Returns the loss of each remaining
    /// subject.
    pub fn finish(&mut self, end: MediaTime) -> Vec<SubjectChange> {
        self.unmatched.clear();
        self.lose(end, |_| true)
    }
}

#[cfg(test)]
mod tests;
