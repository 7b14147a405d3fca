//! Face detection, tracking and alignment.
//!
//! [`Detector`] detects faces at an interval: [`YuNet`], or MTCNN if configured. [`FaceStage`]
//! tracks each face on every frame with MTCNN's last network, which has the better landmarks on
//! frontal faces. If that network rejects a face (profiles, half covered faces), YuNet runs on a
//! crop. The stage keeps ids through short occlusions and cuts aligned crops. It rates each face as
//! evidence by size, sharpness and pose. Neither uses a thread or a clock. [`tracking`] has the
//! contract of the tracker and its figures.

#[doc = include_str!("tracking.md")]
pub mod tracking {}

mod appearance;
mod associate;
mod boxes;
mod closeup;
mod detection;
mod detector;
mod follower;
mod image;
mod lips;
mod mtcnn;
mod pose;
mod provenance;
mod quality;
mod refine;
mod resize;
mod scene_cut;
mod smooth;
mod stage;
mod track;
mod yunet;

pub use detection::{Detection, DetectorSettings};
pub use detector::Detector;
pub use follower::Follower;
pub use image::RgbImage;
pub use mtcnn::Mtcnn;
pub use stage::{FaceSettings, FaceStage};
pub use yunet::YuNet;
