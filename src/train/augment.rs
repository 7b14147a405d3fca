//! Augmentation of pictures and voices, drawn from a seeded generator.

mod picture;
mod spectrum;
mod voice;

use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[cfg(feature = "train")]
pub(crate) use picture::bilinear;
pub use picture::{CropVariation, vary_crop, vary_picture};
pub use spectrum::vary_spectrogram;
pub use voice::{VoiceVariation, mask_spectrogram, vary_voice};

/// A table of 2^20 normal deviates. Noise is read from it at a random offset, which takes a tenth
/// of the time of drawing deviates.
static NOISE: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(1);
    (0..1 << 20).map(|_| normal(&mut rng)).collect()
});

/// Endless normal noise with mean 0 and standard deviation 1, read from the table `NOISE` at a
/// random offset.
pub(crate) fn noise(rng: &mut StdRng) -> impl Iterator<Item = f32> {
    let begin = rng.random_range(0..NOISE.len());
    NOISE[begin..].iter().chain(NOISE.iter().cycle()).copied()
}

/// A normal deviate with mean 0 and standard deviation 1, by the Box-Muller transform.
pub(crate) fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(1e-7..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
