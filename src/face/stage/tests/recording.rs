//! Composed recordings, and the results of the face stage on them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::scene::{Actor, FPS, Harness, View, WIDTH, compose_view, frame_time, harness_with};
use super::simulated::Simulation;
use super::truth::Truth;
use crate::clip::{Face, Picture, SubjectChange, SubjectId, VideoFrame};
use crate::face::associate::distance;
use crate::face::{Detection, FaceSettings};
use crate::testing::tracking::{AnnotatedFrame, LabelledBox};

/// A composed recording with known places of its faces.
pub(super) struct Scene<'a> {
    pub(super) actors: Vec<Actor<'a>>,
    pub(super) seconds: f32,
    pub(super) fps: i64,
    /// Columns of the picture that a pillar hides; `None` without a pillar.
    pub(super) pillar: Option<Range<usize>>,
    /// Displacement of the camera in pixels, as a function of the time in seconds.
    pub(super) camera: fn(f32) -> [f32; 2],
    /// Times of scene cuts, in seconds.
    pub(super) cuts: &'static [f32],
    /// Simulated detections; `None`: those of a real detector.
    pub(super) simulation: Option<Simulation>,
}

impl<'a> Scene<'a> {
    /// A scene with a still camera and a real detector, without pillar and scene cuts.
    pub(super) fn new(actors: Vec<Actor<'a>>, seconds: f32) -> Scene<'a> {
        Scene {
            actors,
            seconds,
            fps: FPS,
            pillar: None,
            camera: |_| [0.0; 2],
            cuts: &[],
            simulation: None,
        }
    }

    /// The camera's displacement in whole pixels and the number of the shot, at `time` in seconds.
    pub(super) fn view(&self, time: f32) -> View {
        View {
            camera: (self.camera)(time).map(|v| v.round() as i64),
            shot: self.cuts.iter().filter(|cut| **cut <= time).count(),
        }
    }

    /// For each actor, the centre of the face in the picture at `time` (seconds), in pixels; `None`
    /// while the actor is away.
    pub(super) fn places(&self, time: f32) -> Vec<Option<[f32; 2]>> {
        let camera = self.view(time).camera;
        let seen = |[x, y]: [f32; 2]| [x - camera[0] as f32, y - camera[1] as f32];
        self.actors
            .iter()
            .map(|actor| (actor.path)(time).map(seen))
            .collect()
    }

    fn picture(&self, time: f32, index: u64) -> Picture {
        let (pillar, view) = (self.pillar.clone(), self.view(time));
        compose_view(&self.actors, time, index, pillar, view)
    }

    /// Runs the face stage over the scene, with the detector in the folder `detector`.
    pub(super) fn play(&self, detector: &str) -> Outcome {
        let mut harness = harness_with(detector, FaceSettings::default());
        let mut truth = Truth::new(self);
        let mut outcome = Outcome {
            ids: vec![BTreeMap::new(); self.actors.len()],
            clear: vec![(0, 0); self.actors.len()],
            ..Outcome::default()
        };
        let mut detections = Detections::new(self.simulation);
        for index in 0..(self.seconds * self.fps as f32) as u64 {
            let time = index as f32 / self.fps as f32;
            let frame = VideoFrame {
                index,
                time: frame_time(index, self.fps),
                duration_nanos: None,
                picture: Arc::new(self.picture(time, index)),
            };
            detections.give(&mut harness, &frame, || truth.visible_faces(time));
            let framed = harness.stage.advance(&frame).unwrap();
            let mut annotated = truth.annotate(time);
            annotated.tracked = framed
                .faces
                .iter()
                .map(|face| LabelledBox {
                    id: number(face.subject),
                    rect: face.rect,
                })
                .collect();
            outcome.frames.push(annotated);
            outcome.count(self, time, &framed.faces);
            outcome.changes.extend(framed.changes);
        }
        let end = frame_time((self.seconds * self.fps as f32) as u64, self.fps);
        outcome.changes.extend(harness.stage.finish(end));
        outcome
    }
}

fn number(subject: SubjectId) -> u32 {
    match subject {
        SubjectId::Face(number) => number,
        SubjectId::Voice => unreachable!("the face stage makes subjects of faces only"),
    }
}

/// Gives the stage the detections of one recording, real or simulated.
struct Detections {
    simulation: Option<Simulation>,
    /// Detections of an earlier frame, with the index of the frame on which they are delivered.
    late: Option<(u64, VideoFrame, Vec<Detection>)>,
}

impl Detections {
    fn new(simulation: Option<Simulation>) -> Detections {
        Detections {
            simulation,
            late: None,
        }
    }

    /// Gives the stage the detections that are due on this frame. As in the daemon, at most one
    /// detection is under way.
    fn give(
        &mut self,
        harness: &mut Harness,
        frame: &VideoFrame,
        faces: impl FnOnce() -> Vec<Detection>,
    ) {
        if let Some((_, requested, found)) = self.late.take_if(|late| late.0 <= frame.index) {
            harness.stage.detected(requested.time, found);
        }
        if self.late.is_some() || !harness.stage.wants_detection(frame) {
            return;
        }
        let (delay, found) = match &mut self.simulation {
            Some(simulation) => (simulation.delay(), simulation.detect(faces())),
            None => (0, harness.detector.detect(&frame.picture).unwrap()),
        };
        if delay == 0 {
            harness.stage.detected(frame.time, found);
        } else {
            self.late = Some((frame.index + delay, frame.clone(), found));
        }
    }
}

/// The tracker's results on a scene, compared with the truth.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// For each actor: the number of frames on which each subject is at the actor's position.
    pub(super) ids: Vec<BTreeMap<SubjectId, u32>>,
    /// For each actor: the number of frames with an unobstructed face, and the number of those
    /// frames with a subject at the actor's position.
    pub(super) clear: Vec<(u32, u32)>,
    pub(super) changes: Vec<SubjectChange>,
    pub(super) frames: Vec<AnnotatedFrame>,
}

impl Outcome {
    pub(super) fn is_one_id_each(&self) -> bool {
        let firsts: std::collections::BTreeSet<_> = self
            .ids
            .iter()
            .filter_map(|ids| ids.keys().next())
            .collect();
        self.ids.iter().all(|ids| ids.len() == 1) && firsts.len() == self.ids.len()
    }

    /// Adds a frame to `ids` and `clear`. Faces are assigned to actors by position.
    fn count(&mut self, scene: &Scene<'_>, time: f32, faces: &[Arc<Face>]) {
        let places = scene.places(time);
        for (i, place) in places.iter().enumerate() {
            let (Some([x, y]), side) = (place, scene.actors[i].cutout.face_side) else {
                continue;
            };
            let front = places[i + 1..]
                .iter()
                .flatten()
                .map(|p| (p[0] - x).hypot(p[1] - y) / side)
                .fold(f32::MAX, f32::min);
            let from_pillar = scene.pillar.as_ref().map_or(f32::MAX, |p| {
                ((x - (p.start + p.end) as f32 / 2.0).abs() - p.len() as f32 / 2.0) / side
            });
            let inside = *x > side * 0.6 && *x < WIDTH as f32 - side * 0.6;
            // A face that is mostly covered is not expected to be found.
            let on_it = if front > 0.5 && from_pillar > 0.0 {
                faces
                    .iter()
                    .find(|f| distance(f.rect.center(), [*x, *y]) < 0.3 * side)
            } else {
                None
            };
            if let Some(face) = on_it {
                *self.ids[i].entry(face.subject).or_default() += 1;
            }
            if front > 1.6 && from_pillar > 0.8 && inside && time > 0.6 {
                self.clear[i].0 += 1;
                self.clear[i].1 += u32::from(on_it.is_some());
            }
        }
    }
}
