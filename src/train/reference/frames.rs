//! The reference's selection of a clip's frames for its encoders (`src/train/method.md` a.4;
//! `subsample_frames` in `src/utils/video_util.py`).

/// Frames per second for the reference's 2D face encoder, which encodes single frames.
pub const FRAMES_2D_HZ: f64 = 1.0;
/// Frames per second for the reference's 3D face encoder, which encodes windows of frames.
pub const FRAMES_3D_HZ: f64 = 16.0;
/// Number of frames in a window of the 3D encoder. Windows do not overlap.
pub const WINDOW_FRAMES: usize = 16;

/// Number of frames of a clip by its container: frame rate (Hz) times length (s), rounded down.
pub fn frame_count(rate_hz: f64, seconds: f64) -> usize {
    (rate_hz * seconds) as usize
}

/// Indices of the frames that are kept when a clip of `frames` frames at `rate_hz` is reduced to
/// `target_hz`. They are evenly spaced from the first frame to the last. Empty only if the clip has
/// no frames.
///
/// Frame `i` is shown at `i / rate_hz` seconds. If `target_hz` is above `rate_hz`, every frame is
/// kept once.
pub fn subsample(frames: usize, rate_hz: f64, target_hz: f64) -> Vec<usize> {
    let Some(last) = frames.checked_sub(1) else {
        return Vec::new();
    };
    // The order of operations is the reference's: the quotient is rounded before the
    // multiplication.
    let kept = ((frames as f64 * (rate_hz.min(target_hz) / rate_hz)) as usize).max(1);
    if kept == 1 {
        return vec![0];
    }
    // As in numpy's linspace, the step is rounded once, and the last index is set exactly.
    let step = last as f64 / (kept - 1) as f64;
    let mut indices: Vec<usize> = (0..kept).map(|k| (k as f64 * step) as usize).collect();
    indices[kept - 1] = last;
    indices
}

/// Index of the first frame and index after the last frame of each window over `frames` kept
/// frames. The last window may be shorter; it has the same weight in the mean embedding.
pub fn windows(frames: usize) -> Vec<[usize; 2]> {
    (0..frames)
        .step_by(WINDOW_FRAMES)
        .map(|start| [start, frames.min(start + WINDOW_FRAMES)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(value: &serde_json::Value) -> usize {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{value} is no whole number")) as usize
    }

    #[test]
    fn indices_and_windows_equal_those_of_the_reference() {
        let golden = crate::testing::golden("frame_subsampling.json");
        let cases = golden["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let (frames, rate_hz, target_hz) = (
                whole(&case["num_frames"]),
                case["fps"].as_f64().unwrap(),
                case["target_fps"].as_f64().unwrap(),
            );
            let indices: Vec<usize> = case["indices"]
                .as_array()
                .unwrap()
                .iter()
                .map(whole)
                .collect();
            assert_eq!(
                subsample(frames, rate_hz, target_hz),
                indices,
                "{frames} at {rate_hz} to {target_hz}"
            );
            let expected: Vec<[usize; 2]> = case["windows_3d_start_end"]
                .as_array()
                .unwrap()
                .iter()
                .map(|w| [whole(&w[0]), whole(&w[1])])
                .collect();
            assert_eq!(
                windows(indices.len()),
                expected,
                "{frames} at {rate_hz} to {target_hz}"
            );
        }
    }

    /// Index 21 is exactly 215, but numpy's rounded step gives a value just below, which becomes
    /// 214.
    #[test]
    fn the_step_is_rounded_as_numpy_rounds_it() {
        let indices = subsample(431, 10.0, 1.0);
        let differing: Vec<(usize, usize)> = (0..43)
            .map(|k| (k, indices[k]))
            .filter(|(k, index)| *index != k * 430 / 42)
            .collect();
        assert_eq!(
            (indices.len(), indices[42], differing),
            (43, 430, vec![(21, 214)])
        );
    }

    #[test]
    fn short_clips_and_counts_of_frames_and_windows() {
        assert_eq!(subsample(0, 25.0, 1.0), [0usize; 0]);
        assert_eq!(subsample(1, 25.0, 16.0), [0]);
        assert_eq!(subsample(10, 12.0, 16.0), (0..10).collect::<Vec<_>>());
        assert_eq!((windows(0), windows(17)), (vec![], vec![[0, 16], [16, 17]]));
        assert_eq!((frame_count(25.0, 2.0), frame_count(29.97, 3.0)), (50, 89));
    }
}
