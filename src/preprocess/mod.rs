//! From a clip's raw evidence to the encoders' inputs, by the manifest alone. Shared by daemon and trainer: there is no second copy.

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
