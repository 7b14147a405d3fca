//! The reference's preprocessing of a face's pixels (`src/train/method.md` a.4;
//! `configs/model/conclu/concat/*.yaml`): scaled to [0, 1], resized, normalised.

/// Mean and standard deviation of red, green and blue, for pixels in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// ImageNet's normalisation, intended for the 2D face encoder.
pub const IMAGENET: Normalisation = Normalisation {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// The normalisation of the reference's configuration for the 2D face encoder: ImageNet's mean and
/// standard deviation, swapped by mistake. The published features were made with it.
pub const IMAGENET_SWAPPED: Normalisation = Normalisation {
    mean: IMAGENET.std,
    std: IMAGENET.mean,
};

/// The normalisation of the data set Kinetics, for the 3D face encoder.
pub const KINETICS: Normalisation = Normalisation {
    mean: [0.43216, 0.394666, 0.37645],
    std: [0.22803, 0.22145, 0.216989],
};

impl Normalisation {
    /// Normalises `pixels` in place: subtracts the mean and divides by the standard deviation of
    /// each channel. The layout is all values of red, then of green, then of blue.
    ///
    /// # Panics
    /// The number of values is not a multiple of 3.
    pub fn apply(&self, pixels: &mut [f32]) {
        assert!(
            pixels.len().is_multiple_of(3),
            "{} pixels are not of three channels",
            pixels.len()
        );
        let plane = (pixels.len() / 3).max(1);
        for (channel, plane) in pixels.chunks_exact_mut(plane).enumerate() {
            for pixel in plane {
                *pixel = (*pixel - self.mean[channel]) / self.std[channel];
            }
        }
    }
}

/// Resizes planes (row-major, any number of them one after another) from the size `from` (height,
/// width) to the size `to`. It equals PyTorch's bilinear `interpolate` with `align_corners=False`
/// and `antialias=False`.
///
/// # Panics
/// `pixels` is not a whole number of planes of the size `from`.
pub fn resize(pixels: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let [height, width] = from;
    assert!(
        height > 0 && width > 0 && pixels.len().is_multiple_of(height * width),
        "{} pixels are not planes of {height}x{width}",
        pixels.len()
    );
    if from == to {
        return pixels.to_vec();
    }
    let (rows, columns) = (taps(height, to[0]), taps(width, to[1]));
    let mut resized = Vec::with_capacity(pixels.len() / (height * width) * to[0] * to[1]);
    for plane in pixels.chunks_exact(height * width) {
        for (above, below, down) in &rows {
            let (above, below) = (
                &plane[above * width..][..width],
                &plane[below * width..][..width],
            );
            for (left, right, along) in &columns {
                let upper = (1.0 - along) * above[*left] + along * above[*right];
                let lower = (1.0 - along) * below[*left] + along * below[*right];
                resized.push((1.0 - down) * upper + down * lower);
            }
        }
    }
    resized
}

/// For each of `to` positions: the two neighbouring positions of `from`, and the weight of the
/// second neighbour in [0, 1].
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    let tap = |place: usize| {
        // A position before the centre of the first pixel has the value of the first pixel.
        let source = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (source as usize).min(from - 1);
        (first, (first + 1).min(from - 1), source - first as f32)
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Reads a list of numbers.
    fn numbers(value: &Value) -> Vec<f32> {
        value
            .as_array()
            .unwrap_or_else(|| panic!("{value} is no list"))
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    }

    /// Reads an object with `shape` and `data`.
    fn tensor(value: &Value) -> (Vec<usize>, Vec<f32>) {
        let (shape, data) = (
            numbers(&value["shape"])
                .iter()
                .map(|d| *d as usize)
                .collect::<Vec<_>>(),
            numbers(&value["data"]),
        );
        assert_eq!(shape.iter().product::<usize>(), data.len());
        (shape, data)
    }

    /// Checks that the values agree within 1e-5, relative to values above 1.
    fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!(
                (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                "{what} at {index}: {a} against {b}"
            );
        }
    }

    #[test]
    fn pixels_are_normalised_and_resized_as_in_the_reference() {
        let golden = crate::testing::golden("pixel_normalisation.json");
        let (_, frames) = tensor(&golden["inputs"]["frames_CTHW_0_1"]);
        let mut compared = Vec::new();
        for (name, case) in golden.as_object().unwrap() {
            if case.get("mean").is_some() {
                let ours = match name.as_str() {
                    "frames_2d" => IMAGENET_SWAPPED,
                    "frames_3d" => KINETICS,
                    "frames_2d_correct_imagenet" => IMAGENET,
                    other => panic!("{other} is normalised by numbers we do not have"),
                };
                assert_eq!(
                    (ours.mean.to_vec(), ours.std.to_vec()),
                    (numbers(&case["mean"]), numbers(&case["std"])),
                    "{name}"
                );
                let mut pixels = frames.clone();
                ours.apply(&mut pixels);
                assert_close(&pixels, &tensor(&case["out"]).1, name);
                compared.push(name.as_str());
            } else if let Some(size) = case.get("size") {
                let (shape, pixels) = tensor(&case["input_NCHW"]);
                let (resized_shape, expected) = tensor(&case["out"]);
                let to = [0, 1].map(|k| numbers(size)[k] as usize);
                assert_eq!(resized_shape[2..], to);
                assert_close(&resize(&pixels, [shape[2], shape[3]], to), &expected, name);
                compared.push(name);
            }
        }
        compared.sort();
        assert_eq!(
            compared,
            [
                "frames_2d",
                "frames_2d_correct_imagenet",
                "frames_3d",
                "resize_bilinear_no_antialias"
            ]
        );
    }

    #[test]
    fn an_enlarged_ramp_is_linear_and_an_equal_size_changes_nothing() {
        let resized = resize(&[0.0, 1.0], [1, 2], [1, 4]);
        assert_close(&resized, &[0.0, 0.25, 0.75, 1.0], "ramp");
        assert_eq!(
            resize(&[1.0, 2.0, 3.0, 4.0], [2, 2], [2, 2]),
            [1.0, 2.0, 3.0, 4.0]
        );
    }
}
