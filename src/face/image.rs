//! RGB images, and their resampling by area averages to network inputs.

use crate::clip::{ColorMatrix, Picture};
use multiversion::multiversion;

/// An RGB image with 8 bits per channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RgbImage {
    pub width: usize,
    pub height: usize,
    /// `width x height` pixels row by row, interleaved R, G, B.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// Converts `picture` to RGB by its colorimetry. Each pixel is the mean over `shrink x shrink`
    /// pixels of the picture; `shrink` is 1, 2 or 4. Columns and rows at the right and lower border
    /// that do not fill a pixel are left out.
    pub fn from_picture(picture: &Picture, shrink: usize) -> Self {
        let mut image = RgbImage::default();
        image.fill_from(picture, shrink);
        image
    }

    /// Does what [`RgbImage::from_picture`] does, with this image's buffer.
    pub fn fill_from(&mut self, picture: &Picture, shrink: usize) {
        fill(self, picture, shrink);
    }
}

/// The rounded mean of the samples in square number `x` of a row of squares, each `side x side`
/// samples. `sums` has the sum of each column over the row's height.
#[inline(always)]
fn mean(sums: &[u16], x: usize, side: usize) -> i32 {
    let sum: u32 = sums[x * side..(x + 1) * side]
        .iter()
        .map(|v| u32::from(*v))
        .sum();
    // The side is 1, 2 or 4, so the area is a power of two.
    let bits = 2 * side.trailing_zeros();
    ((sum + ((1 << bits) >> 1)) >> bits) as i32
}

/// Implements [`RgbImage::fill_from`]. It uses loops, because closures in a multiversioned function
/// may not be inlined.
#[multiversion(targets("x86_64+avx2"))]
fn fill(image: &mut RgbImage, picture: &Picture, shrink: usize) {
    assert!(matches!(shrink, 1 | 2 | 4), "shrink is {shrink}");
    (image.width, image.height) = (picture.width / shrink, picture.height / shrink);
    image.pixels.resize(image.width * image.height * 3, 0);
    let matrix = Matrix::new(picture);
    let bytes = picture.bytes();
    let row_of = |plane: usize, y: usize, columns: usize| {
        let start = picture.planes[plane].offset + y * picture.planes[plane].stride;
        &bytes[start..start + columns]
    };
    let (chroma_width, chroma_height) = (picture.width.div_ceil(2), picture.height.div_ceil(2));
    let mut sums = [
        vec![0u16; image.width * shrink],
        vec![0u16; chroma_width],
        vec![0u16; chroma_width],
    ];
    for y in 0..image.height {
        let out = &mut image.pixels[y * image.width * 3..(y + 1) * image.width * 3];
        if shrink == 1 {
            let luma = row_of(0, y, picture.width);
            let (cb, cr) = (
                row_of(1, y / 2, chroma_width),
                row_of(2, y / 2, chroma_width),
            );
            // Two pixels share their chroma.
            let (pairs, last) = out.as_chunks_mut::<6>();
            for ((pixels, luma), (cb, cr)) in pairs
                .iter_mut()
                .zip(luma.as_chunks::<2>().0)
                .zip(cb.iter().zip(cr))
            {
                let chroma = matrix.chroma(i32::from(*cb), i32::from(*cr));
                let [r0, g0, b0] = matrix.with_luma(i32::from(luma[0]), chroma);
                let [r1, g1, b1] = matrix.with_luma(i32::from(luma[1]), chroma);
                *pixels = [r0, g0, b0, r1, g1, b1];
            }
            if let Ok(last) = <&mut [u8; 3]>::try_from(last) {
                let x = picture.width - 1;
                *last = matrix.rgb(
                    i32::from(luma[x]),
                    i32::from(cb[x / 2]),
                    i32::from(cr[x / 2]),
                );
            }
            continue;
        }
        let half = shrink / 2;
        for (plane, rows) in [
            (0, y * shrink..(y + 1) * shrink),
            (1, y * half..(y + 1) * half),
            (2, y * half..(y + 1) * half),
        ] {
            let sum = &mut sums[plane];
            sum.fill(0);
            for row in rows {
                let row = row_of(
                    plane,
                    row.min(
                        if plane == 0 {
                            picture.height
                        } else {
                            chroma_height
                        } - 1,
                    ),
                    sum.len(),
                );
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += u16::from(*value);
                }
            }
        }
        for (x, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = matrix.rgb(
                mean(&sums[0], x, shrink),
                mean(&sums[1], x, half),
                mean(&sums[2], x, half),
            );
        }
    }
}

/// The conversion from YCbCr to RGB with integer coefficients of 16 fractional bits. Results differ
/// by at most 1 from [`crate::preprocess::ycc_to_rgb`].
struct Matrix {
    luma_offset: i32,
    luma: i32,
    cr_to_r: i32,
    cb_to_g: i32,
    cr_to_g: i32,
    cb_to_b: i32,
}

impl Matrix {
    fn new(picture: &Picture) -> Self {
        let (kr, kb) = match picture.colorimetry.matrix {
            ColorMatrix::Bt601 => (0.299, 0.114),
            ColorMatrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (luma_offset, luma, chroma) = if picture.colorimetry.full_range {
            (0, 1.0, 1.0)
        } else {
            (16, 255.0 / 219.0, 255.0 / 224.0)
        };
        let fixed = |v: f64| (v * 65536.0).round() as i32;
        Matrix {
            luma_offset,
            luma: fixed(luma),
            cr_to_r: fixed(2.0 * (1.0 - kr) * chroma),
            cb_to_g: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma),
            cr_to_g: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma),
            cb_to_b: fixed(2.0 * (1.0 - kb) * chroma),
        }
    }

    #[inline(always)]
    fn rgb(&self, y: i32, cb: i32, cr: i32) -> [u8; 3] {
        self.with_luma(y, self.chroma(cb, cr))
    }

    /// What Cb and Cr (0..255) contribute to R, G, B, with 16 fractional bits.
    #[inline(always)]
    fn chroma(&self, cb: i32, cr: i32) -> [i32; 3] {
        let (cb, cr) = (cb - 128, cr - 128);
        [
            self.cr_to_r * cr,
            self.cb_to_g * cb + self.cr_to_g * cr,
            self.cb_to_b * cb,
        ]
    }

    #[inline(always)]
    fn with_luma(&self, y: i32, chroma: [i32; 3]) -> [u8; 3] {
        let y = (y - self.luma_offset) * self.luma + 32768;
        let [r, g, b] = chroma;
        [to_byte(y + r), to_byte(y + g), to_byte(y + b)]
    }
}

/// Removes the 16 fractional bits, and clamps to 0..255.
#[inline(always)]
fn to_byte(fixed: i32) -> u8 {
    (fixed >> 16).clamp(0, 255) as u8
}

/// A rectangle of an image in whole pixels; `x, y` is the top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub x: usize,
    pub y: usize,
    pub w: usize,
    pub h: usize,
}

/// The value that is subtracted from a pixel (0..255) in the networks' inputs.
const PIXEL_MEAN: f32 = 127.5;
/// The factor by which a pixel is then multiplied in the networks' inputs.
const PIXEL_SCALE: f32 = 1.0 / 128.0;

/// When a row of `from` pixels is resampled to `to` pixels: the input pixels whose mean is output
/// pixel `at`, as in adaptive average pooling. Neighbouring output pixels may share an input pixel.
#[inline(always)]
pub fn pooled(at: usize, from: usize, to: usize) -> std::ops::Range<usize> {
    at * from / to..((at + 1) * from).div_ceil(to)
}

/// Resamples an area of `image` to `width x height` pixels by the means over [`pooled`]. Appends
/// the planes R, G, B to `out`, with values `(v - 127.5) / 128` for `v` in 0..255.
#[multiversion(targets("x86_64+avx2"))]
pub fn resample(image: &RgbImage, area: Area, width: usize, height: usize, out: &mut Vec<f32>) {
    let start = out.len();
    let plane = width * height;
    out.resize(start + 3 * plane, 0.0);
    let (red, rest) = out[start..].split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let columns: Vec<_> = (0..width).map(|x| pooled(x, area.w, width)).collect();
    let rows_of = |row: usize| {
        let first = ((area.y + row) * image.width + area.x) * 3;
        &image.pixels[first..first + area.w * 3]
    };
    // Up to 254 rows fit into 16-bit sums, which are twice as fast.
    let narrow = area.h / height < 255;
    let (mut sums16, mut sums32) = (
        vec![0u16; if narrow { area.w * 3 } else { 0 }],
        vec![0u32; if narrow { 0 } else { area.w * 3 }],
    );
    let mut before = vec![[0u32; 3]; area.w + 1];
    for y in 0..height {
        let rows = pooled(y, area.h, height);
        let row_count = rows.len();
        if narrow {
            sum_rows(rows.map(rows_of), &mut sums16);
            add_up(&sums16, &mut before);
        } else {
            sum_rows(rows.map(rows_of), &mut sums32);
            add_up(&sums32, &mut before);
        }
        let (red, green, blue) = (
            &mut red[y * width..][..width],
            &mut green[y * width..][..width],
            &mut blue[y * width..][..width],
        );
        for (((range, red), green), blue) in columns.iter().zip(red).zip(green).zip(blue) {
            let (first, last) = (before[range.start], before[range.end]);
            let scale = PIXEL_SCALE / (row_count * range.len()) as f32;
            let value = |channel: usize| {
                last[channel].wrapping_sub(first[channel]) as i32 as f32 * scale
                    - PIXEL_MEAN * PIXEL_SCALE
            };
            (*red, *green, *blue) = (value(0), value(1), value(2));
        }
    }
}

/// Sums `rows` of samples by column into `sums`.
#[inline(always)]
fn sum_rows<'a, S: Copy + From<u8> + std::ops::AddAssign>(
    mut rows: impl Iterator<Item = &'a [u8]>,
    sums: &mut [S],
) {
    if let Some(first) = rows.next() {
        for (sum, value) in sums.iter_mut().zip(first) {
            *sum = S::from(*value);
        }
    }
    for row in rows {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += S::from(*value);
        }
    }
}

/// Computes the prefix sums of interleaved `sums` for each channel, modulo 2^32. `before` has one
/// entry more than there are pixels. The sum over any range of pixels is then a single difference,
/// which is faster than a short loop.
#[inline(always)]
fn add_up<S: Copy>(sums: &[S], before: &mut [[u32; 3]])
where
    u32: From<S>,
{
    let mut total = [0u32; 3];
    for (before, pixel) in before[1..].iter_mut().zip(sums.as_chunks::<3>().0) {
        for (total, value) in total.iter_mut().zip(pixel) {
            *total = total.wrapping_add(u32::from(*value));
        }
        *before = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Colorimetry;
    use proptest::prelude::*;

    fn picture(width: usize, height: usize, colorimetry: Colorimetry, seed: u32) -> Picture {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        let length = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        Picture::from_i420(
            width,
            height,
            colorimetry,
            (0..length).map(|_| next()).collect(),
        )
    }

    proptest! {
        #[test]
        fn the_integer_conversion_to_rgb_differs_from_the_float_one_by_at_most_1(
            seed in any::<u32>(),
            full_range in any::<bool>(),
            hd in any::<bool>(),
            w in 1usize..20,
            h in 1usize..20,
        ) {
            let matrix = if hd {
                ColorMatrix::Bt709
            } else {
                ColorMatrix::Bt601
            };
            let picture = picture(w, h, Colorimetry { matrix, full_range }, seed);
            let image = RgbImage::from_picture(&picture, 1);
            for y in 0..h {
                for x in 0..w {
                    let at = |plane: usize, x: usize, y: usize| {
                        f32::from(
                            picture.bytes()[picture.planes[plane].offset
                                + y * picture.planes[plane].stride
                                + x],
                        )
                    };
                    let expected = crate::preprocess::ycc_to_rgb(
                        &picture,
                        [at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2)],
                    );
                    for (c, value) in expected.iter().enumerate() {
                        prop_assert!(image.pixels[(y * w + x) * 3 + c].abs_diff(*value) <= 1);
                    }
                }
            }
        }

        #[test]
        fn resampling_keeps_the_mean_of_whole_divisors(seed in any::<u32>(), factor in 1usize..5) {
            let (w, h) = (4 * factor, 3 * factor);
            let image = RgbImage::from_picture(
                &picture(
                    w,
                    h,
                    Colorimetry {
                        matrix: ColorMatrix::Bt601,
                        full_range: true,
                    },
                    seed,
                ),
                1,
            );
            let mut out = Vec::new();
            resample(&image, Area { x: 0, y: 0, w, h }, 4, 3, &mut out);
            for c in 0..3 {
                let mean = out[c * 12..(c + 1) * 12]
                    .iter()
                    .map(|v| v * 128.0 + 127.5)
                    .sum::<f32>()
                    / 12.0;
                let expected = image
                    .pixels
                    .iter()
                    .skip(c)
                    .step_by(3)
                    .map(|p| f32::from(*p))
                    .sum::<f32>()
                    / (w * h) as f32;
                prop_assert!((mean - expected).abs() < 1e-2);
            }
        }
    }

    proptest! {
        /// Heights up to 700 rows test both 16-bit and 32-bit sums.
        #[test]
        fn each_resampled_pixel_is_the_mean_over_its_pooled_pixels(
            seed in any::<u32>(),
            w in 1usize..30,
            h in 1usize..700,
            to_w in 1usize..9,
            to_h in 1usize..3,
        ) {
            let image = RgbImage::from_picture(
                &picture(
                    w,
                    h,
                    Colorimetry {
                        matrix: ColorMatrix::Bt601,
                        full_range: true,
                    },
                    seed,
                ),
                1,
            );
            let mut out = Vec::new();
            resample(&image, Area { x: 0, y: 0, w, h }, to_w, to_h, &mut out);
            for c in 0..3 {
                for (y, x) in (0..to_h).flat_map(|y| (0..to_w).map(move |x| (y, x))) {
                    let (rows, columns) = (pooled(y, h, to_h), pooled(x, w, to_w));
                    let cells = rows
                        .clone()
                        .flat_map(|r| columns.clone().map(move |k| (r, k)));
                    let sum: u32 = cells
                        .map(|(r, k)| u32::from(image.pixels[(r * w + k) * 3 + c]))
                        .sum();
                    let expected =
                        (sum as f32 / (rows.len() * columns.len()) as f32 - 127.5) / 128.0;
                    let found = out[(c * to_h + y) * to_w + x];
                    prop_assert!(
                        (found - expected).abs() <= 1e-6,
                        "{found} instead of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_shrunk_picture_has_the_mean_of_each_square_of_pixels() {
        let colorimetry = Colorimetry {
            matrix: ColorMatrix::Bt709,
            full_range: false,
        };
        let noise = picture(37, 23, colorimetry, 7);
        // In the middle of the range, no value of R, G or B is clamped.
        let narrowed = noise.bytes().iter().enumerate().map(|(i, byte)| {
            if i < 37 * 23 {
                96 + byte / 4
            } else {
                112 + byte / 8
            }
        });
        let picture = Picture::from_i420(37, 23, colorimetry, narrowed.collect());
        let whole = RgbImage::from_picture(&picture, 1);
        for shrink in [2, 4] {
            let image = RgbImage::from_picture(&picture, shrink);
            assert_eq!((image.width, image.height), (37 / shrink, 23 / shrink));
            assert_eq!(image.pixels.len(), image.width * image.height * 3);
            for (i, value) in image.pixels.iter().enumerate() {
                let (x, y, channel) = (i / 3 % image.width, i / 3 / image.width, i % 3);
                let sum: u32 = (0..shrink * shrink)
                    .map(|k| (x * shrink + k % shrink, y * shrink + k / shrink))
                    .map(|(x, y)| u32::from(whole.pixels[(y * 37 + x) * 3 + channel]))
                    .sum();
                let mean = f64::from(sum) / (shrink * shrink) as f64;
                // Rounded are the means of luma (a factor of 1.17 in R, G and B) and of chroma (at
                // most 2.12), the result, and every pixel of `whole`.
                assert!(
                    (f64::from(*value) - mean).abs() <= 0.5 * (1.17 + 2.12 + 1.0 + 1.0),
                    "shrink {shrink}, pixel ({x}, {y}), channel {channel}: {value}, mean {mean}"
                );
            }
        }
    }
}
