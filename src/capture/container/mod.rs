//! The tracks of a file as its container describes them: the reference for the output of the
//! decoders.
//!
//! Each reader takes a file of its format and returns [`Tables`]. A file of another format, or with
//! damaged tables, has none. No reader trusts a length that the file states: no allocation exceeds
//! the size of the file.

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

/// Largest tolerated difference between the actual end of a track and the end that the container
/// states, in nanoseconds.
const TOLERANCE_NANOS: i64 = 500_000_000;

/// The tracks of one file as its container states them, and corrections for their playback.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tables {
    pub tracks: Vec<ContainerTrack>,
    /// Presentation time at which the recording's timeline starts, in nanoseconds.
    pub origin_nanos: i64,
    /// Whether the file ends before the end that its container states; `None` if this cannot be
    /// detected for the format.
    pub is_truncated: Option<bool>,
    /// Replacements for bytes of the file, so that the demuxer plays all media.
    pub patches: Vec<Patch>,
    /// The reason why the file cannot be presented as its tables require, if there is one.
    pub unsupported: Option<String>,
    /// Direction for GStreamer's `videoflip` that turns the picture upright; `None` if the demuxer
    /// reports it, or if the picture is upright.
    pub direction: Option<&'static str>,
    /// A note on the playback for the log, one line.
    pub remark: Option<String>,
}

/// The kind of a track in a container.
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
    /// Number of the track in its container; GStreamer's stream identifiers end in it.
    pub number: u64,
    /// The container's name of the codec: a four-character code or Matroska's codec identifier.
    pub codec: String,
    /// Start of the first sample (a picture, or a packet of sound).
    pub start_nanos: i64,
    /// End of the last sample; `None` where the container does not state it.
    pub end_nanos: Option<i64>,
    /// Number of coded samples: pictures, or packets of sound. `None` if it is unknown.
    pub samples: Option<u64>,
    /// Whether the container flags the track as a default track.
    pub default: bool,
    /// Whether the track is a single picture, such as a cover or a thumbnail.
    pub still: bool,
    /// The edit list, if it is hidden from the demuxer and applied to the decoded media.
    pub edits: Option<Edits>,
}

impl Tables {
    /// Reads the tables of the regular file at `path`; `None` if they cannot be read.
    pub fn read(path: &Path) -> Option<Tables> {
        let metadata = std::fs::metadata(path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        if let Some(wave) = Wave::open(path) {
            return Some(wave.tables());
        }
        let mut file = BufReader::with_capacity(4096, File::open(path).ok()?);
        Tables::read_from(&mut file, metadata.len())
    }

    /// Reads the tables of media of `length` bytes; `None` for an unknown format or damaged tables.
    fn read_from(file: &mut (impl BufRead + Seek), length: u64) -> Option<Tables> {
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

    /// The track that this GStreamer stream identifier names. The identifier ends in `/NUMBER` or
    /// `/NUMBER:UID`.
    pub fn named(&self, stream_id: &str) -> Option<&ContainerTrack> {
        let number = stream_id.rsplit('/').next()?.split(':').next()?;
        let number: u64 = number.parse().ok()?;
        self.tracks.iter().find(|track| track.number == number)
    }

    /// Installs the patches on `source` (a file source, or a `uridecodebin`) and the edit lists on
    /// the sinks of `pipeline`. The sinks then receive presentation times. Must be called before
    /// sinks are added. `on_dropped` is called for each buffer that is decoded and not presented.
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
