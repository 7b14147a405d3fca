//! Searches the faces of the tracks in a frame: runs the networks at their expected positions.

use super::FaceStage;
use crate::clip::{Picture, Rect};
use crate::encode::EncodeError;
use crate::face::appearance::Appearance;
use crate::face::closeup::Closeup;
use crate::face::detection::Detection;
use crate::face::refine::Refinement;
use crate::face::track::{Observation, Track, UnmatchedDetection};

/// Lowest score with which a visible track's face counts as found.
const SEEN: f32 = 0.6;
/// Lowest score with which a hidden track's face counts as found.
pub(super) const RETURNED: f32 = 0.8;
/// Lowest score of a new face, or of a tracked face away from its predicted position.
pub(super) const ACCEPTED: f32 = 0.7;
/// Lowest similarity of appearance with which a face continues a visible track.
const SAME: f32 = 0.3;
/// Lowest similarity of appearance with which a face at the expected position continues a hidden
/// track.
const LIKE_EXPECTED: f32 = 0.5;
/// Number of consecutive detector runs without a match, after which a track needs the score
/// [`DOUBTED`].
const DOUBTED_AFTER: u32 = 6;
/// Lowest score for a track that the detector has not confirmed for [`DOUBTED_AFTER`] runs.
const DOUBTED: f32 = 0.9;
/// Side of the square that MTCNN's last network gets, divided by the face's longer side.
pub(super) const SQUARE: f32 = 1.0;

impl FaceStage {
    /// Runs MTCNN's last network once on all `places`: centre and side of a square, in pixels of
    /// the picture. Returns for each place the face, or `None` if none is found.
    pub(super) fn observe_places(
        &mut self,
        picture: &Picture,
        places: &[([f32; 2], f32)],
    ) -> Result<Vec<Option<Observation>>, EncodeError> {
        self.inputs.clear();
        let closeups: Vec<Closeup> = places
            .iter()
            .map(|(center, side)| Closeup::cut(picture, *center, *side, &mut self.inputs))
            .collect();
        let found = self.follower.refiner.refine(&self.inputs)?;
        let observation = |(closeup, found): (Closeup, Refinement)| {
            // Low scores are dropped before their features are computed.
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
        Ok(closeups.into_iter().zip(found).map(observation).collect())
    }

    /// Runs YuNet on crops around detections that MTCNN's last network rejects, and around visible
    /// tracks without an observation. YuNet finds profiles, half covered faces and faces in bad
    /// light. The results are added to `observations` and `arrivals`.
    pub(super) fn observe_by_detector(
        &mut self,
        picture: &Picture,
        unmatched: &[UnmatchedDetection],
        observations: &mut [Option<Observation>],
        arrivals: &mut [Option<Observation>],
    ) -> Result<(), EncodeError> {
        let Some(crops) = &mut self.follower.crops else {
            return Ok(());
        };
        let lost: Vec<usize> = (0..self.tracks.len())
            .filter(|i| self.tracks[*i].visible && observations[*i].is_none())
            .collect();
        let unknown: Vec<usize> = (0..unmatched.len())
            .filter(|i| {
                arrivals[*i]
                    .as_ref()
                    .is_none_or(|arrival| arrival.score < ACCEPTED)
            })
            .collect();
        let tracked = lost.iter().map(|i| {
            let track = &self.tracks[*i];
            (track.center, track.side)
        });
        let detected = unknown.iter().map(|i| {
            let rect = unmatched[*i].rect;
            (rect.center(), rect.w.max(rect.h))
        });
        let places: Vec<_> = tracked.chain(detected).collect();
        let found = crops.detect_at(picture, &places)?;
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
            observations[i] = observed
                .next()
                .flatten()
                .filter(|observation| plausible(&self.tracks[i], observation));
        }
        for i in unknown {
            if let Some(observation) = observed.next().flatten() {
                arrivals[i] = Some(observation);
            }
        }
        Ok(())
    }

    /// Searches again for subjects that were visible on the previous frame and are not at their
    /// predicted position: at their last position, and in a larger square.
    pub(super) fn retry_missed(
        &mut self,
        picture: &Picture,
        observations: &mut [Option<Observation>],
    ) -> Result<(), EncodeError> {
        let missed: Vec<usize> = (0..self.tracks.len())
            .filter(|i| {
                self.tracks[*i].visible
                    && self.tracks[*i].subject.is_some()
                    && !self.tracks[*i].by_detector
                    && observations[*i].is_none()
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
        let found = self.observe_places(picture, &places)?;
        for (i, two) in missed.into_iter().zip(found.chunks(2)) {
            observations[i] = two
                .iter()
                .flatten()
                .filter(|s| s.score >= ACCEPTED)
                .max_by(|a, b| a.score.total_cmp(&b.score))
                .cloned();
        }
        Ok(())
    }
}

/// Computes the appearance of a face that a network found. `None` if the face is smaller than 8
/// pixels or its landmarks are degenerate.
fn observe(
    picture: &Picture,
    closeup: Closeup,
    detection: Detection,
    by_detector: bool,
) -> Option<Observation> {
    let Detection {
        rect,
        score,
        landmarks,
    } = detection;
    if rect.w < 8.0 || rect.h < 8.0 {
        return None;
    }
    let patch = closeup.align_patch(&landmarks)?;
    let appearance = Appearance::new(picture, &rect, &landmarks, &patch);
    Some(Observation {
        rect,
        landmarks,
        score,
        closeup,
        appearance,
        by_detector,
    })
}

/// Whether `observation` can be the face of `track`, by score, similarity and size.
pub(super) fn plausible(track: &Track, observation: &Observation) -> bool {
    let growth = observation.side() / track.side.max(1.0);
    let likeness = track.likeness(&observation.appearance);
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
    observation.score >= score && likeness >= like && (0.4..2.5).contains(&growth)
}
