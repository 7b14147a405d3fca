//! Simulated detections: the true faces with the faults of a detector.

use super::scene::{HEIGHT, WIDTH};
use crate::clip::Rect;
use crate::face::Detection;

/// A simulated detector. The same seed and faces give the same detections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simulation {
    pub(super) faults: Faults,
    pub(super) noise: Noise,
}

/// The faults of a simulated detector.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Standard deviation of a box's place and size, as a share of the face's side.
    pub(super) jitter: f32,
    /// Share of the faces that are missed.
    pub(super) missed: f32,
    /// Share of the pictures with a false detection: half of them in any place, half beside a face.
    pub(super) false_positives: f32,
    /// Number of frames after which the detections of a picture arrive.
    pub(super) delay: u64,
}

impl Simulation {
    pub(super) fn new(faults: Faults, seed: u64) -> Simulation {
        Simulation {
            faults,
            noise: Noise(seed),
        }
    }

    pub(super) fn delay(&self) -> u64 {
        self.faults.delay
    }

    /// The simulated detections of a picture whose true faces are `faces`.
    pub(super) fn detect(&mut self, faces: Vec<Detection>) -> Vec<Detection> {
        let mut found = Vec::new();
        for face in &faces {
            if self.noise.uniform() >= self.faults.missed {
                found.push(self.jittered(face));
            }
        }
        if self.noise.uniform() < self.faults.false_positives {
            found.push(self.false_detection(&faces));
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    /// `face` with random deviations of place and size.
    fn jittered(&mut self, face: &Detection) -> Detection {
        let (rect, deviation) = (face.rect, self.faults.jitter);
        let [along, down, size] = std::array::from_fn(|_| self.noise.normal() * deviation);
        let scale = (1.0 + size).clamp(0.5, 2.0);
        let (center, side) = (rect.center(), rect.w.max(rect.h));
        let center_now = [center[0] + along * side, center[1] + down * side];
        let moved = |point: [f32; 2]| {
            std::array::from_fn(|k| center_now[k] + (point[k] - center[k]) * scale)
        };
        let [x, y] = moved([rect.x, rect.y]);
        Detection {
            rect: Rect {
                x,
                y,
                w: rect.w * scale,
                h: rect.h * scale,
            },
            score: 0.85 + 0.15 * self.noise.uniform(),
            landmarks: face.landmarks.map(moved),
        }
    }

    /// A detection where no face is.
    fn false_detection(&mut self, faces: &[Detection]) -> Detection {
        let side = 50.0 + 100.0 * self.noise.uniform();
        let anywhere = [
            self.noise.uniform() * WIDTH as f32,
            self.noise.uniform() * HEIGHT as f32,
        ];
        let beside = faces.first().filter(|_| self.noise.uniform() < 0.5);
        let [x, y] = beside.map_or(anywhere, |face| {
            let (sin, cos) = (self.noise.uniform() * std::f32::consts::TAU).sin_cos();
            let [x, y] = face.rect.center();
            [x + 0.8 * face.rect.w * cos, y + 0.8 * face.rect.h * sin]
        });
        let landmarks = [
            [-0.2, -0.17],
            [0.2, -0.17],
            [0.0, 0.04],
            [-0.15, 0.26],
            [0.15, 0.26],
        ];
        Detection {
            rect: Rect {
                x: x - side / 2.0,
                y: y - side / 2.0,
                w: side,
                h: side,
            },
            score: 0.6 + 0.35 * self.noise.uniform(),
            landmarks: landmarks.map(|[dx, dy]| [x + dx * side, y + dy * side]),
        }
    }
}

/// Pseudo-random numbers (SplitMix64, Steele et al. 2014).
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A uniformly distributed number in 0..1.
    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// An approximately normal number with mean 0 and standard deviation 1: the sum of twelve
    /// uniform numbers, which is the same on every machine.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}
