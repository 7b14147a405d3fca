//! A subject's face on one frame: smoothed landmarks, quality, lip motion and, once a slot, the
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

/// The quality of a track's face as it was observed at `now`, 0..1.
pub(super) fn judge(
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
    track.trust(now) * quality(&observation.closeup, landmarks, observation.score, facing)
}

/// What the faces of one frame have in common.
pub(super) struct FaceBuilder<'a> {
    pub now: MediaTime,
    /// Since the frame before.
    pub seconds: f32,
    pub picture: &'a Picture,
    pub preprocessing: Option<&'a FacePreprocessing>,
    pub follower: &'a Follower,
}

impl FaceBuilder<'_> {
    /// The face `id` of `subject`, whose track is updated.
    pub fn face(
        &self,
        track: &mut Track,
        observation: &Observation,
        subject: u32,
        id: u64,
    ) -> Face {
        let (landmarks, rect) = track.smooth(observation, self.seconds);
        track.rect = rect;
        track.quality = judge(self.follower, track, observation, &landmarks, self.now);
        let patch = observation.closeup.straighten(&landmarks);
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
