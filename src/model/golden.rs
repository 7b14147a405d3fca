//! The golden cases of a bundle: stored outputs of its graphs for inputs that are generated from a
//! seed. A bundle therefore holds no person's face or voice.
//!
//! The inputs are generated with integer arithmetic and one exact division at the end, so they are
//! bit-identical on every machine. A change here invalidates every existing bundle, because bundles
//! hold the embeddings of these inputs.

use serde::{Deserialize, Serialize};

use crate::clip::Crop;

/// Content of `golden.json`: outputs of the graphs at export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goldens {
    pub cases: Vec<GoldenCase>,
}

/// One generated clip, and the outputs of the graphs for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// Seed of the generated inputs.
    pub seed: u64,
    /// Number of crops: [`golden_crop`] with frames 0 to `face_frames - 1`; 0: no face.
    pub face_frames: usize,
    /// Number of samples of [`golden_samples`]; 0: no voice.
    pub voice_samples: usize,
    /// The transcript, verbatim; `None`: no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Embedding by each encoder, by its name, for the modalities of the case. A `frame` encoder's
    /// embedding is the mean over the crops.
    pub embeddings: std::collections::BTreeMap<String, Vec<f32>>,
    /// Embeddings by the int8 graphs, by the encoder's name; empty if the bundle has none.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub int8: std::collections::BTreeMap<String, Vec<f32>>,
    /// The primary head's logits for `embeddings`, not divided by the temperature.
    pub logits: Vec<f32>,
    /// The output of each further head for `embeddings`, by the head's name, before temperature or
    /// scale; empty if the bundle has none.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub also: std::collections::BTreeMap<String, Vec<f32>>,
}

/// The pseudo-random generator splitmix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// Generators with the same seed and different `stream` give independent numbers.
    fn new(seed: u64, stream: u64) -> Self {
        let mut made = SplitMix(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        made.next();
        made
    }

    /// The next pseudo-random number of 64 bits.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A pseudo-random number in `low..high`, nearly uniform.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + ((self.next() >> 33) as i64) % (high - low)
    }
}

/// Generates a crop of `size` x `size` pixels with interleaved `channels`: smooth light and dark
/// blobs that drift from frame to frame, and a little noise.
pub fn golden_crop(seed: u64, frame: u32, size: usize, channels: usize) -> Crop {
    /// Number of blobs.
    const BLOBS: usize = 7;
    let mut shapes = SplitMix::new(seed, 1);
    // Position x and y, radius (all in 1/1024 of the side) and brightness of each blob.
    let blobs: Vec<[i64; 4]> = (0..BLOBS)
        .map(|_| {
            let (x, y) = (shapes.between(100, 924), shapes.between(100, 924));
            let (drift_x, drift_y) = (shapes.between(-24, 25), shapes.between(-24, 25));
            let frame = i64::from(frame % 32);
            [
                x + drift_x * frame,
                y + drift_y * frame,
                shapes.between(90, 330),
                shapes.between(-110, 111),
            ]
        })
        .collect();
    let tints: Vec<i64> = (0..channels).map(|_| shapes.between(-12, 13)).collect();
    let mut noise = SplitMix::new(seed, 1000 + u64::from(frame));
    let mut pixels = Vec::with_capacity(size * size * channels);
    for row in 0..size as i64 {
        for column in 0..size as i64 {
            let (x, y) = (
                (2 * column + 1) * 512 / size as i64,
                (2 * row + 1) * 512 / size as i64,
            );
            let mut value = 118 * 1024;
            for [bx, by, radius, height] in &blobs {
                let squared = (x - bx) * (x - bx) + (y - by) * (y - by);
                let limit = radius * radius;
                if squared < limit {
                    // The blob's profile (1 - d²/r²)², in 1/1024, at the distance d from its
                    // centre.
                    let near = (limit - squared) * 1024 / limit;
                    value += height * (near * near / 1024);
                }
            }
            for tint in &tints {
                pixels.push((value / 1024 + tint + noise.between(-6, 7)).clamp(0, 255) as u8);
            }
        }
    }
    Crop {
        size,
        channels,
        pixels,
    }
}

/// Generates `n` mono samples at 16 kHz in [-1, 1): a gliding triangle tone with an overtone under
/// an envelope of syllables, and soft noise.
pub fn golden_samples(seed: u64, n: usize) -> Vec<f32> {
    let mut shapes = SplitMix::new(seed, 2);
    let mut noise = SplitMix::new(seed, 3);
    // Phases are 32-bit fractions of a turn. The tone has 100 to 250 Hz at 16 kHz.
    let low = shapes.between(100, 180) * (1 << 32) / 16_000;
    let glide = shapes.between(40, 120);
    let syllable = shapes.between(2400, 4800);
    let (mut phase, mut overtone, mut soft) = (0u32, 0u32, 0i64);
    (0..n as i64)
        .map(|i| {
            let swing = triangle(((i * (1 << 32) / 29_000) & 0xFFFF_FFFF) as u32);
            let step = low + low * glide * (swing + 32_768) / (200 * 65_536);
            phase = phase.wrapping_add(step as u32);
            overtone = overtone.wrapping_add((5 * step) as u32);
            soft += (noise.between(-32_768, 32_768) - soft) / 4;
            let within = i % syllable;
            let envelope = (within.min(syllable - within) * 4 * 1024 / syllable).min(1024);
            let tone = (triangle(phase) * 9 + triangle(overtone) * 4) * envelope / (16 * 1024);
            // 16-bit values are exact in an f32, and so is the division by a power of two.
            (tone / 2 + soft / 24).clamp(-32_768, 32_767) as f32 / 32_768.0
        })
        .collect()
}

/// A triangle wave with values -32768..=32767 over one turn (2^32) of `phase`.
fn triangle(phase: u32) -> i64 {
    let ramp = i64::from(phase >> 15);
    if ramp < 65_536 {
        ramp - 32_768
    } else {
        98_303 - ramp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hex_sha256;

    /// The goldens of every bundle depend on these hashes of generated inputs.
    #[test]
    fn generated_inputs_do_not_change() {
        let crop = golden_crop(1, 2, 48, 1);
        let rgb = golden_crop(3, 0, 112, 3);
        let samples: Vec<u8> = golden_samples(1, 32_000)
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let found = [
            hex_sha256(&crop.pixels),
            hex_sha256(&rgb.pixels),
            hex_sha256(&samples),
        ]
        .map(|h| h[..16].to_owned());
        assert_eq!(
            found,
            ["221ccc0b801dd954", "6ec46d9aa9a3c346", "90701558a946a91c"]
        );
    }

    #[test]
    fn generated_crops_have_contrast_and_differ_by_frame_and_seed() {
        let (first, second) = (golden_crop(5, 0, 48, 1), golden_crop(5, 1, 48, 1));
        assert_eq!(first.pixels.len(), 48 * 48);
        assert_ne!(first, second);
        assert_ne!(first, golden_crop(6, 0, 48, 1));
        let (low, high) = (
            first.pixels.iter().min().unwrap(),
            first.pixels.iter().max().unwrap(),
        );
        assert!(high - low > 60, "{low}..{high}");
    }

    #[test]
    fn generated_samples_are_in_range_and_have_the_power_of_speech() {
        let samples = golden_samples(9, 32_000);
        assert!(samples.iter().all(|s| s.abs() <= 1.0));
        let power = samples.iter().map(|s| s * s).sum::<f32>() / 32_000.0;
        assert!((0.001..0.2).contains(&power), "{power}");
        assert_eq!(
            samples[..12_000],
            golden_samples(9, 12_000)[..],
            "a shorter case is the start of a longer one"
        );
    }
}
