//! What decodes a recording, behind one interface: tracks in, pictures and sound with their running times out.
//!
//! A [`Decoder`] puts what it decodes into the sinks of its [`TrackSinks`]; [`Recording`](super::Recording)
//! paces and stamps it there. [`gst`] decodes in this process, [`child`] in a process of its own,
//! so that a crash of a decoder ends one recording.

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

/// What a decoder has to say beside its media.
#[derive(Clone)]
pub(super) struct DecoderEvents {
    plugged: Arc<dyn Fn(&str) + Send + Sync>,
    note: Arc<dyn Fn(&str) + Send + Sync>,
    replaced_stamp: Arc<dyn Fn() + Send + Sync>,
}

impl DecoderEvents {
    /// `plugged` gets the name of each decoder element, `note` a line of text that a person should
    /// read; `replaced_stamp` is called for each picture whose stamp was wrong.
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

/// A recording that is opened: each of its tracks has something decoded, which waits.
pub(super) trait Decoder: std::fmt::Debug + Send {
    /// The length that the container states.
    fn duration(&self) -> Option<MediaTime>;

    /// The tracks that no decoder is there for.
    fn undecodable(&self) -> &[Undecodable];

    /// Lets the decoder run. Everything from the first picture and sample on goes to the sinks of
    /// the sinks, on threads of the decoder's own.
    fn start(&mut self);

    /// The first failure since [`Decoder::start`].
    fn failure(&mut self) -> Option<Failure>;

    /// Stops; when this returns no sink is called any more. The first failure, if there was one.
    fn stop(&mut self) -> Option<Failure>;
}

/// A track that no decoder is there for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undecodable {
    pub kind: Kind,
    /// Its media type, as `video/x-dirac`.
    pub media_type: String,
}

/// Why a recording did not come to its end, one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The demuxer or a decoder gave up.
    Stream(String),
    /// The decoder's process is gone.
    Crash(String),
}

impl Failure {
    pub fn text(self) -> String {
        match self {
            Failure::Stream(text) | Failure::Crash(text) => text,
        }
    }
}

/// Opens the recording `path`: finds its tracks, selects those of `choice` and decodes until each has
/// something to show.
pub(super) fn open(
    path: &Path,
    choice: TrackChoice,
    sinks: &Arc<TrackSinks>,
) -> Result<Box<dyn Decoder>, CaptureError> {
    Ok(if process::is_available() {
        Box::new(child::open(path, choice, sinks)?)
    } else {
        let shown = path.display().to_string();
        let counting = sinks.clone();
        let events = DecoderEvents::new(
            |_| {},
            move |text| log_note(&shown, text),
            move || counting.count_replaced_stamp(),
        );
        Box::new(gst::GstDecoder::open(path, choice, sinks, events)?)
    })
}

fn log_note(recording: &str, text: &str) {
    tracing::warn!("{recording}: {text}");
}
