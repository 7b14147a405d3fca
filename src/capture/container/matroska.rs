//! Matroska and WebM: the tracks, and the stamps of their blocks.
//!
//! Source: RFC 8794 (EBML) and RFC 9559 (Matroska). Only the heads of the blocks are read.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Seek};

use super::bytes::array;
use super::{ContainerTrack, Tables, TrackKind};

// Identifiers of elements, with their marker bits.
const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
const BLOCK_GROUP: u32 = 0xa0;
const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK: u32 = 0xa1;
const BLOCK_DURATION: u32 = 0x9b;
const TIMESTAMP: u32 = 0xe7;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
/// Size in bytes of the largest element that is read.
const MAX_ELEMENT_BYTES: u64 = 1 << 26;
/// Number of the last blocks of a track, in file order, from which the end of the track is
/// estimated.
const LAST_BLOCKS: usize = 32;
/// A block this many nanoseconds ahead of all others of its track has a wrong stamp.
const FAR_NANOS: i64 = 60_000_000_000;

/// Whether a file with the first bytes `head` is Matroska or WebM.
pub(super) fn is_matroska(head: &[u8]) -> bool {
    head.starts_with(&EBML.to_be_bytes())
}

/// The variable-length number at the start of `data`: its value, whether all its bits are set (an
/// unknown size), and its length in bytes.
fn number(data: &[u8]) -> Option<(u64, bool, usize)> {
    let first = *data.first()?;
    let bytes = first.leading_zeros() as usize + 1;
    if bytes > 8 || data.len() < bytes {
        return None;
    }
    let start = u64::from(first) & ((1u64 << (8 - bytes)) - 1);
    let value = data[1..bytes]
        .iter()
        .fold(start, |value, byte| value << 8 | u64::from(*byte));
    Some((value, value == (1u64 << (7 * bytes)) - 1, bytes))
}

/// The identifier of the element at the start of `data`, with its marker bits, and its length in
/// bytes.
fn identifier(data: &[u8]) -> Option<(u32, usize)> {
    let bytes = data.first()?.leading_zeros() as usize + 1;
    if bytes > 4 || data.len() < bytes {
        return None;
    }
    let value = data[..bytes]
        .iter()
        .fold(0u32, |value, byte| value << 8 | u32::from(*byte));
    Some((value, bytes))
}

/// The elements in `data`: identifier and content.
fn elements(mut data: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let (id, head) = identifier(data)?;
        let (size, unknown, more) = number(&data[head..])?;
        let body = data.get(head + more..)?;
        let size = if unknown {
            body.len()
        } else {
            usize::try_from(size).ok()?.min(body.len())
        };
        let (body, rest) = body.split_at(size);
        data = rest;
        Some((id, body))
    })
}

/// The value of a big-endian unsigned integer of at most eight bytes.
fn unsigned(data: &[u8]) -> u64 {
    data.iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The value of a big-endian float of four or eight bytes.
fn float(data: &[u8]) -> Option<f64> {
    match data.len() {
        4 => array(data, 0).map(|bytes| f64::from(f32::from_be_bytes(bytes))),
        _ => array(data, 0).map(f64::from_be_bytes),
    }
}

/// Statistics of the blocks of one track. Times are in ticks of the segment's timestamp scale.
#[derive(Default)]
struct Blocks {
    count: u64,
    /// Earliest time of a block.
    first: Option<i64>,
    /// Times of the last blocks in file order, and their durations if they are stated.
    last: VecDeque<(i64, Option<i64>)>,
}

impl Blocks {
    /// Adds a block at `time` without a stated duration.
    fn add(&mut self, time: i64) {
        self.count += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last.push_back((time, None));
        if self.last.len() > LAST_BLOCKS {
            self.last.pop_front();
        }
    }

    /// End of the latest block, in ticks; `None` without a block. A block more than `far` ticks
    /// ahead of all others is ignored. `each`: default duration of a block in ticks.
    fn end(&self, each: Option<i64>, far: i64) -> Option<i64> {
        let mut last: Vec<_> = self.last.iter().copied().collect();
        last.sort_unstable();
        let near = last
            .windows(2)
            .take_while(|pair| pair[1].0 - pair[0].0 <= far)
            .count();
        let (time, duration) = *last.get(near)?;
        let gap = near
            .checked_sub(1)
            .map_or(0, |before| time - last[before].0);
        Some(time.saturating_add(duration.or(each).unwrap_or(gap)))
    }
}

/// An entry of the tracks element, and the statistics of the track's blocks.
struct Track {
    kind: TrackKind,
    number: u64,
    codec: String,
    default: bool,
    /// Default duration of a block, in nanoseconds.
    each_nanos: Option<u64>,
    blocks: Blocks,
}

/// Reads the tables of a Matroska file of `length` bytes; `None` if its elements are damaged.
pub(super) fn read(file: &mut (impl BufRead + Seek), length: u64) -> Option<Tables> {
    let mut tracks: Vec<Track> = Vec::new();
    let (mut at, mut cluster, mut scale, mut stated) = (0u64, 0i64, 1_000_000u64, None);
    let (mut is_truncated, mut open_ended, mut newest) = (false, false, None);
    while at < length {
        let Some((id, size, body)) = head(file, at, length)? else {
            break;
        };
        // Appended data is a separate recording and is not counted.
        if id == EBML && at > 0 {
            break;
        }
        let end = size.map_or(length, |size| body.saturating_add(size));
        open_ended |= size.is_none();
        is_truncated |= end > length;
        let content = |file: &mut _| read_body(file, body, end.min(length) - body);
        at = match id {
            // Only the heads of these elements are skipped: the elements inside them are read next.
            SEGMENT | CLUSTER | BLOCK_GROUP => body,
            INFO => {
                for (id, data) in elements(&content(file)?) {
                    match id {
                        TIMESTAMP_SCALE => scale = unsigned(data).max(1),
                        DURATION => stated = float(data),
                        _ => {}
                    }
                }
                end
            }
            TRACKS => {
                let content = content(file)?;
                let entries = elements(&content).filter(|(id, _)| *id == TRACK_ENTRY);
                tracks.extend(entries.map(|(_, entry)| track(entry)));
                end
            }
            TIMESTAMP => {
                cluster = i64::try_from(unsigned(&content(file)?)).ok()?;
                end
            }
            SIMPLE_BLOCK | BLOCK => {
                let start = read_body(file, body, (end.min(length) - body).min(10))?;
                newest = number(&start).and_then(|(number, _, bytes)| {
                    let time = array(&start, bytes).map(i16::from_be_bytes)?;
                    let index = tracks.iter().position(|track| track.number == number)?;
                    let time = cluster.saturating_add(i64::from(time));
                    tracks[index].blocks.add(time);
                    Some(index)
                });
                end
            }
            BLOCK_DURATION => {
                let ticks = i64::try_from(unsigned(&content(file)?)).unwrap_or(0);
                let blocks = newest.map(|index: usize| &mut tracks[index].blocks);
                if let Some((_, duration)) = blocks.and_then(|blocks| blocks.last.back_mut()) {
                    *duration = Some(ticks);
                }
                end
            }
            _ => end,
        };
    }
    let nanos = |ticks: i64| {
        let nanos = i128::from(ticks) * i128::from(scale);
        nanos.clamp(0, i128::from(i64::MAX / 4)) as i64
    };
    let of_track = |track: &Track| {
        let blocks = &track.blocks;
        let ticks = |nanos: i64| nanos / i64::try_from(scale).unwrap_or(i64::MAX);
        let each = track
            .each_nanos
            .and_then(|each| i64::try_from(each).ok())
            .map(ticks);
        let count = blocks.count;
        ContainerTrack {
            kind: track.kind,
            number: track.number,
            codec: track.codec.clone(),
            start_nanos: nanos(blocks.first.unwrap_or(0)),
            end_nanos: blocks.end(each, ticks(FAR_NANOS).max(1)).map(nanos),
            samples: Some(count),
            default: track.default,
            still: track.kind == TrackKind::Video && count == 1,
            edits: None,
        }
    };
    let tracks: Vec<_> = tracks.iter().map(of_track).collect();
    let origin_nanos = tracks.iter().filter(|track| track.end_nanos.is_some());
    let origin_nanos = origin_nanos
        .map(|track| track.start_nanos)
        .min()
        .unwrap_or(0);
    // A completely written file states its duration, even if the sizes of its elements are unknown.
    let last = tracks
        .iter()
        .filter_map(|track| track.end_nanos)
        .max()
        .unwrap_or(0);
    let stated = stated.map_or(0, |ticks| (ticks * scale as f64) as i64);
    is_truncated |= open_ended && stated.saturating_sub(last) > super::TOLERANCE_NANOS;
    Some(Tables {
        tracks,
        origin_nanos,
        is_truncated: Some(is_truncated),
        ..Tables::default()
    })
}

/// Identifier of an element, size of its content (`None`: unknown), and byte offset of its content.
/// `None`: there is no further element.
type Head = Option<(u32, Option<u64>, u64)>;

/// Reads the head of the element at byte `at` of a file of `length` bytes; `None` if reading fails.
fn head(file: &mut (impl BufRead + Seek), at: u64, length: u64) -> Option<Head> {
    let bytes = read_body(file, at, (length - at).min(12))?;
    let Some((id, used)) = identifier(&bytes) else {
        return Some(None);
    };
    let size = number(&bytes[used..]);
    Some(
        size.map(|(size, unknown, more)| {
            (id, (!unknown).then_some(size), at + (used + more) as u64)
        }),
    )
}

/// Reads `size` bytes from byte `at` on. `None` beyond the end of the file or above
/// [`MAX_ELEMENT_BYTES`].
fn read_body(file: &mut (impl Read + Seek), at: u64, size: u64) -> Option<Vec<u8>> {
    if size > MAX_ELEMENT_BYTES {
        return None;
    }
    let mut bytes = vec![0; size as usize];
    // A relative seek keeps the buffered data.
    let from = file.stream_position().ok()?;
    match i64::try_from(at)
        .ok()?
        .checked_sub(i64::try_from(from).ok()?)?
    {
        0 => {}
        step => {
            file.seek_relative(step).ok()?;
        }
    }
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The track that a track entry describes.
fn track(entry: &[u8]) -> Track {
    let mut track = Track {
        kind: TrackKind::Other,
        number: 0,
        codec: String::new(),
        default: true,
        each_nanos: None,
        blocks: Blocks::default(),
    };
    for (id, data) in elements(entry) {
        match id {
            0xd7 => track.number = unsigned(data),
            0x83 => {
                track.kind = match unsigned(data) {
                    1 => TrackKind::Video,
                    2 => TrackKind::Audio,
                    _ => TrackKind::Other,
                }
            }
            0x86 => {
                let text = String::from_utf8_lossy(data);
                track.codec = text.trim_end_matches('\0').chars().take(40).collect();
            }
            0x88 => track.default = unsigned(data) != 0,
            0x23_e383 => track.each_nanos = Some(unsigned(data)),
            _ => {}
        }
    }
    track
}
