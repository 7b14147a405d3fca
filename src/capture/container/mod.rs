//! What a container's own tables say of its tracks: the yardstick for what the decoders delivered.
//!
//! Each reader takes a file of its format and returns [`Tables`]; a file of another format, or one
//! that is damaged where the tables are, has none. No reader trusts a length that the file states:
//! nothing is allocated beyond what the file holds.

mod avi;
mod bytes;
mod completeness;
mod edits;
mod matroska;
mod mp4;
mod patch;
mod still;
mod wav;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;

pub(super) use completeness::Delivered;
use edits::{Edit, Edits};
use patch::Patch;
pub(super) use still::photo;
pub(super) use wav::Wave;

/// Differences of less than this count as none: half of a second.
const TOLERANCE_NANOS: i64 = 500_000_000;

/// The tracks of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tables {
    pub tracks: Vec<ContainerTrack>,
    /// Time in the file of the start of the recording's timeline.
    pub origin_nanos: i64,
    /// Does the file end before its container does? `None`: this reader does not tell.
    pub breaks_off: Option<bool>,
    /// Bytes that the demuxer reads differently from how they stand in the file.
    pub patches: Vec<Patch>,
    /// Why the file cannot be played as its tables ask.
    pub unsupported: Option<String>,
    /// How `videoflip` turns the picture upright, where the demuxer does not say so itself.
    pub direction: Option<&'static str>,
    /// What a person should know of how it is played, one line.
    pub remark: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrackKind {
    Video,
    Audio,
    /// Subtitles, chapters, time codes, data.
    Other,
}

/// One track as its container describes it. Times are nanoseconds of the presentation, edit lists
/// applied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContainerTrack {
    pub kind: TrackKind,
    /// Number by which the container names it; GStreamer's stream identifiers end in it.
    pub number: u64,
    /// The container's name of the codec: a four-character code or Matroska's codec identifier.
    pub codec: String,
    pub start_nanos: i64,
    /// Where the last sample ends; `None` where the container does not say.
    pub end_nanos: Option<i64>,
    /// Coded samples: pictures, or packets of sound.
    pub samples: Option<u64>,
    /// Flagged by the writer to be played by default.
    pub default: bool,
    /// A single still picture: a cover, a thumbnail.
    pub still: bool,
    /// The edit list, where it is applied here and hidden from the demuxer.
    pub edits: Option<Edits>,
}

impl Tables {
    /// The tables of the regular file at `path`; `None` where it has none that can be read.
    pub fn read(path: &Path) -> Option<Tables> {
        let metadata = std::fs::metadata(path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        if let Some(wave) = Wave::open(path) {
            return Some(wave.tables());
        }
        let mut file = BufReader::with_capacity(4096, File::open(path).ok()?);
        Tables::of(&mut file, metadata.len())
    }

    /// The tables of `length` bytes of media.
    fn of(file: &mut (impl BufRead + Seek), length: u64) -> Option<Tables> {
        let mut head = [0u8; 12];
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut head).ok()?;
        if mp4::is_iso(&head) {
            return mp4::read(file, length);
        }
        if matroska::is_matroska(&head) {
            return matroska::read(file, length);
        }
        if avi::is_avi(&head) {
            return avi::read(file, length);
        }
        if still::is_jpeg(&head) {
            return still::read_jpeg(file, length);
        }
        None
    }

    /// The track that GStreamer names so: its stream identifiers end in `/NUMBER` or
    /// `/NUMBER:UID`.
    pub fn named(&self, stream_id: &str) -> Option<&ContainerTrack> {
        let number = stream_id.rsplit('/').next()?.split(':').next()?;
        let number: u64 = number.parse().ok()?;
        self.tracks.iter().find(|track| track.number == number)
    }

    /// Lets what `source` (a file source, or a `uridecodebin`) reads look as the demuxer needs it,
    /// and the sinks of `pipeline` receive what the edit lists present, at presentation times. Call
    /// it before sinks are added. `on_dropped` is called for each buffer that is decoded and not
    /// presented.
    pub fn apply_to(
        &self,
        pipeline: &gst::Pipeline,
        source: &gst::Element,
        on_dropped: impl Fn() + Send + Sync + 'static,
    ) {
        patch::apply(source, &self.patches);
        edits::apply(pipeline, self, on_dropped);
        if let Some(direction) = self.direction {
            pipeline.connect_element_added(move |_, element| {
                let factory = element.factory();
                if factory.is_some_and(|factory| factory.name() == "videoflip") {
                    element.set_property_from_str("video-direction", direction);
                }
            });
        }
    }
}
