//! `[speech] transcriber = "sherpa:<folder>"`: streaming models for sherpa-onnx.
//!
//! [`Folder`](folder::Folder) detects the model in the folder, the engine drives the library, and
//! [`tokens`] joins its tokens to words.

#[cfg(feature = "sherpa")]
mod engine;
mod folder;
mod header;
mod model;
mod model_file;
mod tokens;
mod vocabulary;

#[cfg(feature = "sherpa")]
pub use engine::Sherpa;

#[cfg(test)]
mod tests;
