//! Tables of AVI files, from the headers of their streams.
//!
//! Source: Microsoft, "AVI RIFF File Reference".

use std::io::{Read, Seek, SeekFrom};

use super::bytes::{array, code, le32};
use super::{ContainerTrack, Tables, TrackKind};

/// Size in bytes of the largest list of headers that is read.
const MAX_HEADER_BYTES: u64 = 1 << 24;

/// Whether a file with the first bytes `head` is AVI.
pub(super) fn is_avi(head: &[u8]) -> bool {
    head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ")
}

/// The RIFF chunks in `data`: four-character code and content.
fn chunks(mut data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, size) = (array(data, 0)?, le32(data, 4)? as usize);
        let rest = data.get(8..)?;
        let content = &rest[..size.min(rest.len())];
        data = rest.get(size.checked_add(size % 2)?..).unwrap_or_default();
        Some((kind, content))
    })
}

/// Reads the tables of an AVI file of `length` bytes; `None` if its headers are damaged.
pub(super) fn read(file: &mut (impl Read + Seek), length: u64) -> Option<Tables> {
    let mut head = [0u8; 24];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut head).ok()?;
    let stated = u64::from(le32(&head, 4)?);
    if &head[12..16] != b"LIST" || &head[20..24] != b"hdrl" {
        return None;
    }
    let size = u64::from(le32(&head, 16)?).checked_sub(4)?;
    if size > MAX_HEADER_BYTES || size > length {
        return None;
    }
    let mut headers = vec![0; size as usize];
    file.read_exact(&mut headers).ok()?;
    let lists =
        chunks(&headers).filter(|(kind, content)| kind == b"LIST" && content.starts_with(b"strl"));
    let tracks = lists
        .enumerate()
        .filter_map(|(index, (_, list))| track(index as u64, list.get(4..)?))
        .collect();
    Some(Tables {
        tracks,
        // Writers that cannot seek back leave a 0 or all ones.
        is_truncated: Some(![0, u64::from(u32::MAX)].contains(&stated) && stated + 8 > length),
        ..Tables::default()
    })
}

/// The track of one `strl` list of stream headers; `None` if the list is damaged.
fn track(number: u64, list: &[u8]) -> Option<ContainerTrack> {
    let (_, header) = chunks(list).find(|(kind, _)| kind == b"strh")?;
    let format = chunks(list)
        .find(|(kind, _)| kind == b"strf")
        .map_or(&[][..], |(_, content)| content);
    let kind = match header.get(..4)? {
        b"vids" => TrackKind::Video,
        b"auds" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let codec = match kind {
        TrackKind::Video => code(array(format, 16).unwrap_or_default()),
        _ => array(format, 0).map_or(String::new(), |tag| {
            format!("WAV format {:#06x}", u16::from_le_bytes(tag))
        }),
    };
    let (scale, rate) = (le32(header, 20)?, le32(header, 24)?);
    let (start, count) = (le32(header, 28)?, le32(header, 32)?);
    let known = count > 0 && count < 0x7fff_0000 && rate > 0 && scale > 0;
    let nanos = |ticks: u32| {
        let nanos = u128::from(ticks) * u128::from(scale) * 1_000_000_000 / u128::from(rate.max(1));
        i64::try_from(nanos).unwrap_or(i64::MAX / 4)
    };
    Some(ContainerTrack {
        kind,
        number,
        codec,
        start_nanos: nanos(start),
        end_nanos: known.then(|| nanos(start.saturating_add(count))),
        samples: known.then_some(u64::from(count)),
        default: true,
        still: kind == TrackKind::Video && count == 1,
        edits: None,
    })
}
