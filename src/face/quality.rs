//! Rates the quality of a face as evidence in one number, by size, blur, pose and the network's
//! score.

use super::closeup::Closeup;
use super::refine::INPUT_SIDE;
use crate::clip::Landmarks;

/// Distance between the eyes, in pixels, up to which the quality is 0, and from which it does not
/// grow further.
const EYES_PX: [f32; 2] = [5.0, 22.0];
/// Values of [`detail`] up to which a face counts as blurred, and from which it counts as sharp.
const DETAIL: [f32; 2] = [0.002, 0.03];

/// 0 up to `low`, rising linearly to 1 at `high`.
fn ramp([low, high]: [f32; 2], value: f32) -> f32 {
    ((value - low) / (high - low)).clamp(0.0, 1.0)
}

/// Quality of a face as evidence, 0..1: the product of ratings of size, sharpness, pose (`facing`,
/// 0..1) and `score` (0..1). An average face has 0.5 or more, a profile or a blurred face less than
/// 0.25.
pub fn quality(closeup: &Closeup, landmarks: &Landmarks, score: f32, facing: f32) -> f32 {
    let [left, right, ..] = *landmarks;
    let eyes = (right[0] - left[0]).hypot(right[1] - left[1]);
    // A profile's eyes are close together, so its size comes from the height.
    let height = height(landmarks);
    let size = ramp(EYES_PX, eyes.max(height * 0.8));
    let sharp = ramp(DETAIL, detail(closeup));
    (score.clamp(0.0, 1.0) * size.sqrt() * (0.35 + 0.65 * sharp.sqrt()) * facing).clamp(0.0, 1.0)
}

/// Distance from the point midway between the eyes to the centre of the mouth.
fn height(landmarks: &Landmarks) -> f32 {
    let [left, right, _, mouth_left, mouth_right] = *landmarks;
    let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
    (mouth[0] - eyes[0]).hypot(mouth[1] - eyes[1])
}

fn middle(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]
}

/// How far a face looks towards the camera: 1 for a frontal face, falling to 0 for a profile. It is
/// computed from the position of the nose between the eyes, and between eyes and mouth. Used if the
/// detector is MTCNN; if it is YuNet, [`super::pose::facing`] is used.
pub fn frontal(landmarks: &Landmarks) -> f32 {
    let [left, right, nose, mouth_left, mouth_right] = *landmarks;
    let (eyes, mouth) = (middle(left, right), middle(mouth_left, mouth_right));
    let axis = [right[0] - left[0], right[1] - left[1]];
    let width = axis[0].hypot(axis[1]);
    let height = height(landmarks);
    if width < 1e-3 || height < 1e-3 {
        return 0.0;
    }
    let down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
    let from_eyes = [nose[0] - eyes[0], nose[1] - eyes[1]];
    let along = (from_eyes[0] * down[0] + from_eyes[1] * down[1]) / (height * height);
    // Distance from the line between eyes and mouth, in halves of the eyes' distance.
    let aside = (from_eyes[0] * down[1] - from_eyes[1] * down[0]).abs() / height / (width / 2.0);
    let yaw = 1.0 - ramp([0.35, 1.3], aside);
    let pitch = 1.0 - ramp([0.3, 0.65], (along - 0.55).abs());
    // A turned head's eyes are close together relative to the face's height.
    let narrow = ramp([0.25, 0.55], width / height);
    yaw * pitch * narrow
}

/// Sharpness of the face: mean square of the Laplacian, divided by 20 times the variance of the
/// luma, in the middle of the close-up.
pub fn detail(closeup: &Closeup) -> f32 {
    let at = |x: usize, y: usize| closeup.luma[y * INPUT_SIDE + x];
    let (mut sum, mut square, mut laplacian, mut count) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for y in 8..INPUT_SIDE - 6 {
        for x in 8..INPUT_SIDE - 8 {
            let v = at(x, y);
            let l = 4.0 * v - at(x - 1, y) - at(x + 1, y) - at(x, y - 1) - at(x, y + 1);
            sum += v;
            square += v * v;
            laplacian += l * l;
            count += 1.0;
        }
    }
    let variance = square / count - (sum / count).powi(2);
    laplacian / count / 20.0 / (variance + 16.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRONT: Landmarks = [
        [70.0, 80.0],
        [110.0, 80.0],
        [90.0, 102.0],
        [74.0, 122.0],
        [106.0, 122.0],
    ];

    fn rated(closeup: &Closeup, landmarks: &Landmarks, score: f32) -> f32 {
        quality(closeup, landmarks, score, frontal(landmarks))
    }

    fn checkers(side: usize) -> Closeup {
        let luma = (0..INPUT_SIDE * INPUT_SIDE)
            .map(|i| {
                if (i % INPUT_SIDE / side + i / INPUT_SIDE / side).is_multiple_of(2) {
                    60.0
                } else {
                    180.0
                }
            })
            .collect();
        Closeup {
            origin: [50, 50],
            side: 96,
            luma,
        }
    }

    #[test]
    fn better_faces_get_more() {
        let sharp = checkers(4);
        let front = rated(&sharp, &FRONT, 1.0);
        assert!(front > 0.8, "{front}");
        let mut profile = FRONT;
        profile[2][0] += 22.0;
        profile[1][0] -= 14.0;
        assert!(rated(&sharp, &profile, 1.0) < 0.4 * front);
        let small = FRONT.map(|p| p.map(|v| v / 8.0));
        assert!(rated(&sharp, &small, 1.0) < 0.4 * front);
        let ramp = Closeup {
            luma: (0..INPUT_SIDE * INPUT_SIDE)
                .map(|i| (i % INPUT_SIDE) as f32 * 4.0)
                .collect(),
            ..sharp.clone()
        };
        assert!(rated(&ramp, &FRONT, 1.0) < 0.4 * front);
        assert!(rated(&sharp, &FRONT, 0.5) < 0.6 * front);
    }

    proptest! {
        #[test]
        fn quality_is_a_share(
            points in prop::array::uniform5(prop::array::uniform2(-1e3f32..1e3)),
            score in 0.0f32..1.0,
        ) {
            let q = rated(&checkers(4), &points, score);
            prop_assert!((0.0..=1.0).contains(&q));
        }
    }
}
