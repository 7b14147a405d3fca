//! The trainer: what turns labelled pictures and voices into a bundle.
//!
//! A `recipe` says what, `data` reads it, `augment` varies it, `samples` makes batches of it, the `net`s learn in `fit`'s loop (encoders in
//! `finetune`, the head in `fusion`), `calibrate` says how far to trust them, `export` writes the bundle with its `card`, and `evaluate`
//! measures the bundle as the daemon runs it. Preprocessing is the daemon's own ([`crate::preprocess`]): there is no second copy.

pub mod augment;
pub mod calibrate;
pub mod card;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod finetune;
pub mod fit;
pub mod fusion;
pub mod import;
pub mod net;
pub mod onnx;
pub mod recipe;
pub mod samples;
