//! Composed recordings with known truth: real faces with their surroundings on moving paths.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::clip::{
    ColorMatrix, Colorimetry, FramedFaces, Picture, SubjectChange, SubjectId, VideoFrame,
};
use crate::encode::{Provider, Runtime};
use crate::face::associate::distance;
use crate::face::{Detector, DetectorSettings, FaceSettings, FaceStage, Follower, Mtcnn, RgbImage};
use crate::manifest::{FaceNormalisation, FacePreprocessing};
use crate::testing::project;
use crate::time::MediaTime;

pub(super) const WIDTH: usize = 640;
pub(super) const HEIGHT: usize = 360;
pub(super) const FPS: i64 = 25;

/// A face with its surroundings, as it is pasted. The middle of the face is the middle of the
/// cutout.
pub(super) struct Cutout {
    pub(super) image: RgbImage,
    /// Mask of the pasted pixels; elsewhere the background shows.
    pub(super) mask: Vec<bool>,
    /// Longer side of the face's box.
    pub(super) face_side: f32,
}

/// A person's path: the centre of the face by time in seconds, `None` while out of the picture.
/// Later actors occlude earlier ones.
pub(super) struct Actor<'a> {
    pub(super) cutout: &'a Cutout,
    pub(super) path: Box<dyn Fn(f32) -> Option<[f32; 2]> + 'a>,
}

pub(super) struct Harness {
    pub(super) detector: Detector,
    pub(super) stage: FaceStage,
}

/// The detectors that each scene runs with.
pub(super) const DETECTORS: [&str; 2] = ["models/yunet", "models/mtcnn"];

pub(super) fn harness(settings: FaceSettings) -> Harness {
    harness_with(DETECTORS[0], settings)
}

pub(super) fn harness_with(detector: &str, settings: FaceSettings) -> Harness {
    let runtime = Runtime::load().unwrap();
    let models = project(detector);
    let preprocessing = FacePreprocessing {
        size: 48,
        channels: 1,
        rate_hz: 10.0,
        template: [
            [0.31, 0.35],
            [0.69, 0.35],
            [0.5, 0.56],
            [0.35, 0.76],
            [0.65, 0.76],
        ],
        normalise: FaceNormalisation::PerCrop { floor: 0.02 },
        min_quality: 0.1,
    };
    Harness {
        detector: Detector::open(
            &runtime,
            &models,
            Provider::Cpu,
            DetectorSettings::default(),
        )
        .unwrap(),
        stage: FaceStage::new(
            settings,
            Some(preprocessing),
            Follower::open(
                &runtime,
                &project("models/mtcnn"),
                &models,
                Provider::Cpu,
                1,
            )
            .unwrap(),
        ),
    }
}

impl Harness {
    pub(super) fn frame(&mut self, index: u64, picture: Picture) -> FramedFaces {
        let time = MediaTime::from_nanos(index as i64 * 1_000_000_000 / FPS);
        let frame = VideoFrame {
            index,
            time,
            duration_nanos: None,
            picture: Arc::new(picture),
        };
        if self.stage.wants_detection(&frame) {
            let found = self.detector.detect(&frame.picture).unwrap();
            self.stage.detected(time, found);
        }
        self.stage.advance(&frame).unwrap()
    }
}

/// Each picture's best face, scaled so that its box is about `side` pixels high.
pub(super) fn cutouts(folder: &Path, names: &[&str], side: f32) -> Vec<Cutout> {
    let mut detector = Mtcnn::open(
        &Runtime::load().unwrap(),
        &project("models/mtcnn"),
        Provider::Cpu,
        DetectorSettings::default(),
    )
    .unwrap();
    names
        .iter()
        .map(|name| {
            let png = image::open(folder.join(name)).unwrap().to_rgb8();
            let whole = RgbImage {
                width: png.width() as usize,
                height: png.height() as usize,
                pixels: png.into_raw(),
            };
            let found = detector.detect_rgb(&whole, 40.0).unwrap();
            let rect = found[0].rect;
            let scale = rect.w.max(rect.h) / side;
            let ([cx, cy], out) = (rect.center(), (side * 1.5) as usize);
            let mut pixels = Vec::with_capacity(out * out * 3);
            for y in 0..out {
                for x in 0..out {
                    // Mean over a pixel's area; the border repeats.
                    let taps = (scale.ceil() as usize).clamp(1, 6);
                    let mut sum = [0.0f32; 3];
                    for t in 0..taps * taps {
                        let (tx, ty) = ((t % taps) as f32, (t / taps) as f32);
                        let px =
                            cx + (x as f32 + (tx + 0.5) / taps as f32 - out as f32 / 2.0) * scale;
                        let py =
                            cy + (y as f32 + (ty + 0.5) / taps as f32 - out as f32 / 2.0) * scale;
                        let (px, py) = (
                            px.clamp(0.0, whole.width as f32 - 1.0) as usize,
                            py.clamp(0.0, whole.height as f32 - 1.0) as usize,
                        );
                        for (c, s) in sum.iter_mut().enumerate() {
                            *s += f32::from(whole.pixels[(py * whole.width + px) * 3 + c]);
                        }
                    }
                    pixels.extend(sum.map(|s| (s / (taps * taps) as f32) as u8));
                }
            }
            Cutout {
                image: RgbImage {
                    width: out,
                    height: out,
                    pixels,
                },
                mask: ellipse(out),
                face_side: side,
            }
        })
        .collect()
}

/// The ellipse that fills a square of `side` pixels.
fn ellipse(side: usize) -> Vec<bool> {
    let offset = |i: usize| 2.0 * i as f32 / side as f32 - 1.0;
    (0..side * side)
        .map(|i| {
            let (u, v) = (offset(i % side), offset(i / side));
            u * u + v * v <= 1.0
        })
        .collect()
}

/// The scene at a time, as I420, with a little noise that depends on the frame alone. `pillar`
/// hides the columns it covers.
pub(super) fn compose(
    actors: &[Actor<'_>],
    time: f32,
    index: u64,
    pillar: Option<std::ops::Range<usize>>,
) -> Picture {
    let mut rgb = vec![0u8; WIDTH * HEIGHT * 3];
    let background = |x: usize, y: usize| {
        [
            70 + (x / 8) as u8,
            90 + (y / 6) as u8,
            110 + ((x * 7 + y * 13) % 23) as u8,
        ]
    };
    for (i, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = background(i % WIDTH, i / WIDTH);
    }
    for actor in actors {
        let Some([cx, cy]) = (actor.path)(time) else {
            continue;
        };
        let side = actor.cutout.image.width;
        let (left, top) = (
            (cx - side as f32 / 2.0).round() as i64,
            (cy - side as f32 / 2.0).round() as i64,
        );
        for y in 0..side {
            for x in 0..side {
                let (px, py) = (left + x as i64, top + y as i64);
                if actor.cutout.mask[y * side + x]
                    && (0..WIDTH as i64).contains(&px)
                    && (0..HEIGHT as i64).contains(&py)
                {
                    let from = (y * side + x) * 3;
                    let to = (py as usize * WIDTH + px as usize) * 3;
                    rgb[to..to + 3].copy_from_slice(&actor.cutout.image.pixels[from..from + 3]);
                }
            }
        }
    }
    for x in pillar.into_iter().flatten() {
        for y in 0..HEIGHT {
            rgb[(y * WIDTH + x) * 3..][..3].copy_from_slice(&background(x, y).map(|v| v / 2));
        }
    }
    let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for value in &mut rgb {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *value = value.saturating_add_signed((state >> 61) as i8 - 3);
    }
    i420(&rgb)
}

pub(super) fn i420(rgb: &[u8]) -> Picture {
    let at = |x: usize, y: usize| -> [f32; 3] {
        std::array::from_fn(|c| f32::from(rgb[(y * WIDTH + x) * 3 + c]))
    };
    let luma = |[r, g, b]: [f32; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let mut data: Vec<u8> = (0..WIDTH * HEIGHT)
        .map(|i| luma(at(i % WIDTH, i / WIDTH)).round() as u8)
        .collect();
    for weights in [[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]] {
        for i in 0..(WIDTH / 2) * (HEIGHT / 2) {
            let (x, y) = (i % (WIDTH / 2) * 2, i / (WIDTH / 2) * 2);
            let sum: f32 = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .iter()
                .map(|(dx, dy)| {
                    at(x + dx, y + dy)
                        .iter()
                        .zip(weights)
                        .map(|(v, w)| v * w)
                        .sum::<f32>()
                })
                .sum();
            data.push((128.0 + sum / 4.0).round().clamp(0.0, 255.0) as u8);
        }
    }
    Picture::from_i420(
        WIDTH,
        HEIGHT,
        Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: true,
        },
        data,
    )
}

/// Results of a scene against its truth.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Per actor: frames on which each subject stood on them.
    pub(super) ids: Vec<BTreeMap<SubjectId, u32>>,
    /// Per actor: frames with an unobstructed face, and those of them on which it was followed.
    pub(super) clear: Vec<(u32, u32)>,
    pub(super) changes: Vec<SubjectChange>,
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
}

pub(super) fn play(
    detector: &str,
    actors: &[Actor<'_>],
    seconds: f32,
    pillar: Option<std::ops::Range<usize>>,
) -> Outcome {
    let mut harness = harness_with(detector, FaceSettings::default());
    let mut outcome = Outcome {
        ids: vec![BTreeMap::new(); actors.len()],
        clear: vec![(0, 0); actors.len()],
        changes: Vec::new(),
    };
    for index in 0..(seconds * FPS as f32) as u64 {
        let time = index as f32 / FPS as f32;
        let framed = harness.frame(index, compose(actors, time, index, pillar.clone()));
        let places: Vec<_> = actors.iter().map(|a| (a.path)(time)).collect();
        for (i, place) in places.iter().enumerate() {
            let (Some([x, y]), side) = (place, actors[i].cutout.face_side) else {
                continue;
            };
            let front = places[i + 1..]
                .iter()
                .flatten()
                .map(|p| (p[0] - x).hypot(p[1] - y) / side)
                .fold(f32::MAX, f32::min);
            let from_pillar = pillar.as_ref().map_or(f32::MAX, |p| {
                ((x - (p.start + p.end) as f32 / 2.0).abs() - p.len() as f32 / 2.0) / side
            });
            let inside = *x > side * 0.6 && *x < WIDTH as f32 - side * 0.6;
            // A face that is mostly covered is not expected to be found.
            let on_it = if front > 0.5 && from_pillar > 0.0 {
                framed
                    .faces
                    .iter()
                    .find(|f| distance(f.rect.center(), [*x, *y]) < 0.3 * side)
            } else {
                None
            };
            if let Some(face) = on_it {
                *outcome.ids[i].entry(face.subject).or_default() += 1;
            }
            if front > 1.6 && from_pillar > 0.8 && inside && time > 0.6 {
                outcome.clear[i].0 += 1;
                outcome.clear[i].1 += u32::from(on_it.is_some());
            }
        }
        outcome.changes.extend(framed.changes);
    }
    outcome.changes.extend(
        harness
            .stage
            .finish(MediaTime::from_nanos((seconds * 1e9) as i64)),
    );
    outcome
}

pub(super) const PEOPLE: [&str; 6] = [
    "liveportrait_d10_30.png",
    "newsreader_german_100.png",
    "liveportrait_s18_10.png",
    "W036_level_3_happy_007_30.png",
    "retalking1_22fps_40.png",
    "latentsync1_hevc_portrait_50.png",
];

pub(super) fn linear(
    from: [f32; 2],
    to: [f32; 2],
    seconds: f32,
) -> Box<dyn Fn(f32) -> Option<[f32; 2]>> {
    Box::new(move |t| {
        Some(std::array::from_fn(|k| {
            from[k] + (to[k] - from[k]) * (t / seconds).clamp(0.0, 1.0)
        }))
    })
}
