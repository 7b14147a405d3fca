//! The reference's preprocessing of a clip, quirks included (`src/train/method.md` a.3, a.4).
//!
//! The daemon and `extract` do not go this way: they follow faces by [`crate::face`] and prepare
//! pixels by [`crate::preprocess`]. These are the reference's rules as numbers, to say where its
//! released features come from, and to compare with them.

pub mod crop_segments;
pub mod frames;
pub mod pixels;
