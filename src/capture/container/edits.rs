//! Edit lists (ISO/IEC 14496-12, 8.6.6), applied to the output of the decoders.
//!
//! GStreamer 1.22 applies the usual list itself: one edit that begins with the media, perhaps after
//! a short delay. With other lists it loses sound or pictures. Those lists are hidden from the
//! demuxer; it then stamps samples with their media time, and [`Edits`] maps that to presentation
//! time.

use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::Tables;
use crate::clip::SAMPLE_RATE_HZ;

/// Largest distance between a stamp and the bound of an edit, in nanoseconds, at which the stamp
/// counts as on the bound.
const ROUNDING_NANOS: i64 = 500_000;

/// One edit: a part of the media and the time of its presentation, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Edit {
    /// Start of the presented part, in media time.
    pub media_start: i64,
    /// End of the presented part, in media time.
    pub media_end: i64,
    /// Time at which the presented part starts, in presentation time.
    pub presented: i64,
}

/// The edits of one track, ordered by media time and by presentation time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Edits(pub Vec<Edit>);

impl Edits {
    /// Presentation time of a picture at media time `media`, both in nanoseconds. `None`: the
    /// picture is not presented.
    fn place(&self, media: i64) -> Option<i64> {
        let at = media + ROUNDING_NANOS;
        let edit = (self.0.iter()).find(|edit| edit.media_start <= at && at < edit.media_end)?;
        Some(edit.presented + (media - edit.media_start).max(0))
    }

    /// The presented samples of a block of `count` samples at 16 kHz that begins at media time
    /// `media`, in nanoseconds. Returns the presentation time of the first one, and ranges of
    /// sample indices. The ranges follow each other in the presentation without a gap. `None`: no
    /// sample is presented.
    fn cut(&self, media: i64, count: usize) -> Option<(i64, Vec<std::ops::Range<usize>>)> {
        let index = |nanos: i64| {
            let samples = i128::from(nanos - media) * i128::from(SAMPLE_RATE_HZ);
            (samples + 500_000_000)
                .div_euclid(1_000_000_000)
                .clamp(0, count as i128) as usize
        };
        let (mut first, mut next, mut ranges) = (None, 0, Vec::new());
        for edit in &self.0 {
            let range = index(edit.media_start)..index(edit.media_end);
            // A part after a pause in the presentation cannot be in the same block.
            if range.is_empty() || first.is_some() && edit.presented != next {
                continue;
            }
            let at = media + nanos(range.start);
            first.get_or_insert(edit.presented + (at - edit.media_start).max(0));
            next = edit.presented + edit.media_end - edit.media_start;
            ranges.push(range);
        }
        first.map(|first| (first, ranges))
    }

    /// End of the presentation, in nanoseconds of presentation time.
    pub fn end(&self) -> i64 {
        let end = |edit: &Edit| {
            edit.presented
                .saturating_add(edit.media_end - edit.media_start)
        };
        self.0.iter().map(end).max().unwrap_or(0)
    }

    /// Start of the presentation, in nanoseconds of presentation time.
    pub fn start(&self) -> i64 {
        self.0.iter().map(|edit| edit.presented).min().unwrap_or(0)
    }
}

/// Duration of `samples` samples at 16 kHz, in nanoseconds.
fn nanos(samples: usize) -> i64 {
    samples as i64 * (1_000_000_000 / i64::from(SAMPLE_RATE_HZ))
}

/// Applies the edit lists of `tables` to the buffers at the `appsink`s of `pipeline`: pictures, or
/// sound at 16 kHz in 32-bit floats. Must be called before sinks are added. `on_dropped` is called
/// for each dropped buffer, so that a long part that is not presented does not look like a stall.
pub(in crate::capture) fn apply(
    pipeline: &gst::Pipeline,
    tables: &Tables,
    on_dropped: impl Fn() + Send + Sync + 'static,
) {
    if tables.tracks.iter().all(|track| track.edits.is_none()) {
        return;
    }
    let (tables, on_dropped) = (Arc::new(tables.clone()), Arc::new(on_dropped));
    pipeline.connect_element_added(move |_, element| {
        let is_sink = element.is::<gst_app::AppSink>();
        if let Some(sink) = element.static_pad("sink").filter(|_| is_sink) {
            apply_at(&sink, tables.clone(), on_dropped.clone());
        }
    });
}

/// Applies the edit list of the stream that arrives at the pad `sink`.
fn apply_at(
    sink: &gst::Pad,
    tables: Arc<Tables>,
    on_dropped: Arc<impl Fn() + Send + Sync + 'static>,
) {
    let edits = Mutex::new(None);
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    sink.add_probe(types, move |pad, info| {
        let mut edits = edits.lock().expect("edits lock");
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data {
            if let gst::EventView::StreamStart(start) = event.view() {
                *edits = tables
                    .named(start.stream_id())
                    .and_then(|track| track.edits.clone());
            }
            if let Some(open) = edits.as_ref().and_then(|_| without_end(event)) {
                *event = open;
            }
        }
        if let (Some(edits), Some(gst::PadProbeData::Buffer(buffer))) = (&*edits, &mut info.data) {
            let caps = pad.current_caps();
            let structure = caps.as_ref().and_then(|caps| caps.structure(0));
            let channels = structure
                .filter(|structure| structure.name() == "audio/x-raw")
                .map(|structure| structure.get::<i32>("channels").unwrap_or(1).max(1) as usize);
            match present(edits, buffer, channels) {
                Some(presented) => *buffer = presented,
                None => {
                    on_dropped();
                    return gst::PadProbeReturn::Handled;
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// The segment event without a stop time, because presentation times may lie after the end of the
/// media. `None` for other events.
fn without_end(event: &gst::Event) -> Option<gst::Event> {
    let gst::EventView::Segment(segment) = event.view() else {
        return None;
    };
    let mut open = segment.segment().downcast_ref::<gst::ClockTime>()?.clone();
    open.set_stop(gst::ClockTime::NONE);
    Some(
        gst::event::Segment::builder(&open)
            .seqnum(event.seqnum())
            .build(),
    )
}

/// The presented part of `buffer`, with its presentation time as stamp; `None` if no part is
/// presented. `channels`: number of channels of sound, `None` for a picture.
fn present(edits: &Edits, buffer: &gst::Buffer, channels: Option<usize>) -> Option<gst::Buffer> {
    // A missing stamp is estimated at the delivery.
    let Some(pts) = buffer.pts() else {
        return Some(buffer.clone());
    };
    let media = pts.nseconds() as i64;
    let Some(channels) = channels else {
        let time = edits.place(media)?;
        let mut buffer = buffer.clone();
        buffer
            .make_mut()
            .set_pts(gst::ClockTime::from_nseconds(time as u64));
        return Some(buffer);
    };
    let size = channels * size_of::<f32>();
    let (time, ranges) = edits.cut(media, buffer.size() / size)?;
    let mapped = buffer.map_readable().ok()?;
    let bytes: Vec<u8> = (ranges.into_iter())
        .flat_map(|range| &mapped[range.start * size..range.end * size])
        .copied()
        .collect();
    let duration = nanos(bytes.len() / size);
    let mut cut = gst::Buffer::from_mut_slice(bytes);
    let writable = cut.get_mut().expect("new buffers are not shared");
    writable.set_pts(gst::ClockTime::from_nseconds(time as u64));
    writable.set_duration(gst::ClockTime::from_nseconds(duration as u64));
    Some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn edits(list: &[(i64, i64, i64)]) -> Edits {
        let edit = |(media_start, media_end, presented): &(i64, i64, i64)| Edit {
            media_start: media_start * SECOND,
            media_end: media_end * SECOND,
            presented: presented * SECOND,
        };
        Edits(list.iter().map(edit).collect())
    }

    #[test]
    fn pictures_outside_every_edit_are_dropped() {
        let edits = edits(&[(1, 2, 20), (4, 6, 21)]);
        let place = |millis: i64| edits.place(millis * 1_000_000).map(|at| at / 1_000_000);
        assert_eq!(place(999), None);
        assert_eq!(place(1000), Some(20_000));
        assert_eq!(place(1960), Some(20_960));
        assert_eq!(place(2000), None);
        assert_eq!(place(4040), Some(21_040));
        assert_eq!(place(6000), None);
        assert_eq!((edits.start(), edits.end()), (20 * SECOND, 23 * SECOND));
    }

    /// For every packing of sound, each presented sample is delivered once, at its time.
    #[test]
    fn sound_is_cut_at_exact_samples() {
        let edits = edits(&[(1, 2, 0), (4, 6, 1)]);
        for size in [7, 160, 1024, 16_000, 100_000] {
            let (mut next, mut presented) = (0, Vec::new());
            while next < 8 * 16_000 {
                if let Some((time, ranges)) = edits.cut(nanos(next), size) {
                    assert_eq!(time, nanos(presented.len()), "in blocks of {size}");
                    presented.extend(ranges.into_iter().flatten().map(|index| next + index));
                }
                next += size;
            }
            let wanted: Vec<usize> = (16_000..32_000).chain(64_000..96_000).collect();
            assert!(
                presented == wanted,
                "in blocks of {size}: {} samples",
                presented.len()
            );
        }
    }
}
