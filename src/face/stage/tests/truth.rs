//! Ground truth of a scene: box, visibility and identity of each face at any time.

use super::recording::Scene;
use super::scene::{HEIGHT, WIDTH};
use crate::clip::{Landmarks, Rect};
use crate::face::{Detection, FaceSettings};
use crate::testing::tracking::{AnnotatedFrame, LabelledBox};

/// Lowest visible share with which the tracker has to find a face. A face with less is ignored.
const TO_BE_FOUND: f32 = 0.75;
/// Number of points on each side of the grid that samples the visible share of a face.
const GRID: usize = 16;

/// A face of a scene at one time.
struct TrueFace {
    rect: Rect,
    landmarks: Landmarks,
    /// Share of the face that is visible, 0..1.
    visible: f32,
}

/// When an actor was last visible, and with which identity.
#[derive(Clone, Copy)]
struct LastSeen {
    /// Seconds since the start of the scene.
    time: f32,
    /// Number of the shot.
    shot: usize,
    /// The actor's identity.
    id: u32,
}

/// Assigns identities to the visible faces of a scene, frame by frame.
pub(super) struct Truth<'a> {
    scene: &'a Scene<'a>,
    /// For each actor of the scene; `None` before the actor was visible.
    last_seen: Vec<Option<LastSeen>>,
    next_id: u32,
}

impl<'a> Truth<'a> {
    pub(super) fn new(scene: &'a Scene<'a>) -> Truth<'a> {
        Truth {
            scene,
            last_seen: vec![None; scene.actors.len()],
            next_id: 1,
        }
    }

    /// The true boxes of the visible faces at `time` (seconds), without the tracker's boxes. Must
    /// be called with times that do not decrease.
    ///
    /// An actor gets a new identity after a scene cut, and after an absence as long as
    /// [`FaceSettings::lost_after`]. The tracker then has to report a new subject.
    pub(super) fn annotate(&mut self, time: f32) -> AnnotatedFrame {
        let lost_after = FaceSettings::default().lost_after.as_secs_f32();
        let shot = self.scene.view(time).shot;
        let mut annotated = AnnotatedFrame::default();
        for (actor, face) in self.faces(time).into_iter().enumerate() {
            let Some(face) = face.filter(|face| face.visible > 0.0) else {
                continue;
            };
            let known = self.last_seen[actor]
                .filter(|seen| seen.shot == shot && time - seen.time < lost_after)
                .map(|seen| seen.id);
            let id = known.unwrap_or(self.next_id);
            self.next_id += u32::from(known.is_none());
            self.last_seen[actor] = Some(LastSeen { time, shot, id });
            let rect = face.rect;
            if face.visible >= TO_BE_FOUND {
                annotated.truth.push(LabelledBox { id, rect });
            } else {
                annotated.ignored.push(rect);
            }
        }
        annotated
    }

    /// Exact detections of the faces that the tracker has to find at `time` (seconds).
    pub(super) fn visible_faces(&self, time: f32) -> Vec<Detection> {
        let faces = self.faces(time).into_iter().flatten();
        faces
            .filter(|face| face.visible >= TO_BE_FOUND)
            .map(|face| Detection {
                rect: face.rect,
                score: 1.0,
                landmarks: face.landmarks,
            })
            .collect()
    }

    /// For each actor, the true face at `time` (seconds); `None` while the actor is away.
    fn faces(&self, time: f32) -> Vec<Option<TrueFace>> {
        let places = self.scene.places(time);
        let face = |(actor, place): (usize, &Option<[f32; 2]>)| {
            let ([x, y], cutout) = ((*place)?, self.scene.actors[actor].cutout);
            let [w, h] = cutout.face_box;
            let rect = Rect {
                x: x - w / 2.0,
                y: y - h / 2.0,
                w,
                h,
            };
            Some(TrueFace {
                rect,
                landmarks: cutout.landmarks.map(|[dx, dy]| [x + dx, y + dy]),
                visible: self.visible_share(actor, &rect, &places),
            })
        };
        places.iter().enumerate().map(face).collect()
    }

    /// Visible share of an actor's face, the ellipse in `rect`: the part inside the picture that
    /// neither the pillar nor a later actor covers. `places` are the centres of all actors' faces.
    fn visible_share(&self, actor: usize, rect: &Rect, places: &[Option<[f32; 2]>]) -> f32 {
        let (mut points, mut visible) = (0, 0);
        let scene = self.scene;
        for i in 0..GRID * GRID {
            let share = |i: usize| (i as f32 + 0.5) / GRID as f32;
            let (u, v) = (share(i % GRID), share(i / GRID));
            if (2.0 * u - 1.0).hypot(2.0 * v - 1.0) > 1.0 {
                continue;
            }
            points += 1;
            let [x, y] = [rect.x + u * rect.w, rect.y + v * rect.h];
            let inside = (0.0..WIDTH as f32).contains(&x) && (0.0..HEIGHT as f32).contains(&y);
            let behind_pillar = scene
                .pillar
                .as_ref()
                .is_some_and(|pillar| x >= 0.0 && pillar.contains(&(x as usize)));
            let behind_actor = (actor + 1..places.len()).any(|front| {
                places[front]
                    .is_some_and(|[fx, fy]| scene.actors[front].cutout.covers([x - fx, y - fy]))
            });
            visible += u32::from(inside && !behind_pillar && !behind_actor);
        }
        visible as f32 / points as f32
    }
}
