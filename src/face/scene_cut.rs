//! Detects possible scene cuts: a picture that does not correlate with the previous one.

use crate::clip::Picture;

/// Number of cells in a row of the thumbnail.
const COLUMNS: usize = 24;
/// Number of rows of the thumbnail.
const ROWS: usize = 16;
/// A scene cut is possible only if the thumbnail's luma (0..255) changes by more than this on
/// average.
const CHANGE: f32 = 14.0;
/// A scene cut is possible only if the thumbnails of both pictures correlate less than this.
const CORRELATION: f32 = 0.8;

/// Detects sudden changes of the whole picture.
#[derive(Clone, Debug, Default)]
pub struct SceneCutDetector {
    /// Thumbnail of the previous picture; empty before the first.
    before: Vec<f32>,
}

impl SceneCutDetector {
    /// Whether the picture differs from the previous one as after a scene cut. A change of the
    /// light may look alike, so the caller also compares the faces.
    pub fn changed(&mut self, picture: &Picture) -> bool {
        let now = thumbnail(picture);
        // Thumbnails of pictures with different sizes can be compared, so a change of the size
        // alone is no scene cut.
        let changed = !self.before.is_empty() && differ(&self.before, &now);
        self.before = now;
        changed
    }
}

/// Whether two thumbnails differ by more than [`CHANGE`] and correlate less than [`CORRELATION`].
fn differ(before: &[f32], now: &[f32]) -> bool {
    let n = now.len() as f32;
    let change = before
        .iter()
        .zip(now)
        .map(|(a, b)| (a - b).abs())
        .sum::<f32>()
        / n;
    let (ma, mb) = (before.iter().sum::<f32>() / n, now.iter().sum::<f32>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in before.iter().zip(now) {
        ab += (a - ma) * (b - mb);
        aa += (a - ma) * (a - ma);
        bb += (b - mb) * (b - mb);
    }
    // Pictures of little contrast count as uncorrelated.
    change > CHANGE && ab < CORRELATION * (aa * bb).sqrt().max(n)
}

/// Mean luma (0..255) of each cell of the thumbnail, row by row. Only about 200 by 110 pixels are
/// sampled, which suffices at any picture size.
fn thumbnail(picture: &Picture) -> Vec<f32> {
    let step = (picture.width / 200).max(1);
    // The first sampled column of each cell. Column `x` belongs to cell `x * COLUMNS / width`.
    let starts: [usize; COLUMNS + 1] = std::array::from_fn(|cell| {
        (cell * picture.width)
            .div_ceil(COLUMNS)
            .next_multiple_of(step)
            .min(picture.width)
    });
    let mut sums = vec![(0u32, 0u32); COLUMNS * ROWS];
    for y in (0..picture.height).step_by((picture.height / 110).max(1)) {
        let cells = &mut sums[y * ROWS / picture.height * COLUMNS..][..COLUMNS];
        let row = picture.luma_row(y);
        for (cell, ends) in cells.iter_mut().zip(starts.windows(2)) {
            let pixels = &row[ends[0]..ends[1]];
            cell.0 += if step == 1 {
                pixels.iter().map(|p| u32::from(*p)).sum::<u32>()
            } else {
                pixels.iter().step_by(step).map(|p| u32::from(*p)).sum()
            };
            cell.1 += pixels.len().div_ceil(step) as u32;
        }
    }
    sums.into_iter()
        .map(|(sum, count)| sum as f32 / count.max(1) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{ColorMatrix, Colorimetry};

    fn picture(of: impl Fn(usize, usize) -> u8) -> Picture {
        let (w, h) = (160, 120);
        let mut data: Vec<u8> = (0..w * h).map(|i| of(i % w, i / w)).collect();
        data.resize(w * h * 3 / 2, 128);
        Picture::from_i420(
            w,
            h,
            Colorimetry {
                matrix: ColorMatrix::Bt601,
                full_range: true,
            },
            data,
        )
    }

    /// Reference implementation, pixel by pixel.
    fn plain_thumbnail(picture: &Picture) -> Vec<f32> {
        let mut sums = vec![(0u32, 0u32); COLUMNS * ROWS];
        for y in (0..picture.height).step_by((picture.height / 110).max(1)) {
            for x in (0..picture.width).step_by((picture.width / 200).max(1)) {
                let cell =
                    &mut sums[y * ROWS / picture.height * COLUMNS + x * COLUMNS / picture.width];
                *cell = (cell.0 + u32::from(picture.luma_row(y)[x]), cell.1 + 1);
            }
        }
        sums.into_iter()
            .map(|(sum, count)| sum as f32 / count.max(1) as f32)
            .collect()
    }

    proptest::proptest! {
        #[test]
        fn cells_hold_the_pixels_that_lie_in_them(w in 1usize..1300, h in 1usize..300) {
            let length = w * h + 2 * w.div_ceil(2) * h.div_ceil(2);
            let data = (0..length).map(|i| (i * 7 + i / 3 % 251) as u8).collect();
            let picture = Picture::from_i420(
                w,
                h,
                Colorimetry {
                    matrix: ColorMatrix::Bt601,
                    full_range: true,
                },
                data,
            );
            proptest::prop_assert_eq!(thumbnail(&picture), plain_thumbnail(&picture));
        }
    }

    #[test]
    fn another_picture_counts_as_a_change_and_brighter_light_does_not() {
        let mut watch = SceneCutDetector::default();
        assert!(
            !watch.changed(&picture(|x, y| (x + y) as u8 / 2)),
            "nothing comes before the first"
        );
        assert!(
            !watch.changed(&picture(|x, y| (x + y) as u8 / 2 + 40)),
            "a lamp"
        );
        assert!(watch.changed(&picture(|x, y| 200 - (x / 2 + y) as u8)));
    }
}
