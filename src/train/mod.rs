//! The trainer.

pub mod augment;
pub mod calibrate;
pub mod data;
pub mod finetune;
pub mod fit;
pub mod fusion;
pub mod import;
pub mod net;
pub mod onnx;
pub mod recipe;
pub mod samples;
