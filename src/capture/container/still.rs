//! Still pictures: JPEG with its EXIF orientation, and HEIF photos, which are not played.
//!
//! Source: ITU-T T.81, annex B; JEITA CP-3451 (EXIF 2.3), tag 274.

use std::io::{Read, Seek, SeekFrom};

use super::bytes::{be16, le16};
use super::{ContainerTrack, Tables, TrackKind};

/// Largest part of a JPEG file, in bytes, that is searched for the end of the picture.
const MAX_SEARCHED_BYTES: u64 = 1 << 26;

/// The photo format of an ISO file with the first bytes `head`; `None` if it is not a photo.
pub(in crate::capture) fn photo(head: &[u8]) -> Option<&'static str> {
    if head.get(4..8)? != b"ftyp" {
        return None;
    }
    match head.get(8..12)? {
        b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" => Some("HEIF"),
        b"avif" => Some("AVIF"),
        _ => None,
    }
}

/// Whether a file with the first bytes `head` is JPEG.
pub(super) fn is_jpeg(head: &[u8]) -> bool {
    head.starts_with(&[0xff, 0xd8, 0xff])
}

/// Reads the first picture of a JPEG file of `length` bytes; `None` for damaged headers.
pub(super) fn read_jpeg(file: &mut (impl Read + Seek), length: u64) -> Option<Tables> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(MAX_SEARCHED_BYTES).read_to_end(&mut bytes).ok()?;
    let (mut at, mut orientation) = (2, None);
    // Segments up to the start of the scan.
    let scan = loop {
        let marker = be16(&bytes, at)?;
        if marker >> 8 != 0xff {
            return None;
        }
        if marker == 0xffff {
            at += 1;
            continue;
        }
        let size = usize::from(be16(&bytes, at + 2)?);
        let content = bytes.get(at + 4..at + 2 + size.max(2)).unwrap_or_default();
        if marker == 0xffe1 && orientation.is_none() {
            orientation = exif_orientation(content);
        }
        at += 2 + size.max(2);
        if marker == 0xffda {
            break bytes.get(at..).unwrap_or_default();
        }
    };
    let ended = scan.windows(2).any(|pair| pair == [0xff, 0xd9]);
    Some(Tables {
        tracks: vec![ContainerTrack {
            kind: TrackKind::Video,
            number: 0,
            codec: "JPEG".into(),
            start_nanos: 0,
            end_nanos: None,
            samples: None,
            default: true,
            still: true,
            edits: None,
        }],
        is_truncated: Some(!ended && length <= MAX_SEARCHED_BYTES),
        direction: orientation.and_then(direction),
        ..Tables::default()
    })
}

/// The orientation (tag 274) in the first directory of an EXIF segment; `None` if it has none.
fn exif_orientation(content: &[u8]) -> Option<u16> {
    let tiff = content.strip_prefix(b"Exif\0\0")?;
    let little = tiff.starts_with(b"II");
    let short = |at: usize| {
        if little {
            le16(tiff, at)
        } else {
            be16(tiff, at)
        }
    };
    let long = |at: usize| {
        let (first, second) = (usize::from(short(at)?), usize::from(short(at + 2)?));
        Some(if little {
            second << 16 | first
        } else {
            first << 16 | second
        })
    };
    let directory = long(4)?;
    let count = usize::from(short(directory)?);
    let entries = (0..count).map(|index| directory + 2 + 12 * index);
    entries
        .take_while(|entry| entry + 12 <= tiff.len())
        .find(|entry| short(*entry) == Some(274))
        .and_then(|entry| short(entry + 8))
}

/// The direction for GStreamer's `videoflip` that turns a picture of this EXIF orientation upright;
/// `None` if it is upright.
fn direction(orientation: u16) -> Option<&'static str> {
    Some(match orientation {
        2 => "horiz",
        3 => "180",
        4 => "vert",
        5 => "ul-lr",
        6 => "90r",
        7 => "ur-ll",
        8 => "90l",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn jpeg(exif: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend([0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9]);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Tables> {
        read_jpeg(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn the_exif_orientation_is_read_and_a_truncated_picture_is_found() {
        let big = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let little = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0";
        assert_eq!(read(&jpeg(big)).unwrap().direction, Some("90r"));
        assert_eq!(read(&jpeg(little)).unwrap().direction, Some("90l"));
        let plain = jpeg(b"JFIF");
        let found = read(&plain).unwrap();
        assert_eq!((found.direction, found.is_truncated), (None, Some(false)));
        assert_eq!(
            read(&plain[..plain.len() - 1]).unwrap().is_truncated,
            Some(true)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&[0xff, 0xd8, 0xff], &rest[..]].concat());
            let _ = exif_orientation(&[&b"Exif\0\0II"[..], &rest[..]].concat());
        }
    }
}
