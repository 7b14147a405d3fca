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
    /// Time of the picture, in nanoseconds since the start of the recording or of the pipeline;
    /// `None` if the stream has no stamp for it.
    pub running_nanos: Option<i64>,
    /// Display time in nanoseconds; `None` if it is unknown.
    pub duration_nanos: Option<i64>,
    pub picture: Picture,
}

/// Decoded sound: mono samples at 16 kHz.
#[derive(Debug)]
pub(super) struct DecodedSound {
    /// Time of the first sample, in nanoseconds as in [`DecodedPicture::running_nanos`].
    pub running_nanos: Option<i64>,
    pub samples: Vec<f32>,
}

/// Error of a [`Sink`]: its receiver is gone, or capture is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Receives the decoded media of one track, on a decoder's thread. A call blocks for backpressure.
pub(super) trait Sink<T>: Send + 'static {
    /// Sends one item on; an error ends the track.
    fn deliver(&mut self, item: T) -> Result<(), Closed>;

    /// Sends the items that are held back. Called at the end of the track.
    fn flush(&mut self) {}

    /// Ends the stream for the receiver.
    fn close(&mut self);
}
