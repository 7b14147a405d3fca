//! Composes pictures with known faces: real faces with their surroundings move over a background.

use std::path::Path;
use std::sync::Arc;

use crate::clip::{ColorMatrix, Colorimetry, FramedFaces, Landmarks, Picture, VideoFrame};
use crate::encode::{Provider, Runtime};
use crate::face::{
    Detection, Detector, DetectorSettings, FaceSettings, FaceStage, Follower, Mtcnn, RgbImage,
};
use crate::manifest::{FaceNormalisation, FacePreprocessing};
use crate::testing::project;
use crate::time::MediaTime;

pub(super) const WIDTH: usize = 640;
pub(super) const HEIGHT: usize = 360;
pub(super) const FPS: i64 = 25;

/// A face with its surroundings, cut out of a picture to be pasted into others. The centre of the
/// face is the centre of the cutout.
pub(super) struct Cutout {
    pub(super) image: RgbImage,
    /// Whether each pixel is pasted, row by row; at other pixels the background shows.
    pub(super) mask: Vec<bool>,
    /// Longer side of the face's box, in pixels.
    pub(super) face_side: f32,
    /// Width and height of the face's box, in pixels.
    pub(super) face_box: [f32; 2],
    /// Landmarks in pixels from the centre of the face.
    pub(super) landmarks: Landmarks,
}

impl Cutout {
    /// Whether the cutout covers a point, in pixels from the centre of the face.
    pub(super) fn covers(&self, [x, y]: [f32; 2]) -> bool {
        let side = self.image.width;
        let [column, row] = [x, y].map(|v| (v + side as f32 / 2.0).floor());
        let inside = |v: f32| v >= 0.0 && v < side as f32;
        inside(column) && inside(row) && self.mask[row as usize * side + column as usize]
    }
}

/// A person in a scene. The path gives the centre of the face in pixels by the time in seconds;
/// `None` while the person is away. Later actors of a scene occlude earlier ones.
pub(super) struct Actor<'a> {
    pub(super) cutout: &'a Cutout,
    pub(super) path: Box<dyn Fn(f32) -> Option<[f32; 2]> + 'a>,
}

pub(super) struct Harness {
    pub(super) runtime: Runtime,
    pub(super) detector: Detector,
    pub(super) stage: FaceStage,
}

/// Folders of the detectors: the default one, and MTCNN.
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
        runtime,
    }
}

pub(super) fn frame_time(index: u64, fps: i64) -> MediaTime {
    MediaTime::from_nanos(index as i64 * 1_000_000_000 / fps)
}

impl Harness {
    pub(super) fn frame(&mut self, index: u64, picture: Picture) -> FramedFaces {
        let time = frame_time(index, FPS);
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

/// The best face of each picture `names` in `folder`, scaled so that its box is about `side` pixels
/// high.
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
            let Detection {
                rect, landmarks, ..
            } = found[0];
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
                face_box: [rect.w / scale, rect.h / scale],
                landmarks: landmarks.map(|[x, y]| [(x - cx) / scale, (y - cy) / scale]),
            }
        })
        .collect()
}

/// A mask of `side x side` pixels, row by row: true inside the ellipse that fills the square.
fn ellipse(side: usize) -> Vec<bool> {
    let offset = |i: usize| 2.0 * i as f32 / side as f32 - 1.0;
    (0..side * side)
        .map(|i| {
            let (u, v) = (offset(i % side), offset(i / side));
            u * u + v * v <= 1.0
        })
        .collect()
}

/// The camera's view of a scene at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    /// Displacement of the camera since the start of the scene, in pixels.
    pub(super) camera: [i64; 2],
    /// Number of the shot: odd shots have another background.
    pub(super) shot: usize,
}

/// The picture of a scene at `time` (seconds), with a little noise that depends only on the frame's
/// index. A `pillar` hides the columns of its range.
pub(super) fn compose(
    actors: &[Actor<'_>],
    time: f32,
    index: u64,
    pillar: Option<std::ops::Range<usize>>,
) -> Picture {
    compose_view(actors, time, index, pillar, View::default())
}

/// Does what [`compose`] does, from another view of the camera. The pillar moves with the camera.
pub(super) fn compose_view(
    actors: &[Actor<'_>],
    time: f32,
    index: u64,
    pillar: Option<std::ops::Range<usize>>,
    view: View,
) -> Picture {
    let mut rgb = vec![0u8; WIDTH * HEIGHT * 3];
    let background = |x: usize, y: usize| {
        let (x, y) = (x as i64 + view.camera[0], y as i64 + view.camera[1]);
        let [red, green] = [70 + x.div_euclid(8), 90 + y.div_euclid(6)];
        let blue = 110 + (x * 7 + y * 13).rem_euclid(23);
        if view.shot.is_multiple_of(2) {
            [red, green, blue].map(|v| v as u8)
        } else {
            [220 - red, 220 - green, blue].map(|v| v as u8)
        }
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
            (cx - side as f32 / 2.0).round() as i64 - view.camera[0],
            (cy - side as f32 / 2.0).round() as i64 - view.camera[1],
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
