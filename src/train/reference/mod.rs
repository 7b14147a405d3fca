//! The reference's preprocessing of a clip, quirks included (`src/train/method.md` a.3, a.4).
//!
//! The daemon and `extract` do not use these rules: they follow faces by [`crate::face`] and
//! prepare pixels by [`crate::preprocess`]. They document how the reference's released features
//! were made, and serve for comparison with them.

pub mod crop_segments;
pub mod frames;
pub mod pixels;
