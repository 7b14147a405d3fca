//! Faces: found, followed, aligned.
//!
//! [`Detector`] finds faces at an interval; [`FaceStage`] follows each on every frame with MTCNN's last network alone, keeps ids through
//! short occlusions, and cuts aligned crops. Neither knows a thread or a clock.

mod appearance;
mod associate;
mod boxes;
mod closeup;
mod detect;
mod image;
mod lips;
mod quality;
mod refine;
mod resize;
mod shot;
mod smooth;
mod stage;
mod track;

pub use detect::{Detection, Detector, DetectorSettings};
pub use image::RgbImage;
pub use refine::Refiner;
pub use stage::{FaceSettings, FaceStage};
