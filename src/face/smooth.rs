//! Smooths points over time by the one-euro filter (Casiez et al. 2012): strongly at rest, against
//! jitter, and weakly in motion, against lag.

use crate::clip::Landmarks;

/// Cut-off frequency of the low-pass filter for a point at rest, in Hz.
const REST_HZ: f32 = 1.2;
/// Increase of the cut-off frequency, in Hz for each face width per second of speed.
const HZ_PER_SPEED: f32 = 14.0;
/// Cut-off frequency of the low-pass filter for the speed, in Hz.
const SPEED_HZ: f32 = 2.0;

/// The state of one smoothed point.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Smoothed position, in pixels.
    at: [f32; 2],
    /// Smoothed velocity, in pixels per second.
    speed: [f32; 2],
}

/// Smooths a set of points of a face over time, each by its speed.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    points: Vec<Point>,
}

/// Weight of a new value in a first-order low-pass filter, `seconds` after the previous value.
fn weight(cutoff_hz: f32, seconds: f32) -> f32 {
    let r = std::f32::consts::TAU * cutoff_hz * seconds;
    r / (r + 1.0)
}

impl Smoother {
    /// Resets the filter: the next points pass unchanged.
    pub fn reset(&mut self) {
        self.points.clear();
    }

    /// Converts the state to a picture of another size; `factor` is the new size divided by the old
    /// one, for width and height.
    pub fn rescale(&mut self, factor: [f32; 2]) {
        for point in &mut self.points {
            for k in 0..2 {
                point.at[k] *= factor[k];
                point.speed[k] *= factor[k];
            }
        }
    }

    /// Smooths `points` (pixels), which follow the previous ones after `seconds`. `unit` is the
    /// face's width in pixels, in which speeds are measured.
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
        // The mean motion of the points is that of the face. Its estimate is steadier than that of
        // a single point.
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

    /// Smooths the five landmarks of a face, as [`Smoother::smooth`] does.
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
        fn a_smoothed_point_stays_within_the_range_of_its_inputs(
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
    fn noise_at_rest_is_halved_and_fast_motion_lags_by_less_than_3_percent() {
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
