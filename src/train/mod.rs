//! The trainer.

pub mod augment;
pub mod calibrate;
pub mod data;
pub mod finetune;
pub mod fit;
pub mod fusion;
pub mod net;
pub mod recipe;
pub mod samples;
