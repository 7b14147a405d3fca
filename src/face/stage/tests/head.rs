//! Renders heads of known size and pose from pictures of faces that look at the camera.

use std::path::Path;

use super::scene::Cutout;
use crate::clip::Landmarks;
use crate::face::RgbImage;

/// Pictures of faces within 5° of the camera's axis, and their landmarks by a third network
/// (MediaPipe's FaceLandmarker 1.2.3): middles of the eyes' corners, tip of the nose, corners of
/// the mouth; pixels, left before right.
const HEADS: [(&str, Landmarks); 4] = [
    (
        "liveportrait_d10_30.png",
        [
            [204.3, 245.7],
            [310.1, 246.5],
            [262.6, 313.5],
            [212.0, 358.1],
            [305.1, 361.9],
        ],
    ),
    (
        "newsreader_german_100.png",
        [
            [217.9, 228.6],
            [306.1, 224.2],
            [266.4, 285.2],
            [228.9, 326.5],
            [307.4, 322.2],
        ],
    ),
    (
        "W036_level_3_happy_007_30.png",
        [
            [295.4, 164.3],
            [353.8, 164.5],
            [326.1, 200.0],
            [299.5, 231.9],
            [349.0, 232.8],
        ],
    ),
    (
        "latentsync1_hevc_portrait_50.png",
        [
            [175.0, 244.4],
            [202.9, 243.2],
            [189.3, 258.8],
            [175.3, 273.0],
            [203.0, 271.7],
        ],
    ),
];

/// Side of a face's box over the mean of the distance between the eyes and that from eyes to mouth.
const BOX: f32 = 2.8;
/// Half axes of the head model (x, y, z), in [`Head::unit`]. It is an ellipsoid with the exponent 3
/// along y, so its front is flatter from top to bottom.
const AXES: [f32; 3] = [1.17, 1.65, 1.48];
/// Offset of the model's centre from [`Head::middle`] along y (downwards), in [`Head::unit`].
const LOWER: f32 = -0.35;
/// The nose: height of its tip over the ellipsoid, width, and extent below the tip, in
/// [`Head::unit`].
const NOSE: [f32; 3] = [0.34, 0.17, 0.09];
/// Number of steps by which a ray through the head is searched for its surface.
const STEPS: usize = 160;

/// The pose of a head in degrees. Positive yaw turns the nose to the picture's right, positive
/// pitch lowers the nose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HeadPose {
    pub(super) yaw: f32,
    pub(super) pitch: f32,
}

/// A model of a head, textured with a picture of its front.
pub(super) struct Head {
    picture: RgbImage,
    /// Number of pixels of the picture in one unit of the model.
    unit: f32,
    /// The point midway between eyes and mouth, in pixels of the picture.
    middle: [f32; 2],
    landmarks: Landmarks,
}

/// A rendered head with its true landmarks, in pixels of its image.
pub(super) struct Rendered {
    pub(super) cutout: Cutout,
    pub(super) landmarks: Landmarks,
    /// Landmarks that the head does not occlude.
    pub(super) visible: [bool; 5],
}

pub(super) fn heads(folder: &Path) -> Vec<Head> {
    HEADS
        .iter()
        .map(|(name, landmarks)| {
            let png = image::open(folder.join(name)).unwrap().to_rgb8();
            let mean = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
            let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
            let [left, right, _, mouth_left, mouth_right] = *landmarks;
            let (eyes, mouth) = (mean(left, right), mean(mouth_left, mouth_right));
            Head {
                picture: RgbImage {
                    width: png.width() as usize,
                    height: png.height() as usize,
                    pixels: png.into_raw(),
                },
                unit: (distance(left, right) + distance(eyes, mouth)) / 2.0,
                middle: mean(eyes, mouth),
                landmarks: *landmarks,
            }
        })
        .collect()
}

impl Head {
    /// Converts a point from pixels of the picture to coordinates of the model.
    fn in_model(&self, point: [f32; 2]) -> [f32; 2] {
        std::array::from_fn(|k| (point[k] - self.middle[k]) / self.unit)
    }

    /// Depths of the head's front and back at `[x, y]`, from the plane through the head's centre
    /// towards the camera; `None` beside the head.
    fn heights(&self, [x, y]: [f32; 2]) -> Option<[f32; 2]> {
        let rest = 1.0 - (x / AXES[0]).powi(2) - ((y - LOWER) / AXES[1]).abs().powi(3);
        if rest < 0.0 {
            return None;
        }
        let round = AXES[2] * rest.sqrt();
        let ([tip_x, tip_y], eyes) = (self.in_model(self.landmarks[2]), -0.5);
        let [height, width, end] = NOSE;
        let along = if y <= tip_y {
            ((y - eyes) / (tip_y - eyes)).max(0.0)
        } else {
            (-((y - tip_y) / end).powi(2)).exp()
        };
        let nose = height * along * (-((x - tip_x) / width).powi(2)).exp();
        Some([round + nose, -round])
    }

    fn color(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let at = |k: usize, v: f32, limit: usize| {
            ((v * self.unit + self.middle[k]) as usize).min(limit - 1)
        };
        let (px, py) = (at(0, x, self.picture.width), at(1, y, self.picture.height));
        let start = (py * self.picture.width + px) * 3;
        std::array::from_fn(|c| f32::from(self.picture.pixels[start + c]))
    }

    /// The first point of the head that a ray along the camera's axis at `[x, y]` meets, in the
    /// model's own frame.
    fn hit(&self, camera: [f32; 2], rotation: &Rotation) -> Option<[f32; 2]> {
        if rotation.is_identity() {
            return self.heights(camera).map(|_| camera);
        }
        let reach = AXES[1] + NOSE[0];
        (0..STEPS).find_map(|step| {
            let depth = reach * (1.0 - 2.0 * step as f32 / STEPS as f32);
            let [x, y, z] = rotation.rotate_back([camera[0], camera[1], depth]);
            let [front, back] = self.heights([x, y])?;
            (back..=front).contains(&z).then_some([x, y])
        })
    }

    /// Renders the head in the given pose, with a face box of `side` pixels.
    pub(super) fn render(&self, side: f32, pose: HeadPose) -> Rendered {
        let rotation = Rotation::new(pose);
        let (scale, out) = (side / BOX, (side * 1.6) as usize);
        let taps = (self.unit / scale).ceil().clamp(1.0, 3.0) as usize;
        let (mut pixels, mut mask) = (Vec::with_capacity(out * out * 3), Vec::new());
        for y in 0..out {
            for x in 0..out {
                let (mut sum, mut count) = ([0.0f32; 3], 0);
                for tap in 0..taps * taps {
                    let offset = |i: usize, t: usize| {
                        (i as f32 + (t as f32 + 0.5) / taps as f32 - out as f32 / 2.0) / scale
                    };
                    let camera = [offset(x, tap % taps), offset(y, tap / taps)];
                    if let Some(point) = self.hit(camera, &rotation) {
                        let color = self.color(point);
                        (0..3).for_each(|c| sum[c] += color[c]);
                        count += 1;
                    }
                }
                pixels.extend(sum.map(|s| (s / count.max(1) as f32) as u8));
                mask.push(2 * count > taps * taps);
            }
        }
        let mut visible = [true; 5];
        let landmarks: Landmarks = std::array::from_fn(|i| {
            let [x, y] = self.in_model(self.landmarks[i]);
            let [front, _] = self.heights([x, y]).expect("landmarks are on the head");
            let [u, v, _] = rotation.rotate([x, y, front]);
            visible[i] = self
                .hit([u, v], &rotation)
                .is_some_and(|[hx, hy]| (hx - x).hypot(hy - y) < 0.2);
            [u, v].map(|v| v * scale + out as f32 / 2.0)
        });
        Rendered {
            cutout: Cutout {
                image: RgbImage {
                    width: out,
                    height: out,
                    pixels,
                },
                mask,
                face_side: side,
                face_box: [side; 2],
                landmarks: landmarks.map(|point| point.map(|v| v - out as f32 / 2.0)),
            },
            landmarks,
            visible,
        }
    }
}

/// A rotation about the head's centre: pitch, then yaw. The axes point right, down and towards the
/// camera.
struct Rotation {
    yaw: (f32, f32),
    pitch: (f32, f32),
}

impl Rotation {
    fn is_identity(&self) -> bool {
        self.yaw.0 == 0.0 && self.pitch.0 == 0.0
    }

    fn new(pose: HeadPose) -> Rotation {
        Rotation {
            yaw: pose.yaw.to_radians().sin_cos(),
            pitch: pose.pitch.to_radians().sin_cos(),
        }
    }

    fn rotate(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let ((sin_yaw, cos_yaw), (sin_pitch, cos_pitch)) = (self.yaw, self.pitch);
        let (y, z) = (cos_pitch * y + sin_pitch * z, cos_pitch * z - sin_pitch * y);
        [cos_yaw * x + sin_yaw * z, y, cos_yaw * z - sin_yaw * x]
    }

    fn rotate_back(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let ((sin_yaw, cos_yaw), (sin_pitch, cos_pitch)) = (self.yaw, self.pitch);
        let (x, z) = (cos_yaw * x - sin_yaw * z, cos_yaw * z + sin_yaw * x);
        [
            x,
            cos_pitch * y - sin_pitch * z,
            cos_pitch * z + sin_pitch * y,
        ]
    }
}
