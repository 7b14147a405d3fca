//! Augmentation of face crops, as by other cameras.

use rand::Rng;
use rand::rngs::StdRng;

use super::normal;
use crate::clip::Crop;

/// An augmentation of a face, drawn once and applied to one crop or to all crops of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct CropVariation {
    flip: bool,
    angle_radians: f32,
    scale: f32,
    /// Shift as a share of the side.
    shift: [f32; 2],
    /// Half-profile: shift of the middle of the face, as a share of half the side; the edges of the
    /// picture stay.
    turn: Option<f32>,
    contrast: f32,
    brightness: f32,
    /// Factors on red, green and blue; a grey crop has none.
    gains: [f32; 3],
    /// Exponent of the brightness, as of a dark or an overexposed camera.
    gamma: Option<f32>,
    /// Light from one side: its direction in radians, and the added brightness at the edge.
    light: Option<[f32; 2]>,
    blur: Option<f32>,
    noise: Option<f32>,
    /// Reflections on glasses.
    glare: Vec<Glare>,
    erased: Option<Erased>,
}

/// A soft bright spot; its position and size are shares of the side.
#[derive(Clone, Debug, PartialEq)]
struct Glare {
    centre: [f32; 2],
    radii: [f32; 2],
    /// Brightness added at its centre, of 255.
    light: f32,
}

/// Position of the eyes in a face crop, in shares of its side, and the largest distance of a spot
/// from them.
const EYES: [[f32; 2]; 2] = [[0.32, 0.39], [0.68, 0.39]];
const NEAR_EYE: f32 = 0.08;

/// A rectangle of one brightness; its position and size are shares of the side.
#[derive(Clone, Debug, PartialEq)]
struct Erased {
    size: [f32; 2],
    /// Position within the free space, as a share of that space.
    place: [f32; 2],
    shade: f32,
}

impl CropVariation {
    /// Draws an augmentation.
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

    /// Keeps only flip, rotation, scale and shift.
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

    /// Applies the augmentation to a crop. The result has `side` pixels and the same channels.
    /// `rng` draws the noise, which differs from crop to crop of a clip, as with cameras.
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
                    // Narrows one cheek and widens the other.
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
    /// Draws a spot near `eye`, with probability 3/4.
    fn draw(eye: [f32; 2], rng: &mut StdRng) -> Option<Glare> {
        rng.random_bool(0.75).then(|| Glare {
            centre: eye.map(|at| at + rng.random_range(-NEAR_EYE..NEAR_EYE)),
            radii: std::array::from_fn(|_| rng.random_range(0.03f32..0.12)),
            light: rng.random_range(60.0f32..220.0),
        })
    }
}

/// Augments a face as if by another camera, pose or crop: flip, shift up to 4 of 48 pixels,
/// rotation up to 10 degrees, scale up to a tenth, an approximated half-profile (the picture is
/// bent), reflections on glasses, brightness, contrast, gamma, tint (colour only), light from one
/// side, blur, noise, and an erased rectangle. The result is `side` pixels wide, with the same
/// channels.
pub fn vary_crop(crop: &Crop, side: usize, rng: &mut StdRng) -> Crop {
    CropVariation::draw(rng).apply(crop, side, rng)
}

/// [`vary_crop`] with probability `camera_variation`; else only flip, shift, rotation and scale.
pub fn vary_picture(crop: &Crop, side: usize, camera_variation: f64, rng: &mut StdRng) -> Crop {
    // At 1 no number is drawn: earlier runs are repeated bit by bit.
    if camera_variation >= 1.0 || rng.random_bool(camera_variation) {
        return vary_crop(crop, side, rng);
    }
    CropVariation::draw(rng)
        .placement_only()
        .apply(crop, side, rng)
}

/// Bilinear interpolation in one channel; the border is repeated outside.
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

/// The mean over 3x3 pixels.
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
    fn crops_keep_their_shape_and_follow_the_seed() {
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
    fn a_varied_crop_is_still_the_same_picture() {
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
        // A dark camera and light from one side leave little of a picture, and still more than
        // another one has.
        assert!(
            alike.iter().filter(|c| **c > 0.15).count() >= 36
                && alike.iter().sum::<f64>() > 0.4 * 40.0,
            "{alike:?}"
        );
    }

    #[test]
    fn colour_varies_as_grey_and_a_clips_crops_vary_equally() {
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
            // Two pictures that differ by a constant differ by a constant afterwards: flips and
            // shifts were the same.
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

    /// The identity.
    fn still() -> CropVariation {
        CropVariation {
            flip: false,
            angle_radians: 0.0,
            scale: 1.0,
            shift: [0.0; 2],
            ..CropVariation::draw(&mut StdRng::seed_from_u64(1)).placement_only()
        }
    }

    #[test]
    fn a_turned_head_keeps_its_outline_and_shows_more_of_one_cheek() {
        // A ramp from left to right: each value identifies its column.
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
        assert_eq!(apply(&still()), ramp.pixels);
        let turned = apply(&CropVariation {
            turn: Some(0.3),
            ..still()
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
    fn glare_lights_the_eyes_and_no_more() {
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
                ..still()
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
