//! WAV: RIFF, RF64, BW64 and Wave64 with PCM, floats, A-law, mu-law and ADPCM.
//!
//! GStreamer 1.22 stamps coded sound in WAV by its blocks, and refuses pad bytes, placeholder
//! lengths and channels without a layout. Here every stamp follows from the count of samples.
//! Codings that are not listed above are left to GStreamer.

mod adpcm;
mod chunks;
mod coding;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::bytes::nanos;
use super::{ContainerTrack, Tables, TrackKind};
use crate::capture::error::{CaptureError, missing_base_plugins};
use chunks::Layout;

/// Number of sample frames in one buffer of uncoded sound.
const FRAMES: u64 = 1024;

/// An open WAV file with its parsed header.
#[derive(Debug)]
pub(in crate::capture) struct Wave {
    file: BufReader<File>,
    layout: Layout,
}

impl Wave {
    /// Reads the header of the regular file at `path`. `None`: it is not a WAV file, or its coding
    /// is left to GStreamer.
    pub fn open(path: &Path) -> Option<Wave> {
        let metadata = std::fs::metadata(path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).ok()?);
        let layout = chunks::read(&mut file, metadata.len())?;
        Some(Wave { file, layout })
    }

    /// A note for the log if the played length differs from the header; otherwise `None`.
    fn remark(&self) -> Option<String> {
        let seconds = |frames: u64| frames as f64 / f64::from(self.layout.rate_hz);
        let stated = self.layout.stated_frames?;
        Some(format!(
            "its header states {:.2} s of sound; {:.2} s are present and played",
            seconds(stated),
            seconds(self.layout.frames)
        ))
    }

    /// The tables of the file: one sound track.
    pub fn tables(&self) -> Tables {
        let frames = i64::try_from(self.layout.frames).unwrap_or(i64::MAX);
        Tables {
            tracks: vec![ContainerTrack {
                kind: TrackKind::Audio,
                number: 1,
                codec: self.layout.coding.name().into(),
                start_nanos: 0,
                end_nanos: Some(nanos(frames, self.layout.rate_hz)),
                samples: Some(self.layout.frames),
                default: true,
                still: false,
                edits: None,
            }],
            is_truncated: Some(self.layout.missing),
            remark: self.remark(),
            ..Tables::default()
        }
    }

    /// Adds an `appsrc` with the sound to `pipeline`, linked to a `decodebin` that exposes it as
    /// one raw pad. Returns the `decodebin`.
    ///
    /// # Errors
    /// [`CaptureError::Unsupported`] where GStreamer's base plugins are not installed.
    pub fn feed(self, pipeline: &gst::Pipeline) -> Result<gst::Element, CaptureError> {
        let decoder = gst::ElementFactory::make("decodebin")
            .build()
            .map_err(|_| missing_base_plugins())?;
        let source = gst_app::AppSrc::builder()
            .caps(&self.layout.caps())
            .format(gst::Format::Time)
            .build();
        let Wave { mut file, layout } = self;
        let mut next = 0u64;
        let need_data = move |source: &gst_app::AppSrc, _: u32| {
            match buffer(&mut file, &layout, &mut next) {
                // Fails while the pipeline is being stopped.
                Some(buffer) => drop(source.push_buffer(buffer)),
                None => drop(source.end_of_stream()),
            }
        };
        source.set_callbacks(
            gst_app::AppSrcCallbacks::builder()
                .need_data(need_data)
                .build(),
        );
        let elements = [source.upcast_ref::<gst::Element>(), &decoder];
        pipeline
            .add_many(elements)
            .and_then(|()| gst::Element::link_many(elements))
            .map_err(|_| missing_base_plugins())?;
        Ok(decoder)
    }
}

/// Reads the next buffer of sound, stamped by the count of sample frames. `next`: index of its
/// first frame, which is advanced. `None` at the end of the sound.
fn buffer(file: &mut (impl Read + Seek), layout: &Layout, next: &mut u64) -> Option<gst::Buffer> {
    let left = layout.frames.checked_sub(*next).filter(|left| *left > 0)?;
    let each = layout
        .coding
        .frames_per_block(layout.block_bytes, layout.channels)?;
    let blocks = if each == 1 { FRAMES } else { 1 };
    let at = layout.start + *next / each * layout.block_bytes as u64;
    if file.stream_position().ok()? != at {
        file.seek(SeekFrom::Start(at)).ok()?;
    }
    let size = (blocks * layout.block_bytes as u64).min(layout.end.saturating_sub(at));
    let mut coded = Vec::new();
    file.take(size).read_to_end(&mut coded).ok()?;
    let (mut samples, width) = layout
        .coding
        .decode(coded, layout.block_bytes, layout.channels);
    let frame_bytes = width * layout.channels;
    let frames = ((samples.len() / frame_bytes) as u64).min(left);
    if frames == 0 {
        return None;
    }
    samples.truncate(frames as usize * frame_bytes);
    let time = |frame: u64| {
        let nanos = nanos(i64::try_from(frame).unwrap_or(i64::MAX), layout.rate_hz);
        gst::ClockTime::from_nseconds(nanos as u64)
    };
    let mut buffer = gst::Buffer::from_mut_slice(samples);
    let writable = buffer.get_mut().expect("new buffers are not shared");
    writable.set_pts(time(*next));
    writable.set_duration(time(*next + frames) - time(*next));
    *next += frames;
    Some(buffer)
}

#[cfg(test)]
mod tests;
