//! Tests of both face detectors on composed pictures with known faces: recall by size, light, yaw
//! and pitch; error of the landmarks; time.

use super::head::{Head, HeadPose, Rendered, heads};
use super::scene::{Actor, DETECTORS, HEIGHT, WIDTH, compose, harness_with};
use crate::clip::{Landmarks, Picture};
use crate::encode::{Provider, Runtime};
use crate::face::closeup::Closeup;
use crate::face::refine::Refiner;
use crate::face::{Detection, Detector, FaceSettings};
use crate::testing::{material, project};

const FRONT: HeadPose = HeadPose {
    yaw: 0.0,
    pitch: 0.0,
};
const PLACES: [[f32; 2]; 3] = [[170.0, 170.0], [330.5, 180.25], [480.0, 190.75]];

/// The picture with its brightness multiplied by `light` (0..1).
fn dimmed(picture: &Picture, light: f32) -> Picture {
    let mut data = picture.bytes().to_vec();
    let (luma, chroma) = data.split_at_mut(WIDTH * HEIGHT);
    for value in luma {
        *value = (f32::from(*value) * light).round() as u8;
    }
    for value in chroma {
        *value = (128.0 + (f32::from(*value) - 128.0) * light).round() as u8;
    }
    Picture::from_i420(WIDTH, HEIGHT, picture.colorimetry, data)
}

/// A picture with one face, and the face's true landmarks.
struct Sample {
    picture: Picture,
    landmarks: Landmarks,
    visible: [bool; 5],
    side: f32,
}

fn samples(heads: &[Head], side: f32, turns: &[HeadPose], light: f32) -> Vec<Sample> {
    let rendered = heads
        .iter()
        .flat_map(|head| turns.iter().map(|pose| head.render(side, *pose)));
    rendered
        .flat_map(|head| {
            let Rendered {
                cutout,
                landmarks,
                visible,
            } = head;
            PLACES.map(|place| {
                let actors = [Actor {
                    cutout: &cutout,
                    path: Box::new(move |_| Some(place)),
                }];
                let half = cutout.image.width as f32 / 2.0;
                let corner = place.map(|v| (v - half).round());
                Sample {
                    picture: dimmed(&compose(&actors, 0.0, 7, None), light),
                    landmarks: landmarks.map(|[x, y]| [x + corner[0], y + corner[1]]),
                    visible,
                    side,
                }
            })
        })
        .collect()
}

fn middle(landmarks: &Landmarks) -> [f32; 2] {
    std::array::from_fn(|k| landmarks.iter().map(|p| p[k]).sum::<f32>() / 5.0)
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

impl Sample {
    fn is_on_it(&self, face: &Detection) -> bool {
        distance(middle(&face.landmarks), middle(&self.landmarks)) < 0.25 * self.side
            && (0.5..2.0).contains(&(face.rect.w.max(face.rect.h) / self.side))
    }

    /// Mean distance of the visible landmarks from the truth, as a share of the face's side.
    fn error(&self, landmarks: &Landmarks) -> f32 {
        let distances: Vec<f32> = (0..5)
            .filter(|i| self.visible[*i])
            .map(|i| distance(landmarks[i], self.landmarks[i]))
            .collect();
        distances.iter().sum::<f32>() / distances.len() as f32 / self.side
    }
}

/// Sums of a detector's results on several samples.
#[derive(Default)]
struct DetectionScores {
    samples: usize,
    hits: usize,
    others: usize,
    errors: Vec<f32>,
    /// Errors of the tracker's landmarks, on detected faces that the tracker's network accepts.
    tracked: Vec<f32>,
    nanos: Vec<i64>,
}

impl DetectionScores {
    fn add(&mut self, other: DetectionScores) {
        self.samples += other.samples;
        self.hits += other.hits;
        self.others += other.others;
        self.errors.extend(other.errors);
        self.tracked.extend(other.tracked);
        self.nanos.extend(other.nanos);
    }

    fn recall(&self) -> f32 {
        self.hits as f32 / self.samples as f32
    }

    fn row(&self) -> String {
        let mean = |values: &[f32]| 100.0 * values.iter().sum::<f32>() / values.len() as f32;
        format!(
            "recall {:.2} of {}, landmarks {:.1} % (tracker's {:.1} % of {:.2})",
            self.recall(),
            self.samples,
            mean(&self.errors),
            mean(&self.tracked),
            self.tracked.len() as f32 / self.samples as f32
        )
    }
}

struct Bench {
    detectors: [Detector; 2],
    tracker: Refiner,
}

impl Bench {
    fn new() -> Bench {
        let tracker = project("models/mtcnn");
        Bench {
            detectors: DETECTORS
                .map(|folder| harness_with(folder, FaceSettings::default()).detector),
            tracker: Refiner::open(&Runtime::load().unwrap(), &tracker, Provider::Cpu, 1).unwrap(),
        }
    }

    /// Runs both detectors on every sample. Returns the results of each.
    fn run(&mut self, samples: &[Sample]) -> [DetectionScores; 2] {
        let mut results = [DetectionScores::default(), DetectionScores::default()];
        for sample in samples {
            for (detector, result) in self.detectors.iter_mut().zip(&mut results) {
                let started = crate::time::monotonic_nanos();
                let faces = detector.detect(&sample.picture).unwrap();
                result.nanos.push(crate::time::monotonic_nanos() - started);
                result.samples += 1;
                result.others += faces.iter().filter(|f| !sample.is_on_it(f)).count();
                let Some(face) = faces.iter().find(|f| sample.is_on_it(f)) else {
                    continue;
                };
                result.hits += 1;
                result.errors.push(sample.error(&face.landmarks));
                let (mut inputs, side) = (Vec::new(), face.rect.w.max(face.rect.h));
                let closeup = Closeup::cut(&sample.picture, face.rect.center(), side, &mut inputs);
                let found = self.tracker.refine(&inputs).unwrap()[0];
                if found.score >= 0.6 {
                    let landmarks = found.landmarks.map(|p| closeup.to_picture(p));
                    result.tracked.push(sample.error(&landmarks));
                }
            }
        }
        results
    }
}

/// Measures and prints one row of a table, and adds its results to `total`.
fn row(
    bench: &mut Bench,
    name: &str,
    samples: &[Sample],
    total: &mut [DetectionScores; 2],
) -> [f32; 2] {
    let results = bench.run(samples);
    let recalls = results.each_ref().map(DetectionScores::recall);
    for ((result, total), folder) in results.into_iter().zip(total).zip(DETECTORS) {
        println!("{name}: {folder}: {}", result.row());
        total.add(result);
    }
    recalls
}

/// The rendered heads have no neck and no hair beyond the head, and up to 75° of yaw their texture
/// is that of the front. MTCNN finds more small and more turned ones than YuNet, and YuNet more in
/// the dark. The integration tests have real profiles.
#[test]
fn composed_faces_are_found_by_both_detectors() {
    let Some(folder) = material("detector") else {
        return;
    };
    let heads = heads(&folder);
    let mut bench = Bench::new();
    let (mut dark, mut all) = (
        <[DetectionScores; 2]>::default(),
        <[DetectionScores; 2]>::default(),
    );
    let mut easy = Vec::new();
    for light in [1.0, 0.25, 0.08] {
        let mut total = <[DetectionScores; 2]>::default();
        for side in [32.0, 40.0, 56.0, 90.0, 150.0, 200.0] {
            let samples = samples(&heads, side, &[FRONT], light);
            let name = format!("light {light}, {side} px");
            let recalls = row(&mut bench, &name, &samples, &mut total);
            if side >= 56.0 && light >= 0.25 {
                easy.push((name, recalls));
            }
        }
        if light < 0.1 {
            dark = total;
        } else {
            all.iter_mut().zip(total).for_each(|(all, t)| all.add(t));
        }
    }
    type Axis = (&'static str, &'static [f32], fn(f32) -> HeadPose);
    let axes: [Axis; 2] = [
        ("yaw", &[0.0, 15.0, 30.0, 45.0, 60.0, 75.0], |yaw| {
            HeadPose { yaw, pitch: 0.0 }
        }),
        ("pitch", &[15.0, 30.0, 45.0], |pitch| HeadPose {
            yaw: 0.0,
            pitch,
        }),
    ];
    for (axis, angles, pose) in axes {
        for angle in angles {
            let turns: &[HeadPose] = if *angle == 0.0 {
                &[FRONT]
            } else {
                &[pose(-angle), pose(*angle)]
            };
            let samples: Vec<Sample> = [56.0, 110.0]
                .iter()
                .flat_map(|side| samples(&heads, *side, turns, 1.0))
                .collect();
            let name = format!("{axis} {angle}");
            let recalls = row(&mut bench, &name, &samples, &mut all);
            if *angle <= 30.0 {
                easy.push((name, recalls));
            }
        }
    }
    let dark_hits = dark.each_ref().map(|scores| scores.hits);
    all.iter_mut().zip(dark).for_each(|(all, d)| all.add(d));
    for (result, folder) in all.iter_mut().zip(DETECTORS) {
        result.nanos.sort_unstable();
        println!(
            "{folder}: {}, {} others, {:.2} ms a picture of {WIDTH}x{HEIGHT}",
            result.row(),
            result.others,
            result.nanos[result.nanos.len() / 2] as f64 * 1e-6
        );
    }
    for (name, recalls) in easy {
        assert!(recalls.iter().all(|r| *r >= 0.9), "{name}: {recalls:?}");
    }
    assert!(dark_hits[0] >= dark_hits[1], "in the dark: {dark_hits:?}");
}
