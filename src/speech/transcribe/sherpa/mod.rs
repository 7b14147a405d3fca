//! `[speech] transcriber = "sherpa:<folder>"`: streaming models for sherpa-onnx.
//!
//! [`Folder`](folder::Folder) recognises what lies in the folder, the engine has the library listen, [`words`] makes words of its tokens.

#[cfg(feature = "sherpa")]
mod engine;
mod folder;
mod header;
mod words;

#[cfg(feature = "sherpa")]
pub use engine::Sherpa;

#[cfg(test)]
mod tests;
