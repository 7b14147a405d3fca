//! The state of a tracked face: position, motion, appearance.

use std::collections::VecDeque;

use super::appearance::Appearance;
use super::closeup::{Closeup, Patch};
use super::smooth::Smoother;
use crate::clip::{Landmarks, Rect, SubjectChange, SubjectId, SubjectPhase};
use crate::time::MediaTime;

/// A face that the networks find at an expected position in one frame.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The face's box, in pixels of the picture.
    pub rect: Rect,
    /// The landmarks, in pixels of the picture.
    pub landmarks: Landmarks,
    /// Probability of a face, 0..1.
    pub score: f32,
    pub closeup: Closeup,
    pub appearance: Appearance,
    /// Whether only YuNet finds the face, and MTCNN's last network rejects it.
    pub by_detector: bool,
}

impl Observation {
    /// Longer side of the box, in pixels.
    pub fn side(&self) -> f32 {
        self.rect.w.max(self.rect.h)
    }
}

/// A detection that matches no track: possibly a new or a returning face.
#[derive(Clone, Copy, Debug)]
pub struct UnmatchedDetection {
    /// The face's box, in pixels of the picture.
    pub rect: Rect,
    /// Probability of a face, 0..1.
    pub score: f32,
    /// 1 for a face towards the camera, falling to 0 for a profile.
    pub facing: f32,
}

impl UnmatchedDetection {
    /// Converts the box to a picture of another size; `factor` is the new size divided by the old
    /// one, for width and height.
    pub fn rescale(&mut self, factor: [f32; 2]) {
        self.rect = self.rect.scaled(factor);
    }
}

/// Share of the position's prediction error that corrects the position (alpha-beta filter).
const PLACE_GAIN: f32 = 0.85;
/// Share of the position's prediction error that corrects the velocity.
const SPEED_GAIN: f32 = 0.3;
/// Share of the difference between observed and tracked side that corrects the side.
const SIDE_GAIN: f32 = 0.3;
/// Highest speed of a track, in face widths per second.
const MAX_SPEED: f32 = 8.0;
/// Weight of a new appearance in the running mean.
const APPEARANCE_SHARE: f32 = 0.06;
/// How long a track keeps its boxes, with which late detections are matched.
const HISTORY_NANOS: i64 = 3_000_000_000;

/// Factor on the quality of a face that MTCNN's last network rejected within the last
/// [`UNRECOGNISED_NANOS`].
const UNRECOGNISED: f32 = 0.14;
/// How long a rejection by MTCNN's last network lowers the face's quality.
const UNRECOGNISED_NANOS: i64 = 300_000_000;

/// The state of a subject when it was last reported.
#[derive(Clone, Copy, Debug)]
struct ReportedState {
    /// The box `x, y, w, h` as shares of the picture's size, 0..1.
    rect: [f32; 4],
    quality: f32,
    time: MediaTime,
}

/// A face from its first detection until it is lost.
#[derive(Clone, Debug)]
pub struct Track {
    /// Unique among all tracks, confirmed or not.
    pub serial: u32,
    /// Time of the first detection.
    pub born: MediaTime,
    /// Number of the subject; `None` until the track is confirmed.
    pub subject: Option<u32>,
    /// Predicted centre of the face's square, in pixels.
    pub center: [f32; 2],
    /// Predicted side of the face's square, in pixels.
    pub side: f32,
    /// Velocity in pixels per second.
    pub velocity: [f32; 2],
    /// Whether the face was found in the newest frame.
    pub visible: bool,
    /// Time of the last observation.
    pub last_seen: MediaTime,
    /// Box of the last observation, in pixels.
    pub rect: Rect,
    /// Score of the last observation, 0..1.
    pub score: f32,
    /// Quality of the face as evidence, 0..1.
    pub quality: f32,
    /// Whether only YuNet found the last observation, and MTCNN's last network rejected it.
    pub by_detector: bool,
    /// Time of the last observation that MTCNN's last network rejected.
    unrecognised_at: Option<MediaTime>,
    /// By the last matching detection: 1 for a face towards the camera, falling to 0 for a profile.
    pub facing: f32,
    /// Number of matching detections.
    pub hits: u32,
    /// Highest score of the matching detections.
    pub best_detection: f32,
    /// Number of runs of the detector without a matching detection, since the last match.
    pub misses: u32,
    /// Until this time another face is near, so that appearance, velocity and side are not updated.
    pub entangled_until: MediaTime,
    /// Running mean of the face's appearance.
    pub appearance: Appearance,
    /// Appearance of the last observation without another face near.
    pub recent: Appearance,
    /// The aligned face of the previous frame.
    pub patch: Option<Patch>,
    /// The slot (period of the manifest's face rate) of the last crop.
    pub slot: Option<i64>,
    /// Boxes of the last observations, oldest first.
    history: VecDeque<(MediaTime, Rect)>,
    landmark_smoother: Smoother,
    rect_smoother: Smoother,
    reported: Option<ReportedState>,
}

impl Track {
    pub fn new(
        serial: u32,
        now: MediaTime,
        observation: &Observation,
        unmatched_detection: &UnmatchedDetection,
    ) -> Track {
        Track {
            serial,
            born: now,
            subject: None,
            center: observation.rect.center(),
            side: observation.side(),
            velocity: [0.0; 2],
            visible: true,
            last_seen: now,
            rect: observation.rect,
            score: observation.score,
            quality: 0.0,
            by_detector: observation.by_detector,
            unrecognised_at: None,
            facing: unmatched_detection.facing,
            hits: 1,
            best_detection: unmatched_detection.score,
            misses: 0,
            entangled_until: MediaTime::from_nanos(i64::MIN),
            appearance: observation.appearance.clone(),
            recent: observation.appearance.clone(),
            patch: None,
            slot: None,
            history: VecDeque::from([(now, observation.rect)]),
            landmark_smoother: Smoother::default(),
            rect_smoother: Smoother::default(),
            reported: None,
        }
    }

    /// Moves the centre by the velocity to its predicted position, `seconds` after the previous
    /// frame. A hidden face also moves on, but stays within the picture.
    pub fn predict(&mut self, seconds: f32, picture_size: [usize; 2]) {
        for k in 0..2 {
            self.center[k] =
                (self.center[k] + self.velocity[k] * seconds).clamp(0.0, picture_size[k] as f32);
        }
    }

    /// Converts all pixel coordinates to a picture of another size; `factor` is the new size
    /// divided by the old one, for width and height.
    pub fn rescale(&mut self, factor: [f32; 2]) {
        for k in 0..2 {
            self.center[k] *= factor[k];
            self.velocity[k] *= factor[k];
        }
        self.side *= (factor[0] * factor[1]).sqrt();
        self.rect = self.rect.scaled(factor);
        for (_, rect) in &mut self.history {
            *rect = rect.scaled(factor);
        }
        self.landmark_smoother.rescale(factor);
        self.rect_smoother.rescale(factor);
    }

    /// Updates the track with an observation at `now`, `seconds` after the previous frame.
    pub fn update(&mut self, now: MediaTime, seconds: f32, observation: &Observation) {
        let returned = !self.visible;
        let entangled = now < self.entangled_until;
        let found = observation.rect.center();
        for k in 0..2 {
            let residual = found[k] - self.center[k];
            if returned {
                self.center[k] = found[k];
                continue;
            }
            self.center[k] += PLACE_GAIN * residual;
            if !entangled && seconds > 0.0 {
                let limit = MAX_SPEED * self.side;
                self.velocity[k] =
                    (self.velocity[k] + SPEED_GAIN * residual / seconds).clamp(-limit, limit);
            }
        }
        if returned {
            self.side = observation.side();
            self.velocity = [0.0; 2];
        } else if !entangled {
            self.side += SIDE_GAIN * (observation.side() - self.side);
        }
        if now.nanos_since(self.last_seen) > 300_000_000 {
            self.landmark_smoother.reset();
            self.rect_smoother.reset();
            self.patch = None;
        }
        if !entangled {
            self.appearance
                .blend(&observation.appearance, APPEARANCE_SHARE);
            self.recent = observation.appearance.clone();
        }
        self.visible = true;
        self.score = observation.score;
        self.by_detector = observation.by_detector;
        if observation.by_detector {
            self.unrecognised_at = Some(now);
        }
        self.rect = observation.rect;
        self.history.push_back((now, observation.rect));
        while self
            .history
            .front()
            .is_some_and(|(t, _)| now.nanos_since(*t) > HISTORY_NANOS)
        {
            self.history.pop_front();
        }
        self.last_seen = now;
    }

    /// The landmarks and the box of `observation`, smoothed over time. Must be called once per
    /// frame, `seconds` after the previous one.
    pub fn smooth(&mut self, observation: &Observation, seconds: f32) -> (Landmarks, Rect) {
        let unit = observation.side();
        let landmarks =
            self.landmark_smoother
                .smooth_landmarks(observation.landmarks, unit, seconds);
        let [[cx, cy], [w, h]] = self.rect_smoother.smooth(
            [
                observation.rect.center(),
                [observation.rect.w, observation.rect.h],
            ],
            unit,
            seconds,
        );
        (
            landmarks,
            Rect {
                x: cx - w / 2.0,
                y: cy - h / 2.0,
                w,
                h,
            },
        )
    }

    /// The face's box at an earlier time, by the observation nearest in time; `None` if none is
    /// within 150 ms.
    pub fn rect_at(&self, time: MediaTime) -> Option<Rect> {
        let (at, rect) = self
            .history
            .iter()
            .min_by_key(|(t, _)| t.nanos_since(time).abs())?;
        (at.nanos_since(time).abs() <= 150_000_000).then_some(*rect)
    }

    /// Takes over the subject of the track `hidden`, which then has none.
    pub fn inherit(&mut self, hidden: &mut Track) {
        self.subject = hidden.subject.take();
        self.appearance = hidden.appearance.clone();
        self.reported = hidden.reported;
        self.slot = hidden.slot;
        self.quality = hidden.quality;
    }

    /// Confidence in the landmarks of MTCNN's last network, 0..1, which lowers the face's quality.
    /// A face that this network rejects, or accepts on single frames only, is weak evidence. The
    /// network draws the landmarks of profiles towards a frontal face, so the pose by the
    /// detector's landmarks ([`Track::facing`]) is used.
    pub fn landmark_confidence(&self, now: MediaTime) -> f32 {
        let unrecognised = self
            .unrecognised_at
            .is_some_and(|at| now.nanos_since(at) < UNRECOGNISED_NANOS);
        self.facing * if unrecognised { UNRECOGNISED } else { 1.0 }
    }

    /// Similarity of `appearance` to the track, at most 1: the higher one of those to the running
    /// mean and to the last appearance.
    pub fn likeness(&self, appearance: &Appearance) -> f32 {
        self.appearance
            .likeness(appearance)
            .max(self.recent.likeness(appearance))
    }

    /// Seconds from the last observation to `now`.
    pub fn hidden_secs(&self, now: MediaTime) -> f32 {
        now.nanos_since(self.last_seen) as f32 * 1e-9
    }

    /// The change to report for the track's subject; `None` if the track has no subject. Remembers
    /// the state for [`Self::needs_update`]. `into` is the subject that continues after a merge.
    pub fn report(
        &mut self,
        time: MediaTime,
        phase: SubjectPhase,
        into: Option<u32>,
        picture_size: [usize; 2],
    ) -> Option<SubjectChange> {
        let rect = share_of(&self.rect, picture_size);
        self.reported = Some(ReportedState {
            rect,
            quality: self.quality,
            time,
        });
        let subject = SubjectId::Face(self.subject?);
        Some(SubjectChange {
            subject,
            time,
            phase,
            into: into.map(SubjectId::Face),
            rect,
            quality: self.quality,
        })
    }

    /// Whether a change of the subject has to be reported: at most once a second, and only if the
    /// box moved or grew by a tenth of its size, or the quality changed by 0.2.
    pub fn needs_update(&self, now: MediaTime, picture_size: [usize; 2]) -> bool {
        let Some(reported) = self.reported else {
            return true;
        };
        let [x, y, w, h] = share_of(&self.rect, picture_size);
        let moved = ((x - reported.rect[0]) / reported.rect[2].max(1e-3))
            .abs()
            .max(((y - reported.rect[1]) / reported.rect[3].max(1e-3)).abs());
        let grew = (w / reported.rect[2].max(1e-3) - 1.0)
            .abs()
            .max((h / reported.rect[3].max(1e-3) - 1.0).abs());
        now.nanos_since(reported.time) >= 1_000_000_000
            && (moved > 0.1 || grew > 0.1 || (self.quality - reported.quality).abs() > 0.2)
    }
}

/// The box `x, y, w, h` as shares of the picture's width and height, clipped to 0..1.
fn share_of(rect: &Rect, [width, height]: [usize; 2]) -> [f32; 4] {
    let x = |v: f32| (v / width.max(1) as f32).clamp(0.0, 1.0);
    let y = |v: f32| (v / height.max(1) as f32).clamp(0.0, 1.0);
    let (left, top) = (x(rect.x), y(rect.y));
    [
        left,
        top,
        x(rect.x + rect.w) - left,
        y(rect.y + rect.h) - top,
    ]
}
