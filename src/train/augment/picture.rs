//! Augmentation of face crops: random changes as by another camera, light or pose.

use rand::Rng;
use rand::rngs::StdRng;

use super::normal;
use crate::clip::Crop;

/// The parameters of one face augmentation. They are drawn once, and applied to one crop or to all
/// crops of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct CropVariation {
    /// Whether the crop is mirrored horizontally.
    flip: bool,
    /// Angle of the rotation about the centre.
    angle_radians: f32,
    /// Factor on the size of the face.
    scale: f32,
    /// Shift along x and y, as a share of the side of the source crop.
    shift: [f32; 2],
    /// Approximated half-profile: horizontal shift of the middle of the face, as a share of half
    /// the side. The left and right edges of the picture stay. `None`: the face is not turned.
    turn: Option<f32>,
    /// Factor on the difference of each pixel from 128.
    contrast: f32,
    /// Added to each pixel, whose range is 0 to 255.
    brightness: f32,
    /// Factors on red, green and blue; not applied to a grey crop.
    gains: [f32; 3],
    /// Exponent applied to pixels of the range 0..1, as of a dark or an overexposed camera.
    gamma: Option<f32>,
    /// Light from one side: its direction in radians, and the relative gain in brightness at the
    /// edge of the picture.
    light: Option<[f32; 2]>,
    /// Share of the 3x3 box blur in the result, 0..1.
    blur: Option<f32>,
    /// Standard deviation of the pixel noise, of 255.
    noise: Option<f32>,
    /// Reflections on glasses; empty: none.
    glare: Vec<Glare>,
    /// A rectangle that is painted over; `None`: none.
    erased: Option<Erased>,
}

/// A soft bright spot, added to the picture as a Gaussian.
#[derive(Clone, Debug, PartialEq)]
struct Glare {
    /// Position (x, y), as shares of the side of the crop.
    centre: [f32; 2],
    /// Distances along x and y at which the brightness has fallen to 1/e, as shares of the side.
    radii: [f32; 2],
    /// Brightness added at the centre, of 255.
    light: f32,
}

/// Positions (x, y) of the eyes in an aligned face crop, as shares of its side.
const EYES: [[f32; 2]; 2] = [[0.32, 0.39], [0.68, 0.39]];
/// Largest distance of a reflection from the eye along each axis, as a share of the side.
const NEAR_EYE: f32 = 0.08;

/// A rectangle that is painted with one brightness (random erasing).
#[derive(Clone, Debug, PartialEq)]
struct Erased {
    /// Width and height, as shares of the side of the crop.
    size: [f32; 2],
    /// Position along x and y, 0..1: 0 places the rectangle at the left or upper edge, 1 at the
    /// right or lower edge.
    place: [f32; 2],
    /// Brightness of the painted pixels, 0 to 255.
    shade: f32,
}

impl CropVariation {
    /// Draws random parameters.
    pub fn draw(rng: &mut StdRng) -> CropVariation {
        CropVariation {
            flip: rng.random_bool(0.5),
            angle_radians: rng.random_range(-10.0f32..10.0).to_radians(),
            scale: rng.random_range(0.9f32..1.1),
            shift: std::array::from_fn(|_| rng.random_range(-4.0f32..4.0) / 48.0),
            turn: rng.random_bool(0.3).then(|| rng.random_range(-0.3f32..0.3)),
            contrast: rng.random_range(0.7f32..1.3),
            brightness: rng.random_range(-25.0f32..25.0),
            gains: std::array::from_fn(|_| rng.random_range(0.85f32..1.15)),
            gamma: rng
                .random_bool(0.3)
                .then(|| rng.random_range(-0.6f32..0.6).exp()),
            light: rng.random_bool(0.3).then(|| {
                [
                    rng.random_range(0.0..std::f32::consts::TAU),
                    rng.random_range(0.1f32..0.6),
                ]
            }),
            blur: rng.random_bool(0.25).then(|| rng.random_range(0.2f32..0.9)),
            noise: rng.random_bool(0.25).then(|| rng.random_range(1.0f32..8.0)),
            glare: if rng.random_bool(0.1) {
                EYES.iter()
                    .filter_map(|eye| Glare::draw(*eye, rng))
                    .collect()
            } else {
                Vec::new()
            },
            erased: rng.random_bool(0.3).then(|| Erased {
                size: std::array::from_fn(|_| rng.random_range(0.1f32..1.0 / 3.0)),
                place: std::array::from_fn(|_| rng.random()),
                shade: rng.random_range(0.0f32..255.0),
            }),
        }
    }

    /// The same flip, rotation, scale and shift, without all other changes.
    fn placement_only(self) -> CropVariation {
        CropVariation {
            turn: None,
            contrast: 1.0,
            brightness: 0.0,
            gains: [1.0; 3],
            gamma: None,
            light: None,
            blur: None,
            noise: None,
            glare: Vec::new(),
            erased: None,
            ..self
        }
    }

    /// Applies the augmentation to a crop. The result is `side` x `side` pixels, with the channels
    /// of `crop`. `rng` draws the pixel noise, which differs between the crops of a clip, as with a
    /// camera.
    pub fn apply(&self, crop: &Crop, side: usize, rng: &mut StdRng) -> Crop {
        let channels = crop.channels;
        let size = side as f32;
        let scale = self.scale * size / crop.size as f32;
        let (sin, cos) = (
            self.angle_radians.sin() / scale,
            self.angle_radians.cos() / scale,
        );
        let (middle, centre) = ((size - 1.0) / 2.0, (crop.size - 1) as f32 / 2.0);
        let shift = self.shift.map(|share| centre + share * crop.size as f32);
        let erased = self.erased.as_ref().map(|erased| {
            let [w, h] = erased.size.map(|share| ((share * size) as usize).max(1));
            let [left, top] = [(0, w), (1, h)]
                .map(|(axis, length)| (erased.place[axis] * (side - length + 1) as f32) as usize);
            (left..left + w, top..top + h, erased.shade)
        });
        let mut pixels = vec![0; side * side * channels];
        for channel in 0..channels {
            let gain = if channels == 3 {
                self.gains[channel]
            } else {
                1.0
            };
            let mut values: Vec<f32> = (0..side * side)
                .map(|i| {
                    let (x, y) = ((i % side) as f32 - middle, (i / side) as f32 - middle);
                    let x = if self.flip { -x } else { x };
                    // The half-profile: one cheek is narrowed, the other one widened.
                    let x = self
                        .turn
                        .map_or(x, |turn| x + turn * middle * (1.0 - (x / middle).powi(2)));
                    let (from_x, from_y) = (cos * x - sin * y, sin * x + cos * y);
                    let value = bilinear(crop, channel, from_x + shift[0], from_y + shift[1]);
                    ((value - 128.0) * self.contrast + 128.0 + self.brightness) * gain
                })
                .collect();
            if let Some(gamma) = self.gamma {
                values
                    .iter_mut()
                    .for_each(|v| *v = 255.0 * (v.clamp(0.0, 255.0) / 255.0).powf(gamma));
            }
            if let Some([direction, strength]) = self.light {
                let (cos, sin) = (direction.cos(), direction.sin());
                for (i, v) in values.iter_mut().enumerate() {
                    let along =
                        ((i % side) as f32 - middle) * cos + ((i / side) as f32 - middle) * sin;
                    *v *= 1.0 + strength * along / middle;
                }
            }
            for Glare {
                centre,
                radii,
                light,
            } in &self.glare
            {
                for (i, v) in values.iter_mut().enumerate() {
                    let off = |axis: usize, at: usize| {
                        ((at as f32 / size - centre[axis]) / radii[axis]).powi(2)
                    };
                    *v += light * (-off(0, i % side) - off(1, i / side)).exp();
                }
            }
            if let Some(strength) = self.blur {
                let blurred = blur(&values, side);
                values
                    .iter_mut()
                    .zip(blurred)
                    .for_each(|(v, b)| *v += (b - *v) * strength);
            }
            if let Some(deviation) = self.noise {
                values
                    .iter_mut()
                    .for_each(|v| *v += normal(rng) * deviation);
            }
            if let Some((columns, rows, shade)) = &erased {
                for y in rows.clone() {
                    values[y * side..][columns.clone()].fill(*shade);
                }
            }
            values.iter().enumerate().for_each(|(i, v)| {
                pixels[i * channels + channel] = v.round().clamp(0.0, 255.0) as u8
            });
        }
        Crop {
            size: side,
            channels,
            pixels,
        }
    }
}

impl Glare {
    /// Draws a reflection near `eye` with probability 3/4; otherwise `None`. `eye`: position as
    /// shares of the side.
    fn draw(eye: [f32; 2], rng: &mut StdRng) -> Option<Glare> {
        rng.random_bool(0.75).then(|| Glare {
            centre: eye.map(|at| at + rng.random_range(-NEAR_EYE..NEAR_EYE)),
            radii: std::array::from_fn(|_| rng.random_range(0.03f32..0.12)),
            light: rng.random_range(60.0f32..220.0),
        })
    }
}

/// Augments a face crop by random parameters. The result is `side` x `side` pixels, with the
/// channels of `crop`.
///
/// The face is mirrored, shifted by up to 4 of 48 pixels, rotated by up to 10 degrees, scaled by up
/// to a tenth, and bent to an approximated half-profile. Brightness, contrast, gamma and tint
/// (colour only) change. Light from one side, reflections on glasses, blur, noise and an erased
/// rectangle are added.
pub fn vary_crop(crop: &Crop, side: usize, rng: &mut StdRng) -> Crop {
    CropVariation::draw(rng).apply(crop, side, rng)
}

/// Augments a face crop by [`vary_crop`] with probability `camera_variation` (0..1), otherwise by
/// flip, shift, rotation and scale only. The result is `side` x `side` pixels.
pub fn vary_picture(crop: &Crop, side: usize, camera_variation: f64, rng: &mut StdRng) -> Crop {
    // At 1 no random number is drawn, so that runs from before this setting repeat bit by bit.
    if camera_variation >= 1.0 || rng.random_bool(camera_variation) {
        return vary_crop(crop, side, rng);
    }
    CropVariation::draw(rng)
        .placement_only()
        .apply(crop, side, rng)
}

/// The pixel of one channel at (`x`, `y`), by bilinear interpolation. Outside of the crop, its
/// border pixels are repeated. Coordinates are in pixels; 0 is the centre of the first pixel.
pub(crate) fn bilinear(crop: &Crop, channel: usize, x: f32, y: f32) -> f32 {
    let last = crop.size - 1;
    let (x, y) = (x.clamp(0.0, last as f32), y.clamp(0.0, last as f32));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(last), (y0 + 1).min(last));
    let at =
        |x: usize, y: usize| f32::from(crop.pixels[(y * crop.size + x) * crop.channels + channel]);
    let top = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * (x - x0 as f32);
    let bottom = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * (x - x0 as f32);
    top + (bottom - top) * (y - y0 as f32)
}

/// A box blur: the mean over 3x3 pixels, or fewer at the border. `values`: `[size, size]`.
fn blur(values: &[f32], size: usize) -> Vec<f32> {
    let near = |i: usize| i.saturating_sub(1)..=(i + 1).min(size - 1);
    (0..size * size)
        .map(|i| {
            let (x, y) = (i % size, i / size);
            let cells = near(y).flat_map(|r| near(x).map(move |c| values[r * size + c]));
            let (sum, count) = cells.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
            sum / count
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::model::golden::golden_crop;

    #[test]
    fn augmented_crops_keep_size_and_channels_and_depend_only_on_the_seed() {
        let crop = golden_crop(1, 0, 48, 1);
        let mut all = Vec::new();
        for seed in 0..40 {
            let varied = vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed));
            assert_eq!(
                (varied.size, varied.channels, varied.pixels.len()),
                (48, 1, 48 * 48)
            );
            assert_eq!(
                varied,
                vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed))
            );
            all.push(varied.pixels);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 40, "every seed gives another picture");
    }

    #[test]
    fn an_augmented_crop_correlates_with_its_original_more_than_with_another() {
        let crop = golden_crop(3, 0, 48, 1);
        let flipped: Vec<u8> = (0..48 * 48)
            .map(|i| crop.pixels[i / 48 * 48 + 47 - i % 48])
            .collect();
        let correlation = |a: &[u8], b: &[u8]| {
            let mean = |v: &[u8]| v.iter().map(|p| f64::from(*p)).sum::<f64>() / v.len() as f64;
            let (ma, mb) = (mean(a), mean(b));
            let product = |v: &[u8], m: f64, w: &[u8], n: f64| {
                v.iter()
                    .zip(w)
                    .map(|(a, b)| (f64::from(*a) - m) * (f64::from(*b) - n))
                    .sum::<f64>()
            };
            product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
        };
        let other = golden_crop(4, 0, 48, 1).pixels;
        let alike: Vec<f64> = (0..40)
            .map(|seed| {
                let varied = vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed)).pixels;
                correlation(&varied, &crop.pixels).max(correlation(&varied, &flipped))
                    - correlation(&varied, &other)
            })
            .collect();
        // A dark camera with light from one side leaves little of a picture, so a few of the 40
        // augmented crops may be hardly more similar to their original than to another picture.
        assert!(
            alike.iter().filter(|c| **c > 0.15).count() >= 36
                && alike.iter().sum::<f64>() > 0.4 * 40.0,
            "{alike:?}"
        );
    }

    #[test]
    fn colour_crops_change_as_grey_ones_and_crops_of_a_clip_change_equally() {
        let grey = golden_crop(5, 0, 48, 1);
        let colour = Crop {
            size: 48,
            channels: 3,
            pixels: grey.pixels.iter().flat_map(|p| [*p; 3]).collect(),
        };
        let plain = |seed| CropVariation {
            gains: [1.0; 3],
            noise: None,
            gamma: None,
            light: None,
            glare: Vec::new(),
            ..CropVariation::draw(&mut StdRng::seed_from_u64(seed))
        };
        for seed in 0..20 {
            let apply = |crop: &Crop| plain(seed).apply(crop, 48, &mut StdRng::seed_from_u64(seed));
            let (one, three) = (apply(&grey), apply(&colour));
            assert_eq!(
                three.pixels,
                one.pixels.iter().flat_map(|p| [*p; 3]).collect::<Vec<_>>()
            );
            let tinted = vary_crop(&colour, 48, &mut StdRng::seed_from_u64(seed));
            assert_eq!(
                (tinted.size, tinted.channels, tinted.pixels.len()),
                (48, 3, 48 * 48 * 3)
            );
            // Two pictures that differ by a constant still do so afterwards, because both are
            // flipped and shifted equally.
            let lighter = Crop {
                pixels: grey.pixels.iter().map(|p| p / 2 + 20).collect(),
                ..grey.clone()
            };
            let dark = Crop {
                pixels: grey.pixels.iter().map(|p| p / 2).collect(),
                ..grey.clone()
            };
            let mild = CropVariation {
                contrast: 1.0,
                brightness: 30.0,
                erased: None,
                ..plain(seed)
            };
            let (lighter, dark) = (
                mild.apply(&lighter, 48, &mut StdRng::seed_from_u64(1)),
                mild.apply(&dark, 48, &mut StdRng::seed_from_u64(2)),
            );
            assert!(
                lighter
                    .pixels
                    .iter()
                    .zip(&dark.pixels)
                    .all(|(l, d)| (19..=21).contains(&(i32::from(*l) - i32::from(*d)))),
                "seed {seed}"
            );
        }
    }

    /// An augmentation that changes nothing.
    fn identity() -> CropVariation {
        CropVariation {
            flip: false,
            angle_radians: 0.0,
            scale: 1.0,
            shift: [0.0; 2],
            ..CropVariation::draw(&mut StdRng::seed_from_u64(1)).placement_only()
        }
    }

    #[test]
    fn a_half_profile_keeps_the_edges_and_widens_one_cheek() {
        // Brightness rises from left to right, so that a value identifies its column.
        let ramp = Crop {
            size: 48,
            channels: 1,
            pixels: (0..48 * 48).map(|i| (i % 48 * 5) as u8).collect(),
        };
        let apply = |variation: &CropVariation| {
            variation
                .apply(&ramp, 48, &mut StdRng::seed_from_u64(1))
                .pixels
        };
        assert_eq!(apply(&identity()), ramp.pixels);
        let turned = apply(&CropVariation {
            turn: Some(0.3),
            ..identity()
        });
        let row = &turned[..48];
        assert!(row[0] < 5 && row[47] > 230 && row.is_sorted(), "{row:?}");
        let from = |column: usize| f32::from(row[column]) / 5.0;
        assert!((from(24) - 24.0 - 0.3 * 23.5).abs() < 0.7, "{}", from(24));
        assert!(
            from(12) - from(0) > 1.3 * (from(47) - from(35)),
            "one cheek is wider: {row:?}"
        );
    }

    #[test]
    fn glare_brightens_only_pixels_near_an_eye() {
        let grey = Crop {
            size: 48,
            channels: 1,
            pixels: vec![60; 48 * 48],
        };
        let mut lit = 0;
        for seed in 0..20 {
            let glare = Glare::draw(EYES[0], &mut StdRng::seed_from_u64(seed))
                .into_iter()
                .collect::<Vec<_>>();
            let pixels = CropVariation {
                glare: glare.clone(),
                ..identity()
            }
            .apply(&grey, 48, &mut StdRng::seed_from_u64(1))
            .pixels;
            assert!(
                pixels.iter().all(|p| *p >= 60) && pixels[40 * 48..].iter().all(|p| *p == 60),
                "the chin stays"
            );
            let brightest = pixels.iter().enumerate().max_by_key(|(_, p)| **p).unwrap();
            if !glare.is_empty() {
                lit += 1;
                let [x, y] = [brightest.0 % 48, brightest.0 / 48].map(|at| at as f32 / 48.0);
                assert!(
                    *brightest.1 > 100
                        && (x - EYES[0][0]).abs() < 0.12
                        && (y - EYES[0][1]).abs() < 0.12,
                    "{x} {y}"
                );
            }
        }
        assert!((10..20).contains(&lit), "{lit} of 20");
    }
}
