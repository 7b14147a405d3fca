//! One followed face: where it is, where it will be, what it looks like.

use std::collections::VecDeque;

use super::appearance::Appearance;
use super::closeup::{Closeup, Patch};
use super::smooth::Smoother;
use crate::clip::{Landmarks, Rect, SubjectChange, SubjectId, SubjectPhase};
use crate::time::MediaTime;

/// What the refining network saw at one place of one frame.
#[derive(Clone, Debug)]
pub struct Observation {
    pub rect: Rect,
    pub landmarks: Landmarks,
    pub score: f32,
    pub closeup: Closeup,
    pub look: Appearance,
    /// The refining network does not recognise this face, the detector does.
    pub by_detector: bool,
}

impl Observation {
    pub fn side(&self) -> f32 {
        self.rect.w.max(self.rect.h)
    }
}

/// A detection that is no track yet.
#[derive(Clone, Copy, Debug)]
pub struct UnmatchedDetection {
    pub rect: Rect,
    pub score: f32,
    /// See [`Track::facing`].
    pub facing: f32,
}

impl UnmatchedDetection {
    /// Moves it to pictures of another size; `factor` per axis.
    pub fn rescale(&mut self, factor: [f32; 2]) {
        self.rect = self.rect.scaled(factor);
    }
}

/// How much of a surprise goes into place, speed and size at once.
const PLACE_GAIN: f32 = 0.85;
const SPEED_GAIN: f32 = 0.3;
const SIDE_GAIN: f32 = 0.3;
/// No face crosses more than this many of its own widths in a second.
const MAX_SPEED: f32 = 8.0;
/// Share of a new look in the running mean.
const LOOK_SHARE: f32 = 0.06;
/// How long places are remembered, for detections that come late.
const HISTORY_NANOS: i64 = 3_000_000_000;

/// Share of its quality that a face keeps which the refining network did not recognise within the
/// last [`UNRECOGNISED_NANOS`].
const UNRECOGNISED: f32 = 0.14;
const UNRECOGNISED_NANOS: i64 = 300_000_000;

/// What was last told of a subject.
#[derive(Clone, Copy, Debug)]
struct Told {
    rect: [f32; 4],
    quality: f32,
    time: MediaTime,
}

/// A face from its first detection until it is lost.
#[derive(Clone, Debug)]
pub struct Track {
    /// Counts all tracks, also those that never become subjects.
    pub serial: u32,
    pub born: MediaTime,
    /// `None` until it is confirmed.
    pub subject: Option<u32>,
    /// Middle and side of the square to look at next.
    pub center: [f32; 2],
    pub side: f32,
    /// Pixels a second.
    pub velocity: [f32; 2],
    pub visible: bool,
    pub last_seen: MediaTime,
    pub rect: Rect,
    pub score: f32,
    pub quality: f32,
    /// Where it was last seen, the refining network did not recognise it.
    pub by_detector: bool,
    /// When that was so for the last time.
    unrecognised_at: Option<MediaTime>,
    /// By the last detection: 1 for a face towards the camera, 0 for a profile.
    pub facing: f32,
    /// Detections that confirmed it, and the best of their scores.
    pub hits: u32,
    pub best_detection: f32,
    /// Detections since that did not.
    pub misses: u32,
    /// Until when another face is so near that looks and speeds are not to be learnt.
    pub entangled_until: MediaTime,
    pub look: Appearance,
    pub recent: Appearance,
    /// The straightened face of the frame before.
    pub patch: Option<Patch>,
    /// The last slot of the encoder's rate that got a crop.
    pub slot: Option<i64>,
    history: VecDeque<(MediaTime, Rect)>,
    landmark_smoother: Smoother,
    rect_smoother: Smoother,
    told: Option<Told>,
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
            look: observation.look.clone(),
            recent: observation.look.clone(),
            patch: None,
            slot: None,
            history: VecDeque::from([(now, observation.rect)]),
            landmark_smoother: Smoother::default(),
            rect_smoother: Smoother::default(),
            told: None,
        }
    }

    /// Moves the place to look at; a hidden face is expected to go on as it did, within the picture.
    pub fn predict(&mut self, seconds: f32, picture_size: [usize; 2]) {
        for k in 0..2 {
            self.center[k] =
                (self.center[k] + self.velocity[k] * seconds).clamp(0.0, picture_size[k] as f32);
        }
    }

    /// Moves everything in pixels to pictures of another size: `factor` is the new size over the old
    /// one, per axis.
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

    /// Takes what was seen at `now`, `seconds` after the frame before.
    pub fn see(&mut self, now: MediaTime, seconds: f32, observation: &Observation) {
        let returned = !self.visible;
        let entangled = now < self.entangled_until;
        let found = observation.rect.center();
        for k in 0..2 {
            let surprise = found[k] - self.center[k];
            if returned {
                self.center[k] = found[k];
                continue;
            }
            self.center[k] += PLACE_GAIN * surprise;
            if !entangled && seconds > 0.0 {
                let limit = MAX_SPEED * self.side;
                self.velocity[k] =
                    (self.velocity[k] + SPEED_GAIN * surprise / seconds).clamp(-limit, limit);
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
            self.look.blend(&observation.look, LOOK_SHARE);
            self.recent = observation.look.clone();
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

    /// The landmarks and the box without their jitter. Once a frame.
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

    /// Its box at an earlier moment: that of the nearest frame on which it was seen, if one is near.
    pub fn rect_at(&self, time: MediaTime) -> Option<Rect> {
        let (at, rect) = self
            .history
            .iter()
            .min_by_key(|(t, _)| t.nanos_since(time).abs())?;
        (at.nanos_since(time).abs() <= 150_000_000).then_some(*rect)
    }

    /// Goes on as the subject that `hidden` was, which is none from now on.
    pub fn inherit(&mut self, hidden: &mut Track) {
        self.subject = hidden.subject.take();
        self.look = hidden.look.clone();
        self.told = hidden.told;
        self.slot = hidden.slot;
        self.quality = hidden.quality;
    }

    /// How far the refining network's landmarks can be trusted, 0..1. A face that this network does
    /// not recognise, or recognises on single frames only, is weak evidence whatever its pose. On
    /// profiles the landmarks are drawn towards a frontal face: the detector's decide.
    pub fn trust(&self, now: MediaTime) -> f32 {
        let unrecognised = self
            .unrecognised_at
            .is_some_and(|at| now.nanos_since(at) < UNRECOGNISED_NANOS);
        self.facing * if unrecognised { UNRECOGNISED } else { 1.0 }
    }

    /// Likeness to what it mostly looks like, or last looked like.
    pub fn likeness(&self, look: &Appearance) -> f32 {
        self.look.likeness(look).max(self.recent.likeness(look))
    }

    /// Seconds since it was last seen.
    pub fn hidden_secs(&self, now: MediaTime) -> f32 {
        now.nanos_since(self.last_seen) as f32 * 1e-9
    }

    /// Something to tell of it, remembered as told. `None` for what is no subject.
    pub fn tell(
        &mut self,
        time: MediaTime,
        phase: SubjectPhase,
        into: Option<u32>,
        picture_size: [usize; 2],
    ) -> Option<SubjectChange> {
        let rect = share_of(&self.rect, picture_size);
        self.told = Some(Told {
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

    /// Is there news? At most once a second, and only if the box moved by a tenth of its size or quality by 0.2.
    pub fn has_news(&self, now: MediaTime, picture_size: [usize; 2]) -> bool {
        let Some(told) = self.told else { return true };
        let [x, y, w, h] = share_of(&self.rect, picture_size);
        let moved = ((x - told.rect[0]) / told.rect[2].max(1e-3))
            .abs()
            .max(((y - told.rect[1]) / told.rect[3].max(1e-3)).abs());
        let grew = (w / told.rect[2].max(1e-3) - 1.0)
            .abs()
            .max((h / told.rect[3].max(1e-3) - 1.0).abs());
        now.nanos_since(told.time) >= 1_000_000_000
            && (moved > 0.1 || grew > 0.1 || (self.quality - told.quality).abs() > 0.2)
    }
}

/// A box in 0..1 of the picture, what is outside cut off.
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
