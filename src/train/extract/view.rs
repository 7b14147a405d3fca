//! Augmented views of a clip for SimCLR: the same scene as if recorded by another camera in another
//! room.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use crate::clip::{Clip, ClipVoice, Crop, Face};
use crate::train::augment::{CropVariation, VoiceVariation};

/// The augmentation of all clips of one row: the same variation for all faces, and the same for all
/// sound.
#[derive(Clone, Debug)]
pub struct View {
    /// Seed of the noise.
    seed: u64,
    crop: CropVariation,
    voice: VoiceVariation,
}

impl View {
    /// The augmentation for a row's id and the number of its view. It depends on nothing else, so a
    /// resumed extraction gives the same values.
    pub fn draw(id: &str, number: u32) -> View {
        let hash = Sha256::new()
            .chain_update(id.as_bytes())
            .chain_update([0])
            .chain_update(number.to_le_bytes())
            .finalize();
        let seed = u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"));
        let mut rng = StdRng::seed_from_u64(seed);
        View {
            seed,
            crop: CropVariation::draw(&mut rng),
            voice: VoiceVariation::draw(&mut rng),
        }
    }

    /// A random generator for the noise of a face or a sound that begins at `nanos`.
    fn noise(&self, nanos: i64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (nanos as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The augmented crop. `nanos`: time of the crop, which seeds its noise.
    pub fn of_crop(&self, crop: &Crop, nanos: i64) -> Crop {
        self.crop.apply(crop, crop.size, &mut self.noise(nanos))
    }

    /// The augmented clip. Its faces get new ids from `next_face` on, which is increased.
    pub fn of_clip(&self, clip: &Clip, next_face: &mut u64) -> Clip {
        let faces = clip.faces.iter().map(|face| {
            *next_face += 1;
            let crop = face
                .crop
                .as_ref()
                .map(|crop| Arc::new(self.of_crop(crop, face.time.nanos())));
            Arc::new(Face {
                id: *next_face - 1,
                crop,
                ..(**face).clone()
            })
        });
        let voice = clip
            .voice
            .as_ref()
            .map_err(|absence| *absence)
            .map(|voice| {
                let samples = self
                    .voice
                    .apply(
                        &voice.samples,
                        0,
                        voice.samples.len(),
                        &mut self.noise(clip.span.start.nanos()),
                    )
                    .into();
                ClipVoice {
                    samples,
                    ..voice.clone()
                }
            });
        Clip {
            faces: faces.collect(),
            voice,
            ..clip.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_crop;

    #[test]
    fn the_augmentation_depends_on_id_and_view_number_only() {
        let crop = golden_crop(3, 0, 48, 3);
        let of = |id: &str, number| View::draw(id, number).of_crop(&crop, 40_000_000);
        assert_eq!(of("a", 1), of("a", 1));
        assert_ne!(of("a", 1), of("a", 2));
        assert_ne!(of("a", 1), of("b", 1));
    }
}
