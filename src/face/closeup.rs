//! Cuts squares out of a picture, as inputs of MTCNN's last network and YuNet, and as luma from
//! which a face is rated.

use super::image::pooled;
use super::refine::INPUT_SIDE;
use crate::clip::{ColorMatrix, Landmarks, Picture};
use crate::preprocess::{Similarity, similarity};
use multiversion::multiversion;

/// The luma of a square of a picture, resampled to [`INPUT_SIDE`] pixels a side.
#[derive(Clone, Debug)]
pub struct Closeup {
    /// Top left corner `x, y` of the square in pixels of the picture; may lie outside of it.
    pub origin: [i32; 2],
    /// Side of the square, in pixels of the picture.
    pub side: i32,
    /// `INPUT_SIDE x INPUT_SIDE` values, row by row: 0 (black) to 255 (white), also for pictures
    /// with limited range.
    pub luma: Vec<f32>,
}

impl Closeup {
    /// Cuts the square with this centre and side (pixels of the picture), resampled by area means.
    /// Appends its planes R, G, B to `inputs`, with values `(v - 127.5) / 128` for `v` in 0..255.
    /// Outside of the picture, the border pixels are repeated.
    pub fn cut(picture: &Picture, center: [f32; 2], side: f32, inputs: &mut Vec<f32>) -> Closeup {
        let (square, luma) = cut_square(picture, center, side, INPUT_SIDE, inputs);
        Closeup {
            origin: square.origin,
            side: square.side,
            luma,
        }
    }

    /// Converts a point from shares of the square's side (0..1 inside) to pixels of the picture.
    pub fn to_picture(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [
            self.origin[0] as f32 + x * self.side as f32,
            self.origin[1] as f32 + y * self.side as f32,
        ]
    }

    /// The face's luma, aligned so that its landmarks (pixels of the picture) lie at fixed
    /// positions. `None` if the landmarks are degenerate.
    pub fn align_patch(&self, landmarks: &Landmarks) -> Option<Patch> {
        const TEMPLATE: Landmarks = [
            [0.3, 0.33],
            [0.7, 0.33],
            [0.5, 0.54],
            [0.35, 0.76],
            [0.65, 0.76],
        ];
        let scale = INPUT_SIDE as f32 / self.side as f32;
        let inside = landmarks.map(|[x, y]| {
            [
                (x - self.origin[0] as f32) * scale,
                (y - self.origin[1] as f32) * scale,
            ]
        });
        let to_closeup = similarity(
            &TEMPLATE.map(|p| p.map(|v| v * Patch::SIDE as f32)),
            &inside,
        )?;
        let mut values: Vec<f32> = (0..Patch::SIDE * Patch::SIDE)
            .map(|i| {
                self.bilinear(
                    &to_closeup,
                    [
                        (i % Patch::SIDE) as f32 + 0.5,
                        (i / Patch::SIDE) as f32 + 0.5,
                    ],
                )
            })
            .collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter_mut().for_each(|v| *v -= mean);
        let deviation = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32)
            .sqrt()
            .max(4.0);
        values.iter_mut().for_each(|v| *v /= deviation);
        Some(Patch { values })
    }

    /// The luma at `point`, which `transform` maps to pixels of the close-up, by bilinear
    /// interpolation.
    fn bilinear(&self, transform: &Similarity, point: [f32; 2]) -> f32 {
        let limit = (INPUT_SIDE - 1) as f32;
        let [x, y] = transform.apply(point).map(|v| (v - 0.5).clamp(0.0, limit));
        let (x0, y0) = (
            (x as usize).min(INPUT_SIDE - 2),
            (y as usize).min(INPUT_SIDE - 2),
        );
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let at = |x: usize, y: usize| self.luma[y * INPUT_SIDE + x];
        let top = at(x0, y0) + (at(x0 + 1, y0) - at(x0, y0)) * fx;
        let bottom = at(x0, y0 + 1) + (at(x0 + 1, y0 + 1) - at(x0, y0 + 1)) * fx;
        top + (bottom - top) * fy
    }
}

/// The luma of an aligned face, normalised to mean 0 and standard deviation 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// `SIDE x SIDE` values, row by row.
    pub values: Vec<f32>,
}

impl Patch {
    /// Side of the aligned face, in pixels.
    pub const SIDE: usize = 24;
}

/// A square of a picture, in whole pixels. It may reach beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// Top left corner `x, y`.
    pub origin: [i32; 2],
    pub side: i32,
}

/// Cuts the square with this centre and side (pixels of the picture), and resamples it to
/// `cells x cells` pixels by area means. Appends its planes R, G, B to `inputs`, with values
/// `(v - 127.5) / 128` for `v` in 0..255. Outside of the picture, the border pixels are repeated.
///
/// Returns the square in whole pixels, and its luma row by row: 0 (black) to 255 (white), also for
/// pictures with limited range.
pub fn cut_square(
    picture: &Picture,
    center: [f32; 2],
    side: f32,
    cells: usize,
    inputs: &mut Vec<f32>,
) -> (Square, Vec<f32>) {
    let side = side.round().clamp(8.0, 8192.0) as i32;
    let half = side as f32 / 2.0;
    let origin = center.map(|c| (c - half).round().clamp(-1e6, 1e6) as i32);
    let square = Square { origin, side };
    let mut full = means(picture, 0, square, cells);
    let (cb, cr) = (
        means(picture, 1, square, cells),
        means(picture, 2, square, cells),
    );
    let (gain, chroma_gain, offset) = if picture.colorimetry.full_range {
        (1.0, 1.0, 0.0)
    } else {
        (255.0 / 219.0, 255.0 / 224.0, 16.0)
    };
    let (kr, kb) = match picture.colorimetry.matrix {
        ColorMatrix::Bt601 => (0.299, 0.114),
        ColorMatrix::Bt709 => (0.2126, 0.0722),
    };
    let (to_r, to_b) = (
        2.0 * (1.0 - kr) * chroma_gain,
        2.0 * (1.0 - kb) * chroma_gain,
    );
    let kg = 1.0 - kr - kb;
    let plane = cells * cells;
    let start = inputs.len();
    inputs.resize(start + 3 * plane, 0.0);
    let (red, rest) = inputs[start..].split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for i in 0..plane {
        let y = (full[i] - offset) * gain;
        full[i] = y;
        let (r, b) = (y + to_r * (cr[i] - 128.0), y + to_b * (cb[i] - 128.0));
        let g = (y - kr * r - kb * b) / kg;
        let value = |v: f32| (v.clamp(0.0, 255.0) - 127.5) / 128.0;
        (red[i], green[i], blue[i]) = (value(r), value(g), value(b));
    }
    (square, full)
}

/// The square in one plane of the picture (0: Y, 1: Cb, 2: Cr), resampled to `cells x cells` pixels
/// by area means, row by row.
#[multiversion(targets("x86_64+avx2"))]
fn means(picture: &Picture, plane: usize, square: Square, cells: usize) -> Vec<f32> {
    let Square { origin, side } = square;
    let (columns, rows, shift) = if plane == 0 {
        (picture.width, picture.height, 0)
    } else {
        (picture.width.div_ceil(2), picture.height.div_ceil(2), 1)
    };
    let spans = |origin: i32, limit: usize| -> Vec<(usize, usize)> {
        let span = |i| {
            let covered = pooled(i, side as usize, cells);
            let (start, end) = (origin + covered.start as i32, origin + covered.end as i32);
            let start = (start >> shift).clamp(0, limit as i32 - 1);
            let end = ((end + shift) >> shift).clamp(start + 1, limit as i32);
            (start as usize, end as usize)
        };
        (0..cells).map(span).collect()
    };
    let (xs, ys) = (spans(origin[0], columns), spans(origin[1], rows));
    let (left, right) = (xs[0].0, xs[cells - 1].1);
    let layout = picture.planes[plane];
    let bytes = picture.bytes();
    // A square has at most 8192 pixels a side, so that a cell has at most 172 rows: no overflow.
    let mut sums = vec![0u16; right - left];
    // Prefix sums over the columns: a cell is one difference.
    let mut before = vec![0u32; right - left + 1];
    let mut out = Vec::with_capacity(cells * cells);
    for (top, bottom) in ys {
        sums.fill(0);
        for y in top..bottom {
            let row = &bytes[layout.offset + y * layout.stride + left
                ..layout.offset + y * layout.stride + right];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += u16::from(*value);
            }
        }
        let mut total = 0;
        for (before, sum) in before[1..].iter_mut().zip(&sums) {
            total += u32::from(*sum);
            *before = total;
        }
        for (start, end) in &xs {
            let sum = (before[end - left] - before[start - left]) as i32;
            out.push(sum as f32 / ((end - start) * (bottom - top)) as f32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Colorimetry;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_square_of_any_place_and_size_can_be_cut(
            x in -300.0f32..300.0,
            y in -300.0f32..300.0,
            side in 0.0f32..400.0,
            w in 1usize..60,
            h in 1usize..60,
        ) {
            let length = w * h + 2 * w.div_ceil(2) * h.div_ceil(2);
            let picture = Picture::from_i420(
                w,
                h,
                Colorimetry {
                    matrix: ColorMatrix::Bt601,
                    full_range: true,
                },
                vec![128; length],
            );
            let mut inputs = Vec::new();
            let closeup = Closeup::cut(&picture, [x, y], side, &mut inputs);
            prop_assert_eq!(inputs.len(), 3 * INPUT_SIDE * INPUT_SIDE);
            prop_assert!(inputs.iter().all(|v| (v - 0.5 / 128.0).abs() < 1e-4));
            prop_assert!(closeup.luma.iter().all(|v| *v == 128.0));
        }
    }
}
