//! A subject's face on one frame: smoothed landmarks, quality, lip motion and, once per slot, the
//! encoder's crop.

use std::sync::Arc;

use crate::clip::{Face, Landmarks, Picture, SubjectId, face_slot};
use crate::face::follower::Follower;
use crate::face::lips::lip_motion;
use crate::face::pose::facing;
use crate::face::quality::{frontal, quality};
use crate::face::track::{Observation, Track};
use crate::manifest::FacePreprocessing;
use crate::preprocess::align;
use crate::time::MediaTime;

/// Quality of a track's face by the observation at `now`, 0..1.
pub(super) fn track_quality(
    follower: &Follower,
    track: &Track,
    observation: &Observation,
    landmarks: &Landmarks,
    now: MediaTime,
) -> f32 {
    let facing = if follower.crops.is_some() {
        facing(landmarks)
    } else {
        frontal(landmarks)
    };
    track.landmark_confidence(now)
        * quality(&observation.closeup, landmarks, observation.score, facing)
}

/// Builds the faces of one frame.
pub(super) struct FaceBuilder<'a> {
    pub now: MediaTime,
    /// Time since the previous frame, in seconds.
    pub seconds: f32,
    pub picture: &'a Picture,
    pub preprocessing: Option<&'a FacePreprocessing>,
    pub follower: &'a Follower,
}

impl FaceBuilder<'_> {
    /// Builds the face with number `id` of the subject number `subject`, and updates the track's
    /// box, quality and crop slot.
    pub fn face(
        &self,
        track: &mut Track,
        observation: &Observation,
        subject: u32,
        id: u64,
    ) -> Face {
        let (landmarks, rect) = track.smooth(observation, self.seconds);
        track.rect = rect;
        track.quality = track_quality(self.follower, track, observation, &landmarks, self.now);
        let patch = observation.closeup.align_patch(&landmarks);
        let lip_motion = match (&track.patch, &patch) {
            (Some(before), Some(now)) => lip_motion(before, now),
            _ => 0.0,
        };
        track.patch = patch;
        let crop = self
            .preprocessing
            .filter(|p| !observation.by_detector && track.quality >= p.min_quality)
            .and_then(|p| {
                let slot = face_slot(self.now, p.rate_hz);
                if track.slot == Some(slot) {
                    return None;
                }
                let crop = align(self.picture, &landmarks, p)?;
                track.slot = Some(slot);
                Some(Arc::new(crop))
            });
        Face {
            id,
            subject: SubjectId::Face(subject),
            time: self.now,
            rect,
            landmarks,
            score: observation.score,
            quality: track.quality,
            lip_motion,
            crop,
        }
    }
}
