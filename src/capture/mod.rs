//! Capture of video and sound, stamped on one timeline.
//!
//! [`Recording`] plays a file, once or looped, at any pace. [`open_live`] reads cameras,
//! microphones and network streams, and opens them again when they are lost. Both send
//! [`VideoFrame`]s and [`AudioBlock`]s into lanes and report their state to a [`SourceHealth`]. The
//! content of pictures and sound is not analysed here.

mod appended;
mod bare;
mod block_cutter;
mod callback;
mod camera;
mod container;
mod content;
mod decoded;
mod decoder;
mod delivery;
mod devices;
mod downmix;
mod error;
mod health;
mod library_messages;
mod live;
mod loss;
mod microphone;
mod multipart;
mod pipe;
mod pipeline;
mod recording;
mod resample;
mod retry;
mod running_time;
mod sample;
mod sound_branch;
mod source;
mod spec;
mod stall;
mod stamps;
mod track_linker;
mod track_sinks;
mod tracks;
mod truncation;

pub use bare::{bare_decode, has_element};
pub use content::{is_named_as_recording, is_recording};
pub use decoder::{decoder_cpu_nanos, decoder_process, decoder_processes};
pub use devices::{DeviceEntry, DeviceKind, devices};
pub use error::CaptureError;
pub use health::{SourceCounters, SourceGauge, SourceHealth};
pub use live::{LiveCapture, open_live, open_live_with};
pub use recording::{Pace, Played, Recording};
pub use spec::{AudioSpec, UnknownAudio, UnknownVideo, VideoSpec};
pub use tracks::{ChannelSelection, TrackChoice, TrackSelection, UnknownSelection};

use crate::clip::{AudioBlock, VideoFrame};
use crate::lane::LaneSender;

/// The lanes that a source fills. At the end of a track its sender is dropped, which closes the
/// lane.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Lane of video frames; `None`: video is not wanted.
    pub frames: Option<LaneSender<VideoFrame>>,
    /// Lane of audio blocks; `None`: sound is not wanted.
    pub audio: Option<LaneSender<AudioBlock>>,
}
