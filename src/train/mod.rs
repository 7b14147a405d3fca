//! The trainer.

pub mod import;
pub mod onnx;
