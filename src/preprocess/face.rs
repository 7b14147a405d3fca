//! Cuts aligned crops out of a picture and normalises them.

use crate::clip::{ColorMatrix, Crop, Landmarks, Picture};
use crate::manifest::{FaceNormalisation, FacePreprocessing};
use multiversion::multiversion;

/// A similarity transform (rotation, scaling, translation): `x' = a x - b y + tx`, `y' = b x + a y
/// + ty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// Scale times the cosine of the rotation.
    pub a: f32,
    /// Scale times the sine of the rotation.
    pub b: f32,
    /// Translation of x.
    pub tx: f32,
    /// Translation of y.
    pub ty: f32,
}

impl Similarity {
    /// Transforms the point `[x, y]`.
    pub fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [
            self.a * x - self.b * y + self.tx,
            self.b * x + self.a * y + self.ty,
        ]
    }
    /// The factor by which the transform scales lengths.
    pub fn scale(&self) -> f32 {
        self.a.hypot(self.b)
    }
}

/// The similarity transform that maps the points `from` to `to` with the least squared error.
/// `None` if all points of `from` coincide.
pub fn similarity(from: &Landmarks, to: &Landmarks) -> Option<Similarity> {
    let mean = |points: &Landmarks| {
        let sum = points
            .iter()
            .fold([0.0, 0.0], |s, p| [s[0] + p[0], s[1] + p[1]]);
        [sum[0] / 5.0, sum[1] / 5.0]
    };
    let (mf, mt) = (mean(from), mean(to));
    let (mut dot, mut cross, mut norm) = (0.0f32, 0.0f32, 0.0f32);
    for (f, t) in from.iter().zip(to) {
        let (fx, fy, tx, ty) = (f[0] - mf[0], f[1] - mf[1], t[0] - mt[0], t[1] - mt[1]);
        dot += fx * tx + fy * ty;
        cross += fx * ty - fy * tx;
        norm += fx * fx + fy * fy;
    }
    if norm <= f32::EPSILON {
        return None;
    }
    let (a, b) = (dot / norm, cross / norm);
    Some(Similarity {
        a,
        b,
        tx: mt[0] - (a * mf[0] - b * mf[1]),
        ty: mt[1] - (b * mf[0] + a * mf[1]),
    })
}

/// Cuts the crop in which `landmarks` (in pixels of the picture) lie at the template of `settings`.
/// Each pixel is the mean over its area in the picture; outside the picture its border repeats.
/// `None` if the landmarks are degenerate.
pub fn align(
    picture: &Picture,
    landmarks: &Landmarks,
    settings: &FacePreprocessing,
) -> Option<Crop> {
    let size = settings.size as f32;
    let template = settings.template.map(|[x, y]| [x * size, y * size]);
    let to_picture = similarity(&template, landmarks)?;
    let scale = to_picture.scale();
    if !scale.is_finite() || scale <= 0.0 {
        return None;
    }
    // The number of samples along each side of a crop pixel is that of the picture pixels under it:
    // an area filter whose cost is proportional to the area.
    let taps = (scale.ceil() as usize).clamp(1, 8);
    let mut sampler = Sampler {
        picture,
        bytes: picture.bytes(),
        taps,
        to_picture,
        row: Row::new(settings.size),
    };
    let planes = if settings.channels == 1 { 1 } else { 3 };
    let mut means = vec![vec![0.0; settings.size]; planes];
    let mut pixels = Vec::with_capacity(settings.size * settings.size * settings.channels);
    for y in 0..settings.size {
        for (plane, means) in means.iter_mut().enumerate() {
            sampler.means(plane, y, means);
        }
        for x in 0..settings.size {
            if planes == 1 {
                pixels.push(sampler.luma(means[0][x]));
            } else {
                pixels.extend(ycc_to_rgb(picture, [0, 1, 2].map(|plane| means[plane][x])));
            }
        }
    }
    Some(Crop {
        size: settings.size,
        channels: settings.channels,
        pixels,
    })
}

/// Computes the mean of the picture's pixels under each pixel of one row of the crop.
struct Sampler<'a> {
    picture: &'a Picture,
    /// All planes of the picture.
    bytes: &'a [u8],
    /// Number of samples along each side of a crop pixel.
    taps: usize,
    /// Maps pixels of the crop to pixels of the picture.
    to_picture: Similarity,
    row: Row,
}

/// Buffers with one value for each pixel of a row of the crop.
struct Row {
    /// Position (x values, y values) of the pixel's corner in the plane.
    starts: [Vec<f32>; 2],
    /// Index in the plane's bytes of the sample to read next.
    reads: Vec<u32>,
    /// Sum of the samples read so far.
    sums: Vec<u32>,
}

impl Row {
    fn new(size: usize) -> Row {
        Row {
            starts: [vec![0.0; size], vec![0.0; size]],
            reads: vec![0; size],
            sums: vec![0; size],
        }
    }
}

impl Sampler<'_> {
    /// Computes the means of row `y` of the crop over `plane` (0: luma, 1 and 2: chroma), one for
    /// each pixel.
    fn means(&mut self, plane: usize, y: usize, means: &mut [f32]) {
        // A chroma plane has half as many columns and rows as the luma plane.
        let shrink = if plane == 0 { 1.0 } else { 0.5 };
        let Similarity { a, b, .. } = self.to_picture;
        let start = |x: usize| {
            self.to_picture
                .apply([x as f32, y as f32])
                .map(|v| v * shrink)
        };
        let step = shrink / self.taps as f32;
        let (dx, dy) = ([a * step, b * step], [-b * step, a * step]);
        if self.taps == 1 {
            let half = |i: usize| 0.5 * (dx[i] + dy[i]) - 0.5;
            for (x, mean) in means.iter_mut().enumerate() {
                let [x0, y0] = start(x);
                *mean = self.bilinear(plane, x0 + half(0), y0 + half(1));
            }
            return;
        }
        // With one sample for each picture pixel, interpolation would change nothing.
        let (width, height) = self.size(plane);
        let (right, bottom) = ((width - 1) as f32, (height - 1) as f32);
        let layout = self.picture.planes[plane];
        let (bytes, stride) = (&self.bytes[layout.offset..], layout.stride as i32);
        let Row {
            starts: [starts_x, starts_y],
            reads,
            sums,
        } = &mut self.row;
        for (x, (start_x, start_y)) in starts_x.iter_mut().zip(&mut *starts_y).enumerate() {
            [*start_x, *start_y] = self
                .to_picture
                .apply([x as f32, y as f32])
                .map(|v| v * shrink);
        }
        sums.fill(0);
        assert!(
            (bottom as usize * layout.stride + right as usize) < bytes.len(),
            "a picture shorter than its planes"
        );
        // Each pass reads one sample of every pixel of the row, so that the indices are computed by
        // vector instructions.
        for j in 0..self.taps {
            let v = j as f32 + 0.5;
            for i in 0..self.taps {
                let u = i as f32 + 0.5;
                places(
                    reads,
                    [starts_x, starts_y],
                    [0, 1].map(|axis| [dy[axis] * v, dx[axis] * u]),
                    [right, bottom],
                    stride,
                );
                // SAFETY: `places` returns indices in rows up to `bottom` and columns up to
                // `right`; the assertion above checks that these lie within the bytes.
                sums.iter_mut().zip(&*reads).for_each(|(sum, read)| {
                    *sum += u32::from(unsafe { *bytes.get_unchecked(*read as usize) })
                });
            }
        }
        let count = (self.taps * self.taps) as f32;
        means
            .iter_mut()
            .zip(&*sums)
            .for_each(|(mean, sum)| *mean = *sum as f32 / count);
    }

    /// (width, height) of a plane, in samples.
    fn size(&self, plane: usize) -> (usize, usize) {
        let Picture { width, height, .. } = *self.picture;
        if plane == 0 {
            (width, height)
        } else {
            (width.div_ceil(2), height.div_ceil(2))
        }
    }

    /// Bilinear interpolation at (`x`, `y`), in samples of the plane. 0 is the centre of the first
    /// sample; outside the plane its border repeats.
    fn bilinear(&self, plane: usize, x: f32, y: f32) -> f32 {
        let (w, h) = self.size(plane);
        let (x, y) = (x.clamp(0.0, (w - 1) as f32), y.clamp(0.0, (h - 1) as f32));
        let (x0, y0) = (x as usize, y as usize);
        let (x1, y1) = ((x0 + 1).min(w - 1), (y0 + 1).min(h - 1));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let layout = self.picture.planes[plane];
        let at = |x: usize, y: usize| f32::from(self.bytes[layout.offset + y * layout.stride + x]);
        let top = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * fx;
        let bottom = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * fx;
        top + (bottom - top) * fy
    }

    /// Luma in the full range 0..=255.
    fn luma(&self, y: f32) -> u8 {
        let full = if self.picture.colorimetry.full_range {
            y
        } else {
            (y - 16.0) * (255.0 / 219.0)
        };
        full.round().clamp(0.0, 255.0) as u8
    }
}

/// Writes to `reads` the index in the plane of one sample for each pixel of a row of the crop. The
/// sample is at `offset` from the pixel's start, clamped to row `bottom` and column `right`.
/// `offset` has for x and y: [part from moving down the pixel, part from moving along it].
#[multiversion(targets("x86_64+avx2"))]
fn places(
    reads: &mut [u32],
    [starts_x, starts_y]: [&[f32]; 2],
    offset: [[f32; 2]; 2],
    [right, bottom]: [f32; 2],
    stride: i32,
) {
    let [[x_down, x_along], [y_down, y_along]] = offset;
    for ((read, x0), y0) in reads.iter_mut().zip(starts_x).zip(starts_y) {
        // Conversion to 32-bit integers is faster than to `usize`.
        let column = within(x0 + x_down + x_along, right);
        let row = within(y0 + y_down + y_along, bottom);
        *read = (row * stride + column) as u32;
    }
}

/// The integer part of `at`, clamped to 0..=`last`, the index of the last row or column.
#[inline(always)]
fn within(at: f32, last: f32) -> i32 {
    let clamped = at.max(0.0).min(last);
    // SAFETY: `clamped` is a number (`max` replaces a NaN) from 0 to the last row or column. `as`
    // would repeat these checks, which takes four times as long as the rest of the function.
    unsafe { clamped.to_int_unchecked() }
}

/// Converts one pixel from Y, Cb and Cr (each 0..=255) to R, G and B with the picture's
/// colorimetry.
pub fn ycc_to_rgb(picture: &Picture, [y, cb, cr]: [f32; 3]) -> [u8; 3] {
    let (y, gain) = if picture.colorimetry.full_range {
        (y, 1.0)
    } else {
        ((y - 16.0) * (255.0 / 219.0), 255.0 / 224.0)
    };
    let (cb, cr) = ((cb - 128.0) * gain, (cr - 128.0) * gain);
    let (kr, kb) = match picture.colorimetry.matrix {
        ColorMatrix::Bt601 => (0.299, 0.114),
        ColorMatrix::Bt709 => (0.2126, 0.0722),
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8)
}

/// Normalises a crop; returns an encoder's input `[channels, size, size]` in row-major order.
pub fn normalise(crop: &Crop, how: &FaceNormalisation) -> Vec<f32> {
    let mut values = Vec::with_capacity(crop.pixels.len());
    normalise_into(crop, how, &mut values);
    values
}

/// As [`normalise`], but appends the input to `values`.
pub fn normalise_into(crop: &Crop, how: &FaceNormalisation, values: &mut Vec<f32>) {
    let pixels = &crop.pixels[..crop.size * crop.size * crop.channels];
    // A pixel has one of 256 levels, so each level is normalised once.
    let levels: [f32; 256] = std::array::from_fn(|level| level as f32 / 255.0);
    let plane = |channel: usize| pixels.iter().skip(channel).step_by(crop.channels);
    values.reserve(pixels.len());
    match how {
        FaceNormalisation::Fixed { mean, std } => {
            for channel in 0..crop.channels {
                let levels = levels.map(|level| (level - mean[channel]) / std[channel]);
                values.extend(plane(channel).map(|pixel| levels[usize::from(*pixel)]));
            }
        }
        FaceNormalisation::PerCrop { floor } => {
            // Sums plane by plane, because the order of summation affects the last bits of the
            // result.
            let sum = |levels: &[f64; 256]| {
                let planes = (0..crop.channels).flat_map(plane);
                planes.fold(0.0, |sum, pixel| sum + levels[usize::from(*pixel)])
            };
            let n = pixels.len() as f64;
            let levels = levels.map(f64::from);
            let mean = sum(&levels) / n;
            let deviation = (sum(&levels.map(|level| (level - mean).powi(2))) / n)
                .sqrt()
                .max(f64::from(*floor));
            let levels = levels.map(|level| ((level - mean) / deviation) as f32);
            for channel in 0..crop.channels {
                values.extend(plane(channel).map(|pixel| levels[usize::from(*pixel)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Colorimetry;
    use proptest::prelude::*;

    const TEMPLATE: Landmarks = [
        [0.3, 0.35],
        [0.7, 0.35],
        [0.5, 0.55],
        [0.35, 0.75],
        [0.65, 0.75],
    ];

    proptest! {
        #[test]
        fn the_least_squares_similarity_recovers_a_known_transform(
            angle in -3.0f32..3.0,
            scale in 0.1f32..50.0,
            tx in -500.0f32..500.0,
            ty in -500.0f32..500.0,
        ) {
            let made = Similarity {
                a: scale * angle.cos(),
                b: scale * angle.sin(),
                tx,
                ty,
            };
            let found = similarity(&TEMPLATE, &TEMPLATE.map(|p| made.apply(p))).unwrap();
            for p in TEMPLATE {
                let (x, y) = (made.apply(p), found.apply(p));
                prop_assert!((x[0] - y[0]).abs() < 1e-2 && (x[1] - y[1]).abs() < 1e-2);
            }
        }
    }

    fn settings(channels: usize) -> FacePreprocessing {
        FacePreprocessing {
            size: 48,
            channels,
            rate_hz: 10.0,
            template: TEMPLATE,
            normalise: FaceNormalisation::PerCrop { floor: 0.02 },
            min_quality: 0.0,
        }
    }

    #[test]
    fn a_crop_of_a_ramp_is_a_ramp_and_the_border_repeats_outside() {
        let (w, h) = (200usize, 200usize);
        let mut data: Vec<u8> = (0..h).flat_map(|_| (0..w).map(|x| x as u8)).collect();
        data.extend(std::iter::repeat_n(128u8, 2 * (w / 2) * (h / 2)));
        let picture = Picture::from_i420(
            w,
            h,
            Colorimetry {
                matrix: ColorMatrix::Bt601,
                full_range: true,
            },
            data,
        );
        let crop = align(
            &picture,
            &TEMPLATE.map(|[x, y]| [x * 144.0 + 20.0, y * 144.0 + 20.0]),
            &settings(1),
        )
        .unwrap();
        for x in 0..48 {
            let expected = 20.0 + (x as f32 + 0.5) * 3.0 - 0.5;
            assert!(
                (f32::from(crop.pixels[10 * 48 + x]) - expected).abs() <= 1.0,
                "column {x}"
            );
        }
        let outside = align(
            &picture,
            &TEMPLATE.map(|[x, y]| [x * 144.0 - 400.0, y * 144.0]),
            &settings(3),
        )
        .unwrap();
        assert!(
            outside.pixels.iter().all(|p| *p == 0),
            "left of the picture stands its first column"
        );
    }

    #[test]
    fn degenerate_landmarks_give_no_crop() {
        let picture = Picture::from_i420(
            4,
            4,
            Colorimetry {
                matrix: ColorMatrix::Bt601,
                full_range: true,
            },
            vec![0; 24],
        );
        assert!(align(&picture, &[[2.0, 2.0]; 5], &settings(1)).is_none());
    }

    #[test]
    fn normalisation_by_level_equals_the_formula_bit_for_bit() {
        let crop = Crop {
            size: 24,
            channels: 3,
            pixels: (0..24 * 24 * 3u32)
                .map(|i| (i * 7919 % 251) as u8)
                .collect(),
        };
        let value = |channel: usize, i: usize| f32::from(crop.pixels[i * 3 + channel]) / 255.0;
        let all = (0..3).flat_map(|channel| (0..576).map(move |i| (channel, i)));
        let (mean, std) = (vec![0.5, 0.4, 0.3], vec![0.25, 0.2, 0.3]);
        let expected: Vec<f32> = all
            .clone()
            .map(|(channel, i)| (value(channel, i) - mean[channel]) / std[channel])
            .collect();
        let fixed = FaceNormalisation::Fixed { mean, std };
        assert_eq!(normalise(&crop, &fixed), expected);
        let values: Vec<f64> = all.map(|(channel, i)| value(channel, i).into()).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let expected: Vec<f32> = values
            .iter()
            .map(|v| ((v - mean) / variance.sqrt()) as f32)
            .collect();
        let per_crop = FaceNormalisation::PerCrop { floor: 0.02 };
        assert_eq!(normalise(&crop, &per_crop), expected);
    }
}
