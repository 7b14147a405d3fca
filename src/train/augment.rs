//! Variations of pictures and voices, drawn from a seeded generator.

mod picture;
mod voice;

use rand::Rng;
use rand::rngs::StdRng;

#[cfg(feature = "train")]
pub(crate) use picture::bilinear;
pub use picture::{CropVariation, vary_crop};
pub use voice::{VoiceVariation, mask_spectrogram, vary_voice};

/// A normal deviate (Box and Muller).
pub(crate) fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random_range(1e-7..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
