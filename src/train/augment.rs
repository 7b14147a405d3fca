//! Variations of pictures and voices, drawn from a seeded generator.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clip::Crop;

/// A normal deviate (Box and Muller).
pub(crate) fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(1e-7..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// How a face is shown otherwise, drawn once and applied to one crop or to all of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct CropVariation {
    flip: bool,
    angle_radians: f32,
    scale: f32,
    /// In shares of the side.
    shift: [f32; 2],
    /// The head turned aside: how far the middle of the face moves, in shares of half the side; its edges stay.
    turn: Option<f32>,
    contrast: f32,
    brightness: f32,
    /// Red, green, blue; grey has none.
    gains: [f32; 3],
    /// A dim or a glaring camera.
    gamma: Option<f32>,
    /// Light from one side: its direction in radians, and how much more there is at the edge.
    light: Option<[f32; 2]>,
    blur: Option<f32>,
    noise: Option<f32>,
    /// Light on glasses.
    glare: Vec<Glare>,
    erased: Option<Erased>,
}

/// A soft bright spot, in shares of the side.
#[derive(Clone, Debug, PartialEq)]
struct Glare {
    centre: [f32; 2],
    radii: [f32; 2],
    /// Added at its centre, of 255.
    light: f32,
}

/// Where eyes are in a cut face, in shares of its side, and how far a spot may lie from them.
const EYES: [[f32; 2]; 2] = [[0.32, 0.39], [0.68, 0.39]];
const NEAR_EYE: f32 = 0.08;

/// A rectangle of one shade, in shares of the side.
#[derive(Clone, Debug, PartialEq)]
struct Erased {
    size: [f32; 2],
    /// Of what is left beside it.
    place: [f32; 2],
    shade: f32,
}

impl CropVariation {
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
            gamma: rng.random_bool(0.3).then(|| rng.random_range(-0.6f32..0.6).exp()),
            light: rng.random_bool(0.3).then(|| [rng.random_range(0.0..std::f32::consts::TAU), rng.random_range(0.1f32..0.6)]),
            blur: rng.random_bool(0.25).then(|| rng.random_range(0.2f32..0.9)),
            noise: rng.random_bool(0.25).then(|| rng.random_range(1.0f32..8.0)),
            glare: if rng.random_bool(0.1) { EYES.iter().filter_map(|eye| Glare::draw(*eye, rng)).collect() } else { Vec::new() },
            erased: rng.random_bool(0.3).then(|| Erased {
                size: std::array::from_fn(|_| rng.random_range(0.1f32..1.0 / 3.0)),
                place: std::array::from_fn(|_| rng.random()),
                shade: rng.random_range(0.0f32..255.0),
            }),
        }
    }

    /// `side` pixels wide; channels stay. `rng` gives the noise, where there is any: another one on each crop of a clip, as cameras have it.
    pub fn apply(&self, crop: &Crop, side: usize, rng: &mut StdRng) -> Crop {
        let channels = crop.channels;
        let size = side as f32;
        let scale = self.scale * size / crop.size as f32;
        let (sin, cos) = (self.angle_radians.sin() / scale, self.angle_radians.cos() / scale);
        let (middle, centre) = ((size - 1.0) / 2.0, (crop.size - 1) as f32 / 2.0);
        let shift = self.shift.map(|share| centre + share * crop.size as f32);
        let erased = self.erased.as_ref().map(|erased| {
            let [w, h] = erased.size.map(|share| ((share * size) as usize).max(1));
            let [left, top] = [(0, w), (1, h)].map(|(axis, length)| (erased.place[axis] * (side - length + 1) as f32) as usize);
            (left..left + w, top..top + h, erased.shade)
        });
        let mut pixels = vec![0; side * side * channels];
        for channel in 0..channels {
            let gain = if channels == 3 { self.gains[channel] } else { 1.0 };
            let mut values: Vec<f32> = (0..side * side)
                .map(|i| {
                    let (x, y) = ((i % side) as f32 - middle, (i / side) as f32 - middle);
                    let x = if self.flip { -x } else { x };
                    // One cheek narrower, the other wider.
                    let x = self.turn.map_or(x, |turn| x + turn * middle * (1.0 - (x / middle).powi(2)));
                    let (from_x, from_y) = (cos * x - sin * y, sin * x + cos * y);
                    let value = bilinear(crop, channel, from_x + shift[0], from_y + shift[1]);
                    ((value - 128.0) * self.contrast + 128.0 + self.brightness) * gain
                })
                .collect();
            if let Some(gamma) = self.gamma {
                values.iter_mut().for_each(|v| *v = 255.0 * (v.clamp(0.0, 255.0) / 255.0).powf(gamma));
            }
            if let Some([direction, strength]) = self.light {
                let (cos, sin) = (direction.cos(), direction.sin());
                for (i, v) in values.iter_mut().enumerate() {
                    let along = ((i % side) as f32 - middle) * cos + ((i / side) as f32 - middle) * sin;
                    *v *= 1.0 + strength * along / middle;
                }
            }
            for Glare { centre, radii, light } in &self.glare {
                for (i, v) in values.iter_mut().enumerate() {
                    let off = |axis: usize, at: usize| ((at as f32 / size - centre[axis]) / radii[axis]).powi(2);
                    *v += light * (-off(0, i % side) - off(1, i / side)).exp();
                }
            }
            if let Some(strength) = self.blur {
                let blurred = blur(&values, side);
                values.iter_mut().zip(blurred).for_each(|(v, b)| *v += (b - *v) * strength);
            }
            if let Some(deviation) = self.noise {
                values.iter_mut().for_each(|v| *v += normal(rng) * deviation);
            }
            if let Some((columns, rows, shade)) = &erased {
                for y in rows.clone() {
                    values[y * side..][columns.clone()].fill(*shade);
                }
            }
            values.iter().enumerate().for_each(|(i, v)| pixels[i * channels + channel] = v.round().clamp(0.0, 255.0) as u8);
        }
        Crop { size: side, channels, pixels }
    }
}

impl Glare {
    /// One near `eye`, three times out of four.
    fn draw(eye: [f32; 2], rng: &mut StdRng) -> Option<Glare> {
        rng.random_bool(0.75).then(|| Glare {
            centre: eye.map(|at| at + rng.random_range(-NEAR_EYE..NEAR_EYE)),
            radii: std::array::from_fn(|_| rng.random_range(0.03f32..0.12)),
            light: rng.random_range(60.0f32..220.0),
        })
    }
}

/// A face as another camera, pose or crop might have shown it: flip, shift up to 4 of 48 pixels, rotation up to 10 degrees, scale
/// up to a tenth, half-profile (of a kind: the picture is bent, not the head turned), light on glasses, brightness, contrast, gamma and (in colour) tint, light from one side, blur, noise, and a rectangle erased. `side` pixels wide; channels stay.
pub fn vary_crop(crop: &Crop, side: usize, rng: &mut StdRng) -> Crop {
    CropVariation::draw(rng).apply(crop, side, rng)
}

/// Between the pixels of one channel; outside repeats the border.
pub(crate) fn bilinear(crop: &Crop, channel: usize, x: f32, y: f32) -> f32 {
    let last = crop.size - 1;
    let (x, y) = (x.clamp(0.0, last as f32), y.clamp(0.0, last as f32));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(last), (y0 + 1).min(last));
    let at = |x: usize, y: usize| f32::from(crop.pixels[(y * crop.size + x) * crop.channels + channel]);
    let top = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * (x - x0 as f32);
    let bottom = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * (x - x0 as f32);
    top + (bottom - top) * (y - y0 as f32)
}

/// The mean over 3x3.
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

/// How a voice is heard otherwise, drawn once and applied to one stretch or to all of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceVariation {
    speed: f32,
    room: Option<Room>,
    below_hz: Option<f32>,
    above_hz: Option<f32>,
    /// Signal over noise in dB, and the noise's colour: from white to brownish, since rooms hum more than they hiss.
    noise: Option<(f32, f32)>,
    gain_db: f32,
}

/// A room: its echoes are noise that dies away.
#[derive(Clone, Debug, PartialEq)]
struct Room {
    /// Until echoes are 60 dB lower (RT60).
    seconds: f32,
    /// The direct sound's energy over that of all echoes.
    direct_db: f32,
    /// Of its echoes: a room stays the same all through a recording.
    seed: u64,
}

impl Room {
    /// Adds the echoes of `samples`, by a product of spectra.
    fn sound(&self, samples: &mut [f32]) {
        let rate = crate::clip::SAMPLE_RATE_HZ as f32;
        let mut rng = StdRng::seed_from_u64(self.seed);
        // The first echo comes after some 5 ms, from the nearest wall.
        let (first, length) = ((0.005 * rate) as usize, (self.seconds * rate) as usize);
        let mut echoes: Vec<f32> = (0..length).map(|i| if i < first { 0.0 } else { normal(&mut rng) * 10f32.powf(-3.0 * i as f32 / length as f32) }).collect();
        low_pass(&mut echoes, 4000.0);
        let energy: f32 = echoes.iter().map(|e| e * e).sum();
        let loudness = (10f32.powf(-self.direct_db / 10.0) / energy.max(f32::MIN_POSITIVE)).sqrt();
        let size = (samples.len() + length).next_power_of_two();
        let (mut planner, mut padded) = (realfft::RealFftPlanner::<f32>::new(), vec![0.0; size]);
        let (forward, backward) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
        let (mut of_samples, mut of_echoes) = (forward.make_output_vec(), forward.make_output_vec());
        padded[..samples.len()].copy_from_slice(samples);
        forward.process(&mut padded, &mut of_samples).expect("the buffers are the planner's");
        padded.fill(0.0);
        padded[..length].copy_from_slice(&echoes);
        forward.process(&mut padded, &mut of_echoes).expect("the buffers are the planner's");
        of_samples.iter_mut().zip(&of_echoes).for_each(|(s, e)| *s *= e);
        backward.process(&mut of_samples, &mut padded).expect("the buffers are the planner's");
        samples.iter_mut().zip(&padded).for_each(|(s, echo)| *s += echo * loudness / size as f32);
    }
}

impl VoiceVariation {
    pub fn draw(rng: &mut StdRng) -> VoiceVariation {
        VoiceVariation {
            speed: rng.random_range(0.85f32..1.18),
            room: rng.random_bool(0.4).then(|| Room { seconds: rng.random_range(0.1f32..0.8), direct_db: rng.random_range(-3.0f32..15.0), seed: rng.random() }),
            below_hz: rng.random_bool(0.3).then(|| rng.random_range(1500.0f32..6500.0)),
            above_hz: rng.random_bool(0.2).then(|| rng.random_range(60.0f32..350.0)),
            noise: rng.random_bool(0.6).then(|| (rng.random_range(5.0f32..40.0), rng.random_range(0.0f32..0.95))),
            gain_db: rng.random_range(-18.0f32..9.0),
        }
    }

    /// `length` samples of `clip` that begin near `start`; beyond its end it is silent. `rng` gives the noise.
    pub fn apply(&self, clip: &[f32], start: usize, length: usize, rng: &mut StdRng) -> Vec<f32> {
        let mut samples: Vec<f32> = (0..length)
            .map(|i| {
                let position = start as f32 + i as f32 * self.speed;
                let at = |i: usize| clip.get(i).copied().unwrap_or(0.0);
                let whole = position as usize;
                at(whole) + (at(whole + 1) - at(whole)) * (position - whole as f32)
            })
            .collect();
        if let Some(room) = &self.room {
            room.sound(&mut samples);
        }
        let power = samples.iter().map(|s| s * s).sum::<f32>() / length.max(1) as f32;
        if let Some(cut_hz) = self.below_hz {
            low_pass(&mut samples, cut_hz);
        }
        if let Some(cut_hz) = self.above_hz {
            let mut low = samples.clone();
            low_pass(&mut low, cut_hz);
            samples.iter_mut().zip(low).for_each(|(s, l)| *s -= l);
        }
        if let Some((snr_db, colour)) = self.noise {
            let deviation = (power * 10f32.powf(-snr_db / 10.0)).sqrt();
            let mut state = 0.0;
            let keep = (1.0 - colour * colour).sqrt();
            for sample in &mut samples {
                state = colour * state + keep * normal(rng);
                *sample += state * deviation;
            }
        }
        let gain = 10f32.powf(self.gain_db / 20.0);
        samples.iter_mut().for_each(|s| *s = (*s * gain).clamp(-1.0, 1.0));
        samples
    }
}

/// A voice as another person, room or microphone might have given it: `length` samples of `clip` that begin near `start`, a little
/// faster or slower (and so higher or lower), in a room, with gain, band limits and noise.
pub fn vary_voice(clip: &[f32], start: usize, length: usize, rng: &mut StdRng) -> Vec<f32> {
    VoiceVariation::draw(rng).apply(clip, start, length, rng)
}

/// One pole.
fn low_pass(samples: &mut [f32], cut_hz: f32) {
    let keep = (-std::f32::consts::TAU * cut_hz / crate::clip::SAMPLE_RATE_HZ as f32).exp();
    let mut state = 0.0;
    for sample in samples {
        state = keep * state + (1.0 - keep) * *sample;
        *sample = state;
    }
}

/// Masks bands of mels and stretches of time with the mean, which is 0 (SpecAugment, Park et al. 2019). `[mels, frames]`, row by row.
pub fn mask_spectrogram(values: &mut [f32], mels: usize, frames: usize, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..=2) {
        let height = rng.random_range(1..=(mels / 8).max(1));
        let first = rng.random_range(0..=mels - height);
        values[first * frames..(first + height) * frames].fill(0.0);
    }
    for _ in 0..rng.random_range(0..=2) {
        let width = rng.random_range(1..=(frames / 8).max(1));
        let first = rng.random_range(0..=frames - width);
        for mel in 0..mels {
            values[mel * frames + first..][..width].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::{golden_crop, golden_samples};

    #[test]
    fn crops_keep_their_shape_and_follow_the_seed() {
        let crop = golden_crop(1, 0, 48, 1);
        let mut all = Vec::new();
        for seed in 0..40 {
            let varied = vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed));
            assert_eq!((varied.size, varied.channels, varied.pixels.len()), (48, 1, 48 * 48));
            assert_eq!(varied, vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed)));
            all.push(varied.pixels);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 40, "every seed gives another picture");
    }

    #[test]
    fn a_varied_crop_is_still_the_same_picture() {
        let crop = golden_crop(3, 0, 48, 1);
        let flipped: Vec<u8> = (0..48 * 48).map(|i| crop.pixels[i / 48 * 48 + 47 - i % 48]).collect();
        let correlation = |a: &[u8], b: &[u8]| {
            let mean = |v: &[u8]| v.iter().map(|p| f64::from(*p)).sum::<f64>() / v.len() as f64;
            let (ma, mb) = (mean(a), mean(b));
            let product = |v: &[u8], m: f64, w: &[u8], n: f64| v.iter().zip(w).map(|(a, b)| (f64::from(*a) - m) * (f64::from(*b) - n)).sum::<f64>();
            product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt()
        };
        let other = golden_crop(4, 0, 48, 1).pixels;
        let alike: Vec<f64> = (0..40)
            .map(|seed| {
                let varied = vary_crop(&crop, 48, &mut StdRng::seed_from_u64(seed)).pixels;
                correlation(&varied, &crop.pixels).max(correlation(&varied, &flipped)) - correlation(&varied, &other)
            })
            .collect();
        // A dark camera and light from one side leave little of a picture, and still more than another one has.
        assert!(alike.iter().filter(|c| **c > 0.15).count() >= 36 && alike.iter().sum::<f64>() > 0.4 * 40.0, "{alike:?}");
    }

    #[test]
    fn colour_is_varied_as_grey_is_and_a_clips_crops_are_varied_alike() {
        let grey = golden_crop(5, 0, 48, 1);
        let colour = Crop { size: 48, channels: 3, pixels: grey.pixels.iter().flat_map(|p| [*p; 3]).collect() };
        let plain = |seed| CropVariation { gains: [1.0; 3], noise: None, gamma: None, light: None, ..CropVariation::draw(&mut StdRng::seed_from_u64(seed)) };
        for seed in 0..20 {
            let apply = |crop: &Crop| plain(seed).apply(crop, 48, &mut StdRng::seed_from_u64(seed));
            let (one, three) = (apply(&grey), apply(&colour));
            assert_eq!(three.pixels, one.pixels.iter().flat_map(|p| [*p; 3]).collect::<Vec<_>>());
            let tinted = vary_crop(&colour, 48, &mut StdRng::seed_from_u64(seed));
            assert_eq!((tinted.size, tinted.channels, tinted.pixels.len()), (48, 3, 48 * 48 * 3));
            // Two pictures that differ by a constant differ by a constant afterwards: flips and shifts were the same.
            let lighter = Crop { pixels: grey.pixels.iter().map(|p| p / 2 + 20).collect(), ..grey.clone() };
            let dark = Crop { pixels: grey.pixels.iter().map(|p| p / 2).collect(), ..grey.clone() };
            let mild = CropVariation { contrast: 1.0, brightness: 30.0, erased: None, ..plain(seed) };
            let (lighter, dark) = (mild.apply(&lighter, 48, &mut StdRng::seed_from_u64(1)), mild.apply(&dark, 48, &mut StdRng::seed_from_u64(2)));
            assert!(lighter.pixels.iter().zip(&dark.pixels).all(|(l, d)| (19..=21).contains(&(i32::from(*l) - i32::from(*d)))), "seed {seed}");
        }
    }

    #[test]
    fn voices_keep_their_length_and_range() {
        let clip = golden_samples(1, 40_000);
        for seed in 0..40 {
            let varied = vary_voice(&clip, 30_000, 16_000, &mut StdRng::seed_from_u64(seed));
            assert_eq!(varied.len(), 16_000);
            assert!(varied.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        }
    }

    #[test]
    fn a_room_adds_echoes_that_die_away_and_takes_nothing() {
        let mut samples = vec![0.0f32; 16_000];
        samples[100] = 0.5;
        Room { seconds: 0.4, direct_db: 6.0, seed: 3 }.sound(&mut samples);
        assert!((samples[100] - 0.5).abs() < 1e-5 && samples[..100].iter().all(|s| s.abs() < 1e-5), "{}", samples[100]);
        let energy = |span: std::ops::Range<usize>| samples[span].iter().map(|s| f64::from(s * s)).sum::<f64>();
        let all = energy(101..16_000);
        assert!((all / 0.25 - 10f64.powf(-0.6)).abs() < 1e-3, "{all}");
        assert!(energy(150..1_700) > 10.0 * energy(1_700..3_300) && energy(7_000..16_000) < 1e-6 * all);
    }

    #[test]
    fn masks_only_clear() {
        let mut masked = 0;
        for seed in 0..20 {
            let mut values = vec![1.0f32; 64 * 101];
            mask_spectrogram(&mut values, 64, 101, &mut StdRng::seed_from_u64(seed));
            assert!(values.iter().all(|v| *v == 0.0 || *v == 1.0));
            masked += values.iter().filter(|v| **v == 0.0).count();
        }
        assert!((1..64 * 101 * 10).contains(&masked), "{masked}");
    }
}
