//! A description of how a face looks, computed without a network: luma of the aligned face, colour
//! of the skin, and colours below (clothes) and above it (hair). It distinguishes the few people of
//! one scene, but does not identify a person on another day.

use super::closeup::Patch;
use crate::clip::{Landmarks, Picture, Rect};

/// Weight of the face's luma in the similarity of two appearances.
const OF_FACE: f32 = 0.6;
/// Weight of the skin's colour in the similarity.
const OF_SKIN: f32 = 0.15;
/// Weight of the colours around the face in the similarity.
const OF_SURROUND: f32 = 0.25;
/// Difference of the skin's chroma (0..255) at which its similarity falls to 1/e.
const SKIN_SPREAD: f32 = 8.0;
/// Difference of the colour around the face (0..255) at which its similarity falls to 1/e.
const SURROUND_SPREAD: f32 = 30.0;

/// The appearance of a face on one frame, or a running mean over frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Appearance {
    /// Luma of the aligned face, as [`Patch::values`].
    face: Vec<f32>,
    /// Mean Cb and Cr of the cheeks, the nose and the point between the eyes.
    skin: [f32; 2],
    /// Mean Y, Cb, Cr of three cells below and three above the face.
    surround: [[f32; 3]; 6],
}

impl Appearance {
    /// The appearance of a face in `picture`, given by its box and landmarks in pixels, and its
    /// aligned luma.
    pub fn new(picture: &Picture, rect: &Rect, landmarks: &Landmarks, patch: &Patch) -> Appearance {
        let [left, right, nose, mouth_left, mouth_right] = *landmarks;
        let between = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
        let spots = [
            nose,
            between(left, mouth_left),
            between(right, mouth_right),
            between(left, right),
        ];
        let reach = (rect.w * 0.06).max(1.0);
        let skin = spots.map(|p| mean(picture, p, reach));
        let [cx, cy] = rect.center();
        let cells: [[f32; 2]; 6] = [
            [-0.45, 0.95],
            [0.0, 0.95],
            [0.45, 0.95],
            [-0.35, -0.62],
            [0.0, -0.66],
            [0.35, -0.62],
        ];
        let surround = cells.map(|[x, y]| {
            mean(
                picture,
                [cx + x * rect.w * 1.2, cy + y * rect.h],
                rect.w * 0.16,
            )
        });
        Appearance {
            face: patch.values.clone(),
            skin: [1, 2].map(|k| skin.iter().map(|s| s[k]).sum::<f32>() / spots.len() as f32),
            surround,
        }
    }

    /// Similarity of two appearances, at most 1. For the same person in the same scene it is mostly
    /// above 0.7.
    pub fn likeness(&self, other: &Appearance) -> f32 {
        let (mut ab, mut aa, mut bb) = (0.0, 1e-6, 1e-6);
        for (a, b) in self.face.iter().zip(&other.face) {
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        let face = ab / f32::sqrt(aa * bb);
        let near = |square: f32, spread: f32| (-square / (spread * spread)).exp();
        let skin = near(
            self.skin
                .iter()
                .zip(other.skin)
                .map(|(a, b)| (a - b).powi(2))
                .sum(),
            SKIN_SPREAD,
        );
        let cell = |(a, b): (&[f32; 3], &[f32; 3])| {
            near(
                (a[0] - b[0]).powi(2) + 4.0 * ((a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)),
                SURROUND_SPREAD,
            )
        };
        let surround = self
            .surround
            .iter()
            .zip(&other.surround)
            .map(cell)
            .sum::<f32>()
            / self.surround.len() as f32;
        OF_FACE * face + OF_SKIN * skin + OF_SURROUND * surround
    }

    /// Updates a running mean with a new appearance, which gets the weight `share` (0..1).
    pub fn blend(&mut self, appearance: &Appearance, share: f32) {
        let towards = |mine: &mut f32, theirs: f32| *mine += share * (theirs - *mine);
        self.face
            .iter_mut()
            .zip(&appearance.face)
            .for_each(|(a, b)| towards(a, *b));
        self.skin
            .iter_mut()
            .zip(appearance.skin)
            .for_each(|(a, b)| towards(a, b));
        self.surround
            .iter_mut()
            .flatten()
            .zip(appearance.surround.iter().flatten())
            .for_each(|(a, b)| towards(a, *b));
    }
}

/// Mean Y, Cb, Cr of nine samples at distance 0 or `reach` (pixels) from a point in both
/// directions. Samples outside of the picture are moved to its border.
fn mean(picture: &Picture, [x, y]: [f32; 2], reach: f32) -> [f32; 3] {
    let bytes = picture.bytes();
    let mut sum = [0.0f32; 3];
    for dy in [-reach, 0.0, reach] {
        for dx in [-reach, 0.0, reach] {
            let px = (x + dx).clamp(0.0, (picture.width - 1) as f32) as usize;
            let py = (y + dy).clamp(0.0, (picture.height - 1) as f32) as usize;
            for (plane, sum) in sum.iter_mut().enumerate() {
                let shift = usize::from(plane > 0);
                let layout = picture.planes[plane];
                *sum +=
                    f32::from(bytes[layout.offset + (py >> shift) * layout.stride + (px >> shift)]);
            }
        }
    }
    sum.map(|s| s / 9.0)
}
