//! The media of one track as its boxes state it: samples, durations and edits.

use super::Atom;
use crate::capture::container::bytes::{array, be32, be64, code, nanos};
use crate::capture::container::{Patch, TrackKind};

/// The samples, durations and edits of a track, before its presentation is computed.
pub(super) struct Media {
    pub kind: TrackKind,
    /// Track number that the header `tkhd` states.
    pub number: u64,
    /// Four-character code of the coding.
    pub codec: String,
    /// Whether the header flags the track as enabled.
    pub enabled: bool,
    /// Ticks per second of the media's time scale.
    pub scale: u32,
    /// Total duration of the samples, in ticks of the media's time scale.
    pub ticks: i64,
    /// Number of samples.
    pub samples: u64,
    /// Composition offset of the first sample, in ticks of the media's time scale.
    pub first_offset: i64,
    /// The shift, in ticks, that GStreamer adds to every stamp so that none is negative.
    pub shift: i64,
    /// The edits: duration in ticks of the movie's time scale (0: to the end), media time in ticks
    /// (-1: an empty edit), and rate as a 16.16 fixed-point number.
    pub edits: Vec<(u64, i64, i32)>,
    /// Byte offset of the box `edts`, which contains the edit list; `None` if there is none.
    pub edits_at: Option<u64>,
    pub duration: StatedDuration,
    /// Default duration of a sample in fragments, in ticks.
    pub fragment_ticks: u32,
    /// Byte offset in the file at which the track's last sample ends; `None` if it is unknown.
    pub data_end: Option<u64>,
}

/// A duration that a header states: its byte offset in the file, its size in bytes and its value.
#[derive(Clone, Copy)]
pub(super) struct StatedDuration {
    offset: u64,
    bytes: usize,
    ticks: u64,
}

impl StatedDuration {
    /// Reads the duration of a header box; `None` if the box is too short.
    pub fn read(header: &Atom) -> Option<StatedDuration> {
        let wide = header.body.first()? == &1;
        Some(StatedDuration {
            offset: header.offset + header.head as u64 + if wide { 24 } else { 16 },
            bytes: if wide { 8 } else { 4 },
            ticks: header.by_version(16, 24)?,
        })
    }

    /// Raises the duration to `wanted` nanoseconds if it is shorter by more than `tolerated`
    /// nanoseconds, at `scale` ticks per second. Returns the patch of the header; `None` if the
    /// duration stays unchanged.
    pub fn raise(&mut self, wanted: i64, tolerated: i64, scale: u32) -> Option<Patch> {
        if self.nanos(scale).saturating_add(tolerated) >= wanted {
            return None;
        }
        let ticks = i128::from(wanted) * i128::from(scale.max(1)) / 1_000_000_000 + 1;
        let most = if self.bytes == 8 {
            i128::from(i64::MAX)
        } else {
            i128::from(u32::MAX - 1)
        };
        self.ticks = ticks.min(most) as u64;
        Some(Patch {
            offset: self.offset,
            bytes: self.ticks.to_be_bytes()[8 - self.bytes..].to_vec(),
        })
    }

    /// The duration in nanoseconds, at `scale` ticks per second.
    pub fn nanos(&self, scale: u32) -> i64 {
        nanos(i64::try_from(self.ticks).unwrap_or(i64::MAX), scale)
    }
}

/// Reads a `trak` box: the track's media, and patches for its headers. `None` for damaged boxes.
pub(super) fn track_media(track: &Atom) -> Option<(Media, Vec<Patch>)> {
    let header = track.child(b"tkhd")?;
    let media = track.child(b"mdia")?;
    let media_header = media.child(b"mdhd")?;
    let wide = media_header.body.first()? == &1;
    let kind = match media.child(b"hdlr")?.body.get(8..12)? {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let samples = media.path(&[b"minf", b"stbl"])?;
    let description = samples.child(b"stsd")?;
    let mut patches = Vec::new();
    let format: [u8; 4] = array(description.body, 12)?;
    // GStreamer 1.22 knows only the code of DNxHD; its decoder also decodes DNxHR.
    if format == *b"AVdh" {
        patches.push(Patch {
            offset: description.offset + description.head as u64 + 12,
            bytes: b"AVdn".to_vec(),
        });
    }
    let durations = samples.child(b"stts").map_or(&[][..], |atom| atom.body);
    let (mut ticks, mut count) = (0i64, 0u64);
    for entry in durations.get(8..).unwrap_or_default().chunks_exact(8) {
        let (n, each) = (be32(entry, 0)?, be32(entry, 4)?);
        ticks = ticks.saturating_add(i64::from(n).saturating_mul(i64::from(each)));
        count += u64::from(n);
    }
    let (first_offset, shift) = composition(&samples);
    let list = track.path(&[b"edts", b"elst"]);
    Some((
        Media {
            kind,
            number: u64::from(be32(
                header.body,
                if header.body[0] == 1 { 20 } else { 12 },
            )?),
            codec: code(format),
            enabled: header.body.get(3)? & 1 == 1,
            scale: be32(media_header.body, if wide { 20 } else { 12 })?.max(1),
            ticks,
            samples: count,
            first_offset,
            shift,
            edits: list.map(|list| edits(&list)).unwrap_or_default(),
            edits_at: track.child(b"edts").map(|atom| atom.offset),
            duration: StatedDuration::read(&media_header)?,
            fragment_ticks: 0,
            data_end: data_end(&samples),
        },
        patches,
    ))
}

/// Reads a sample table: the composition offset of the first sample, and the shift that makes no
/// offset negative. Both are in ticks of the media's time scale.
fn composition(samples: &Atom) -> (i64, i64) {
    let Some(offsets) = samples.child(b"ctts") else {
        return (0, 0);
    };
    let entries = offsets.body.get(8..).unwrap_or_default().chunks_exact(8);
    let mut offsets = entries
        .filter_map(|entry| be32(entry, 4))
        .map(|offset| i64::from(offset as i32));
    let first = offsets.next().unwrap_or(0);
    let stated = samples.child(b"cslg").and_then(|atom| be32(atom.body, 4));
    let least = offsets.fold(first, i64::min);
    (first, stated.map_or((-least).max(0), i64::from))
}

/// Byte offset in the file at which the last chunk ends. `None` for damaged tables, and for media
/// in fragments.
fn data_end(samples: &Atom) -> Option<u64> {
    let chunk = if let Some(offsets) = samples.child(b"stco") {
        let last = offsets.body.get(8..)?.chunks_exact(4).last()?;
        u64::from(be32(last, 0)?)
    } else {
        be64(
            samples
                .child(b"co64")?
                .body
                .get(8..)?
                .chunks_exact(8)
                .last()?,
            0,
        )?
    };
    let runs = samples.child(b"stsc")?;
    let per_chunk = be32(runs.body.get(8..)?.chunks_exact(12).last()?, 4)?;
    let sizes = samples.child(b"stsz")?;
    let (each, count) = (be32(sizes.body, 4)?, be32(sizes.body, 8)?);
    let last = per_chunk.min(count);
    let bytes = if each > 0 {
        u64::from(last) * u64::from(each)
    } else {
        let first = 12 + 4 * (count - last) as usize;
        let sizes = sizes.body.get(first..)?.chunks_exact(4).take(last as usize);
        sizes.filter_map(|size| be32(size, 0)).map(u64::from).sum()
    };
    chunk.checked_add(bytes)
}

/// The entries of an edit list box, in the form of [`Media::edits`].
fn edits(list: &Atom) -> Vec<(u64, i64, i32)> {
    let wide = list.body.first() == Some(&1);
    let size = if wide { 20 } else { 12 };
    let count = be32(list.body, 4).unwrap_or(0) as usize;
    let entries = list
        .body
        .get(8..)
        .unwrap_or_default()
        .chunks_exact(size)
        .take(count);
    entries
        .filter_map(|entry| {
            Some(if wide {
                (
                    be64(entry, 0)?,
                    be64(entry, 8)? as i64,
                    be32(entry, 16)? as i32,
                )
            } else {
                let time = be32(entry, 4)? as i32;
                (
                    u64::from(be32(entry, 0)?),
                    i64::from(time),
                    be32(entry, 8)? as i32,
                )
            })
        })
        .collect()
}

/// Adds the samples of a track fragment `part`, whose header is `header`, to `media`.
pub(super) fn add_runs(media: &mut Media, part: &Atom, header: &Atom) {
    let flags = be32(header.body, 0).unwrap_or(0) & 0xff_ffff;
    let skipped = [(0x1, 8), (0x2, 4)]
        .iter()
        .filter(|(bit, _)| flags & bit != 0);
    let at = 8 + skipped.map(|(_, size)| size).sum::<usize>();
    let default = (flags & 0x8 != 0).then(|| be32(header.body, at)).flatten();
    let default = default.unwrap_or(media.fragment_ticks);
    if let Some(decode_time) = part.child(b"tfdt").and_then(|atom| atom.by_version(4, 4)) {
        media.ticks = media.ticks.max(i64::try_from(decode_time).unwrap_or(0));
    }
    for run in part.children().filter(|atom| atom.kind == *b"trun") {
        let flags = be32(run.body, 0).unwrap_or(0) & 0xff_ffff;
        let count = be32(run.body, 4).unwrap_or(0) as usize;
        let start = 8 + 4 * (flags & 0x5).count_ones() as usize;
        let size = 4 * (flags & 0xf00).count_ones() as usize;
        media.samples += count as u64;
        if flags & 0x100 == 0 {
            let ticks = (count as i64).saturating_mul(i64::from(default));
            media.ticks = media.ticks.saturating_add(ticks);
            continue;
        }
        let entries = run.body.get(start..).unwrap_or_default().chunks_exact(size);
        for entry in entries.take(count) {
            let ticks = be32(entry, 0).unwrap_or(0);
            media.ticks = media.ticks.saturating_add(i64::from(ticks));
        }
    }
}
