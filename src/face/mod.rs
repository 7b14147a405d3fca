//! Face detection, tracking and alignment.
//!
//! [`Detector`] detects the faces of whole pictures at an interval. It is [`YuNet`], or MTCNN if
//! configured. [`FaceStage`] tracks each face on every frame with MTCNN's last network, which has
//! better landmarks on frontal faces than YuNet. If MTCNN's network rejects a face (a profile, a
//! half covered face), YuNet runs on a crop. The stage keeps subject ids through short occlusions,
//! cuts aligned crops, and rates the quality of each face by size, sharpness and pose. Detector and
//! stage use no thread and no clock. [`tracking`] has the required and the measured accuracy of the
//! tracker.

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
