//! Faces: found, followed, aligned.

mod boxes;
mod detect;
mod image;
mod refine;

pub use detect::{Detection, Detector, DetectorSettings};
pub use image::RgbImage;
pub use refine::Refiner;
