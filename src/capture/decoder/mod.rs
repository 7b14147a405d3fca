//! Decoding of recordings behind one interface: pictures and sound with their running times.
//!
//! A [`Decoder`] delivers to its [`TrackSinks`]; [`Recording`](super::Recording) paces and stamps
//! the items there. [`gst`] decodes in this process, [`child`] in a separate process, so that a
//! crash of a decoder ends only one recording.

mod child;
mod cost;
mod exposed;
mod gst;
mod memory;
mod process;
mod stamp_jumps;
mod wire;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cost::{decoder_cpu_nanos, decoder_processes};
pub use process::decoder_process;

use super::decoded::Kind;
use super::error::CaptureError;
use super::track_sinks::TrackSinks;
use super::tracks::TrackChoice;
use crate::time::MediaTime;

/// Callbacks for the messages of a decoder.
#[derive(Clone)]
pub(super) struct DecoderEvents {
    plugged: Arc<dyn Fn(&str) + Send + Sync>,
    note: Arc<dyn Fn(&str) + Send + Sync>,
    replaced_stamp: Arc<dyn Fn() + Send + Sync>,
}

impl DecoderEvents {
    /// `plugged` receives the name of each decoder element, `note` a line of text for the log;
    /// `replaced_stamp` is called for each picture with a corrected stamp.
    pub fn new(
        plugged: impl Fn(&str) + Send + Sync + 'static,
        note: impl Fn(&str) + Send + Sync + 'static,
        replaced_stamp: impl Fn() + Send + Sync + 'static,
    ) -> DecoderEvents {
        DecoderEvents {
            plugged: Arc::new(plugged),
            note: Arc::new(note),
            replaced_stamp: Arc::new(replaced_stamp),
        }
    }

    fn plugged(&self, element: &str) {
        (self.plugged)(element);
    }

    fn note(&self, text: &str) {
        (self.note)(text);
    }

    fn replaced_stamp(&self) {
        (self.replaced_stamp)();
    }
}

impl std::fmt::Debug for DecoderEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DecoderEvents")
    }
}

/// The decoder of an open recording. The first item of each track is already decoded.
pub(super) trait Decoder: std::fmt::Debug + Send {
    /// The duration that the container states; `None` if it states none.
    fn duration(&self) -> Option<MediaTime>;

    /// The tracks for which no decoder is installed.
    fn undecodable(&self) -> &[Undecodable];

    /// Starts delivery. All items, from the first one on, go to the track sinks on the decoder's
    /// own threads.
    fn start(&mut self);

    /// The first failure since [`Decoder::start`]; `None` if there was none.
    fn failure(&mut self) -> Option<Failure>;

    /// Stops decoding. No sink is called after this returns. Returns the first failure; `None` if
    /// there was none.
    fn stop(&mut self) -> Option<Failure>;
}

/// A track for which no decoder is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undecodable {
    pub kind: Kind,
    /// Media type, such as `video/x-dirac`.
    pub media_type: String,
}

/// The reason why decoding ended early, as one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The demuxer or a decoder failed.
    Stream(String),
    /// The decoder process ended.
    Crash(String),
}

impl Failure {
    /// The reason as text.
    pub fn text(self) -> String {
        match self {
            Failure::Stream(text) | Failure::Crash(text) => text,
        }
    }
}

/// Opens the recording `path`: finds its tracks, selects those of `choice` and decodes until each
/// has its first item.
pub(super) fn open(
    path: &Path,
    choice: TrackChoice,
    sinks: &Arc<TrackSinks>,
) -> Result<Box<dyn Decoder>, CaptureError> {
    Ok(if process::is_available() {
        Box::new(child::open(path, choice, sinks)?)
    } else {
        let name = path.display().to_string();
        let counting = sinks.clone();
        let events = DecoderEvents::new(
            |_| {},
            move |text| log_note(&name, text),
            move || counting.count_replaced_stamp(),
        );
        Box::new(gst::GstDecoder::open(path, choice, sinks, events)?)
    })
}

/// Logs a note of a decoder as a warning, with the name of the recording.
fn log_note(recording: &str, text: &str) {
    tracing::warn!("{recording}: {text}");
}
