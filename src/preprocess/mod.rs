//! Converts the data of a clip (crops, sound, words) to the inputs of the encoders, with the
//! settings of the manifest. Daemon and trainer share this code.

mod audio;
mod face;
mod mel_cache;
mod text;

pub use audio::LogMel;
pub use face::{Similarity, align, normalise, normalise_into, similarity, ycc_to_rgb};
pub use mel_cache::MelCache;
pub use text::{TextError, Tokenizer, Tokens};

#[cfg(all(test, feature = "sentence"))]
pub(crate) use text::tests::tiny_tokenizer;
