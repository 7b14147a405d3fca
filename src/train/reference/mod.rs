//! The reference's preprocessing of a clip, defects included (`src/train/method.md` a.3, a.4).
//!
//! It documents how the reference's published features were made, and serves for comparison with
//! them. The daemon and `extract` do not use it: they track faces by [`crate::face`] and prepare
//! pixels by [`crate::preprocess`].

pub mod crop_segments;
pub mod frames;
pub mod pixels;
