//! Estimates the head pose from a face's five landmarks.

use crate::clip::Landmarks;

/// The pose of a head in degrees. Positive yaw turns the nose to the picture's right, positive
/// pitch lowers the nose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    pub yaw: f32,
    pub pitch: f32,
}

/// Landmarks of a frontal head in three dimensions: eyes, nose, corners of the mouth. Axes point
/// right, down and towards the camera, in millimetres from the tip of the nose. Depths and heights
/// are fitted on 1,560 faces of the test material, so that the pose by MTCNN's landmarks agrees
/// with MediaPipe's FaceLandmarker. The mean error of the yaw is 2° below 10°, and 3° to 4° up to
/// 60°. The mean error of the pitch is 3° within 15°, and 5° to 8° beyond.
const MODEL: [[f32; 3]; 5] = [
    [-31.0, -20.0, -44.0],
    [31.0, -20.0, -44.0],
    [0.0, 0.0, 0.0],
    [-25.0, 21.0, -21.0],
    [25.0, 21.0, -21.0],
];

/// The head pose in which [`MODEL`], seen by an orthographic camera, fits the landmarks best.
/// `None` if the landmarks are degenerate, for example all at one point.
pub fn pose(landmarks: &Landmarks) -> Option<Pose> {
    // Least-squares affine camera. By the model's symmetry only height and depth are coupled.
    let mean = |k: usize| MODEL.iter().map(|p| p[k]).sum::<f32>() / 5.0;
    let center = [mean(0), mean(1), mean(2)];
    let points = MODEL.map(|p| -> [f32; 3] { std::array::from_fn(|k| p[k] - center[k]) });
    let sum = |a: usize, b: usize| points.iter().map(|p| p[a] * p[b]).sum::<f32>();
    let (xx, yy, yz, zz) = (sum(0, 0), sum(1, 1), sum(1, 2), sum(2, 2));
    let determinant = yy * zz - yz * yz;
    let row = |axis: usize| -> [f32; 3] {
        let with = |k: usize| {
            points
                .iter()
                .zip(landmarks)
                .map(|(p, l)| p[k] * l[axis])
                .sum::<f32>()
        };
        let (x, y, z) = (with(0), with(1), with(2));
        [
            x / xx,
            (zz * y - yz * z) / determinant,
            (yy * z - yz * y) / determinant,
        ]
    };
    let camera = [row(0), row(1)];
    // The nearest two orthonormal rows: (A Aᵀ)^(-1/2) A.
    let dot = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (p, q, r) = (
        dot(camera[0], camera[0]),
        dot(camera[0], camera[1]),
        dot(camera[1], camera[1]),
    );
    let root = (p * r - q * q).max(0.0).sqrt();
    let trace = (p + r + 2.0 * root).sqrt();
    if !root.is_finite() || root <= 1e-12 || root <= 1e-6 * (p + r) {
        return None;
    }
    let weight = |own: f32, other: [f32; 3], of_other: [f32; 3], mixed: f32| -> [f32; 3] {
        std::array::from_fn(|k| ((own + root) * other[k] - mixed * of_other[k]) / (root * trace))
    };
    let (right, down) = (
        weight(r, camera[0], camera[1], q),
        weight(p, camera[1], camera[0], q),
    );
    let forward_z = right[0] * down[1] - right[1] * down[0];
    Some(Pose {
        yaw: right[2].atan2(forward_z).to_degrees(),
        pitch: down[2].clamp(-1.0, 1.0).asin().to_degrees(),
    })
}

/// Yaw up to which a face counts as frontal, and from which it is unusable, in degrees.
const YAW: [f32; 2] = [25.0, 50.0];
/// Pitch up to which a face counts as frontal, and from which it is unusable, in degrees.
const PITCH: [f32; 2] = [20.0, 40.0];

/// Yaw by YuNet's landmarks up to which a face counts as frontal, and from which it is unusable, in
/// degrees. YuNet's landmarks exaggerate the yaw: on the test material their median is 49° where
/// MediaPipe's FaceLandmarker gives 30° to 45°, and 61° where FaceLandmarker gives 45° to 60°. The
/// pitch by YuNet's landmarks is too small by half and is not used.
const DETECTED_YAW: [f32; 2] = [55.0, 70.0];

/// 1 for angles up to `full` degrees, falling linearly to 0 at `none` degrees.
fn share([full, none]: [f32; 2], angle: f32) -> f32 {
    (1.0 - (angle.abs() - full) / (none - full)).clamp(0.0, 1.0)
}

/// How far a face looks towards the camera, by MTCNN's landmarks: 1 for a frontal face, falling to
/// 0 for a face that is turned too far to be used.
pub fn facing(landmarks: &Landmarks) -> f32 {
    pose(landmarks).map_or(0.0, |p| share(YAW, p.yaw) * share(PITCH, p.pitch))
}

/// How far a face looks towards the camera, by YuNet's landmarks: 1 for a frontal face, falling to
/// 0 for a profile. Only the yaw is used.
pub fn detected_facing(landmarks: &Landmarks) -> f32 {
    pose(landmarks).map_or(0.0, |p| share(DETECTED_YAW, p.yaw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The landmarks of [`MODEL`], turned by the given degrees (pitch first, then yaw, then roll),
    /// scaled, and moved to `place`.
    fn seen([yaw, pitch, roll]: [f32; 3], scale: f32, place: [f32; 2]) -> Landmarks {
        let [(sy, cy), (sp, cp), (sr, cr)] = [yaw, pitch, roll].map(|v| v.to_radians().sin_cos());
        MODEL.map(|[x, y, z]| {
            let (y, z) = (cp * y + sp * z, cp * z - sp * y);
            let x = cy * x + sy * z;
            [
                scale * (cr * x - sr * y) + place[0],
                scale * (sr * x + cr * y) + place[1],
            ]
        })
    }

    proptest! {
        #[test]
        fn the_pose_of_a_turned_model_is_found_within_half_a_degree(
            yaw in -75.0f32..75.0,
            pitch in -45.0f32..45.0,
            scale in 0.2f32..8.0,
            x in -500.0f32..500.0,
        ) {
            let pose = pose(&seen([yaw, pitch, 0.0], scale, [x, 40.0])).unwrap();
            prop_assert!(
                (pose.yaw - yaw).abs() < 0.5 && (pose.pitch - pitch).abs() < 0.5,
                "{pose:?}"
            );
        }

        #[test]
        fn a_frontal_face_is_facing_under_any_roll(roll in -60.0f32..60.0) {
            let points = seen([0.0, 0.0, roll], 1.0, [0.0; 2]);
            prop_assert!(facing(&points) > 0.99);
        }

        #[test]
        fn facing_is_a_share(points in prop::array::uniform5(prop::array::uniform2(-1e3f32..1e3))) {
            prop_assert!((0.0..=1.0).contains(&facing(&points)));
        }
    }

    #[test]
    fn facing_is_0_for_turned_and_degenerate_faces_and_1_for_frontal_ones() {
        assert_eq!(facing(&seen([60.0, 0.0, 0.0], 1.0, [0.0; 2])), 0.0);
        assert_eq!(facing(&seen([0.0, -45.0, 0.0], 1.0, [0.0; 2])), 0.0);
        assert!(facing(&seen([20.0, 10.0, 0.0], 1.0, [0.0; 2])) > 0.99);
        assert_eq!(facing(&[[3.0, 4.0]; 5]), 0.0);
        assert_eq!(detected_facing(&seen([75.0, 0.0, 0.0], 1.0, [0.0; 2])), 0.0);
        assert!(detected_facing(&seen([50.0, 30.0, 0.0], 1.0, [0.0; 2])) > 0.99);
    }
}
