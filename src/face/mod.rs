//! Faces: found, followed, aligned.
//!
//! [`Detector`] finds faces at an interval: [`YuNet`], or MTCNN where that is configured.
//! [`FaceStage`] follows each face on every frame with MTCNN's last network, whose landmarks are
//! the better ones on faces towards the camera, and with YuNet on a crop where that network
//! recognises none: profiles, faces that are half covered. It keeps ids through short occlusions,
//! cuts aligned crops, and judges by size, sharpness and pose how good each face is as evidence.
//! Neither knows a thread or a clock.

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
mod shot;
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
