//! Lip motion: by how much the mouth changes between two frames more than the rest of the face.

use super::closeup::Patch;

/// Rows and columns of a [`Patch`] that contain the mouth.
const MOUTH: (std::ops::Range<usize>, std::ops::Range<usize>) = (15..24, 6..18);
/// Rows and columns of a [`Patch`] that move with the head only, from forehead to nose.
const REST: (std::ops::Range<usize>, std::ops::Range<usize>) = (2..14, 3..21);

/// Mean absolute change of the mouth's luma between two frames, minus that of the rest of the face;
/// at least 0. The unit is the standard deviation of the face's luma.
pub fn lip_motion(before: &Patch, now: &Patch) -> f32 {
    let change = |(rows, columns): (std::ops::Range<usize>, std::ops::Range<usize>)| {
        let count = (rows.len() * columns.len()) as f32;
        let sum: f32 = rows
            .flat_map(|y| columns.clone().map(move |x| y * Patch::SIDE + x))
            .map(|i| (now.values[i] - before.values[i]).abs())
            .sum();
        sum / count
    };
    (change(MOUTH) - change(REST)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_of_the_mouth_is_lip_motion() {
        let still = Patch {
            values: vec![0.0; Patch::SIDE * Patch::SIDE],
        };
        let mut speaking = still.clone();
        MOUTH.0.for_each(|y| {
            MOUTH
                .1
                .for_each(|x| speaking.values[y * Patch::SIDE + x] = 1.0)
        });
        assert!((lip_motion(&still, &speaking) - 1.0).abs() < 1e-4);
        let brighter = Patch {
            values: vec![0.7; Patch::SIDE * Patch::SIDE],
        };
        assert!(lip_motion(&still, &brighter) < 1e-4);
        assert_eq!(lip_motion(&still, &still), 0.0);
    }
}
