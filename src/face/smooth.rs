//! Temporal smoothing without jitter at rest and without lag in motion (the one-euro filter, Casiez
//! et al. 2012).

use crate::clip::Landmarks;

/// Cut-off of a point at rest, in Hz.
const REST_HZ: f32 = 1.2;
/// Rise of the cut-off per face width a second.
const HZ_PER_SPEED: f32 = 14.0;
/// Cut-off of the speed itself, in Hz.
const SPEED_HZ: f32 = 2.0;

/// One point.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: [f32; 2],
    speed: [f32; 2],
}

/// Smooths a set of points, each by its own speed.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    points: Vec<Point>,
}

fn weight(cutoff_hz: f32, seconds: f32) -> f32 {
    let r = std::f32::consts::TAU * cutoff_hz * seconds;
    r / (r + 1.0)
}

impl Smoother {
    /// Resets the filter: the next points pass unchanged.
    pub fn reset(&mut self) {
        self.points.clear();
    }

    /// Scales the state to another picture size; `factor` per axis.
    pub fn rescale(&mut self, factor: [f32; 2]) {
        for point in &mut self.points {
            for k in 0..2 {
                point.at[k] *= factor[k];
                point.speed[k] *= factor[k];
            }
        }
    }

    /// Smooths `points`, `seconds` after the previous ones. `unit` is the face's width, the unit of
    /// speeds.
    pub fn smooth<const N: usize>(
        &mut self,
        points: [[f32; 2]; N],
        unit: f32,
        seconds: f32,
    ) -> [[f32; 2]; N] {
        if self.points.len() != N || seconds <= 0.0 {
            self.points = points
                .iter()
                .map(|p| Point {
                    at: *p,
                    speed: [0.0; 2],
                })
                .collect();
            return points;
        }
        let unit = unit.max(1.0);
        let of_speed = weight(SPEED_HZ, seconds);
        // The mean motion of the points is the face's; its estimate is steadier than a single
        // point's.
        let mut together = [0.0f32; 2];
        for (state, point) in self.points.iter_mut().zip(&points) {
            for k in 0..2 {
                let speed = (point[k] - state.at[k]) / seconds;
                state.speed[k] += of_speed * (speed - state.speed[k]);
                together[k] += state.speed[k] / N as f32;
            }
        }
        let mut smoothed = points;
        for (state, point) in self.points.iter_mut().zip(&mut smoothed) {
            let own = (state.speed[0] - together[0]).hypot(state.speed[1] - together[1]);
            let speed = (together[0].hypot(together[1]) + own * 0.5) / unit;
            let alpha = weight(REST_HZ + HZ_PER_SPEED * speed, seconds);
            for k in 0..2 {
                state.at[k] += alpha * (point[k] - state.at[k]);
            }
            *point = state.at;
        }
        smoothed
    }

    /// [`Smoother::smooth`] of the five landmarks.
    pub fn smooth_landmarks(&mut self, landmarks: Landmarks, unit: f32, seconds: f32) -> Landmarks {
        self.smooth(landmarks, unit, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_smoothed_point_stays_between_its_past_and_its_present(
            xs in prop::collection::vec(-100.0f32..100.0, 2..50),
        ) {
            let mut smoother = Smoother::default();
            let (mut low, mut high) = (f32::MAX, f32::MIN);
            for x in xs {
                (low, high) = (low.min(x), high.max(x));
                let [[smoothed, _]] = smoother.smooth([[x, 0.0]], 50.0, 0.04);
                prop_assert!(low - 1e-3 <= smoothed && smoothed <= high + 1e-3);
            }
        }
    }

    #[test]
    fn noise_at_rest_shrinks_and_fast_motion_hardly_lags() {
        let mut smoother = Smoother::default();
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
        };
        let mut square = 0.0;
        for i in 0..200 {
            let [[x, _]] = smoother.smooth([[100.0 + noise(), 50.0]], 80.0, 0.04);
            square += if i >= 25 { (x - 100.0).powi(2) } else { 0.0 };
        }
        // Noise of a deviation of 0.29.
        assert!((square / 175.0f32).sqrt() < 0.15);
        // Two face widths a second.
        smoother.reset();
        let mut lag = 0.0f32;
        for i in 0..50 {
            let x = 160.0 * 0.04 * i as f32;
            let [[smoothed, _]] = smoother.smooth([[x, 50.0]], 80.0, 0.04);
            lag = if i >= 15 { lag.max(x - smoothed) } else { 0.0 };
        }
        assert!(lag < 0.03 * 80.0, "lags {lag} px");
    }
}
