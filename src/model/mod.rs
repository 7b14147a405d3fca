//! The bundle: the only thing that passes from trainer to daemon.

pub mod golden;
pub mod manifest;
