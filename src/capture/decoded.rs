//! Decoded media and the interface of their sinks, shared by decoders and deliveries.

use serde::{Deserialize, Serialize};

use crate::clip::Picture;

/// The kind of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Video,
    Audio,
}

/// A decoded picture: I420, square pixels, upright.
#[derive(Debug)]
pub(super) struct DecodedPicture {
    /// Nanoseconds since the start of the recording or of the pipeline; `None`: the stream has no
    /// stamp for it.
    pub running_nanos: Option<i64>,
    pub duration_nanos: Option<i64>,
    pub picture: Picture,
}

/// Decoded sound: mono samples at 16 kHz.
#[derive(Debug)]
pub(super) struct DecodedSound {
    /// Nanoseconds of the first sample, as in [`DecodedPicture::running_nanos`].
    pub running_nanos: Option<i64>,
    pub samples: Vec<f32>,
}

/// The error of a sink whose receiver is gone, or which has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Receives the decoded media of one track, on a decoder's thread. A call blocks for backpressure.
pub(super) trait Sink<T>: Send + 'static {
    fn deliver(&mut self, item: T) -> Result<(), Closed>;

    /// Sends items that are held back, at the end of the track.
    fn flush(&mut self) {}

    /// Closes the receiver's end of the stream.
    fn close(&mut self);
}
