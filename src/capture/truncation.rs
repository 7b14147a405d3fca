//! Detection of truncated files by the framing of their container, for files whose duration is
//! unknown to the decoder.

use std::fs::{File, Metadata};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::container::photo;

/// The reason why the file cannot be played, if a decoder is not needed to know it; otherwise
/// `None`.
pub(super) fn unplayable(path: &Path, metadata: &Metadata) -> Option<String> {
    if metadata.is_dir() {
        return Some("it is a directory".into());
    }
    if !metadata.is_file() {
        return Some("it is a device or a socket".into());
    }
    if metadata.len() == 0 {
        return Some("the file is empty".into());
    }
    let mut head = [0u8; 12];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if let Some(kind) = read.ok().and_then(|()| photo(&head)) {
        return Some(format!(
            "it is a {kind} photo; photos are read as JPEG and PNG"
        ));
    }
    index_missing(path).then(|| "its index is missing, as in a truncated file".into())
}

/// Whether this is an MP4 or MOV file without its index. Most writers put the index last, so that a
/// truncated file has none and cannot be decoded. (GStreamer 1.22 sometimes loses its own error
/// message about the missing index and waits forever.)
fn index_missing(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let Ok(length) = file.metadata().map(|metadata| metadata.len()) else {
        return false;
    };
    let mut reader = BufReader::with_capacity(64, file);
    let mut head = [0u8; 8];
    reader.read_exact(&mut head).is_ok()
        && is_iso(&head)
        && boxes(&mut reader, length).is_some_and(|boxes| !boxes.index)
}

/// Whether a file with the first bytes `head` is ISO media (MP4, MOV).
fn is_iso(head: &[u8]) -> bool {
    [b"ftyp", b"moov", b"mdat", b"wide", b"styp"]
        .iter()
        .any(|name| head[4..8] == name[..])
}

/// Whether the file ends before the outermost framing of its container does. `false` if that is
/// unknown.
pub(super) fn is_truncated(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let Ok(length) = file.metadata().map(|metadata| metadata.len()) else {
        return false;
    };
    let mut reader = BufReader::with_capacity(4096, file);
    let mut head = [0u8; 12];
    if reader.read_exact(&mut head).is_err() || reader.seek(SeekFrom::Start(0)).is_err() {
        return false;
    }
    match &head {
        [b'R', b'I', b'F', b'F', ..] => riff_end(&head) > length,
        [0, 0, 1, 0xba, ..] => {
            program_stream_end(&mut reader, length).is_some_and(|end| end > length)
        }
        head if is_iso(head) => boxes(&mut reader, length).is_some_and(|boxes| boxes.end > length),
        _ => false,
    }
}

/// End of a RIFF file (AVI, WAV) in bytes, by its header: eight bytes and the stated length. It is
/// 0 if a writer that could not seek back left a 0 or all ones.
fn riff_end(head: &[u8; 12]) -> u64 {
    match u32::from_le_bytes([head[4], head[5], head[6], head[7]]) {
        0 | u32::MAX => 0,
        size => u64::from(size) + 8,
    }
}

/// Summary of the top-level boxes of ISO media (MP4, MOV).
struct Boxes {
    /// Byte offset of the end of the last box, which may lie beyond the end of the file.
    end: u64,
    /// Whether one of the boxes is an index (`moov` or `moof`).
    index: bool,
}

/// Reads the heads of the top-level boxes of a file of `length` bytes. `None`: the framing is
/// invalid.
fn boxes(reader: &mut BufReader<File>, length: u64) -> Option<Boxes> {
    let mut boxes = Boxes {
        end: 0,
        index: false,
    };
    while boxes.end + 8 <= length {
        reader.seek(SeekFrom::Start(boxes.end)).ok()?;
        let mut header = [0u8; 16];
        reader.read_exact(&mut header[..8]).ok()?;
        boxes.index |= [b"moov", b"moof"]
            .iter()
            .any(|name| header[4..8] == name[..]);
        let size = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            // The box extends to the end of the file.
            0 => length - boxes.end,
            1 => {
                reader.read_exact(&mut header[8..]).ok()?;
                u64::from_be_bytes(header[8..].try_into().expect("eight bytes"))
            }
            size => u64::from(size),
        };
        if size < 8 {
            return None;
        }
        boxes.end = boxes.end.checked_add(size)?;
    }
    Some(boxes)
}

/// Byte offset of the end of the last pack header or packet of an MPEG program stream. `None` if
/// the framing is invalid.
fn program_stream_end(reader: &mut BufReader<File>, length: u64) -> Option<u64> {
    let mut at = 0u64;
    while at + 4 <= length {
        let mut header = [0u8; 6];
        let got = header.len().min((length - at) as usize);
        reader.read_exact(&mut header[..got]).ok()?;
        if header[..3] != [0, 0, 1] {
            return None;
        }
        let size = match header[3] {
            0xb9 => return Some(at + 4),
            // The low bits of the last byte of an MPEG-2 pack are the length of the stuffing.
            // MPEG-1 packs have 12 bytes.
            0xba if header[4] >> 6 == 1 => {
                reader.seek_relative(7).ok()?;
                let mut last = [0u8; 1];
                if reader.read_exact(&mut last).is_err() {
                    return Some(at + 14);
                }
                reader.seek_relative(-8).ok()?;
                14 + u64::from(last[0] & 7)
            }
            0xba => 12,
            _ if got < 6 => return Some(at + 6),
            _ => 6 + u64::from(u16::from_be_bytes([header[4], header[5]])),
        };
        reader.seek_relative(size as i64 - got as i64).ok()?;
        at += size;
    }
    // The remaining bytes are an incomplete start code: the file is truncated.
    Some(if at < length { length + 1 } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cut(bytes: &[u8]) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        is_truncated(file.path())
    }

    /// Every prefix of `whole` of at least `from` bytes is truncated, except those that end at one
    /// of `seams`.
    fn check(whole: &[u8], from: usize, seams: &[usize]) {
        assert!(!is_cut(whole));
        for length in from..whole.len() {
            assert_eq!(
                is_cut(&whole[..length]),
                !seams.contains(&length),
                "{length} of {} bytes",
                whole.len()
            );
        }
    }

    #[test]
    fn truncation_is_detected_by_the_framing() {
        let mut riff = b"RIFF\x1c\0\0\0WAVEdata".to_vec();
        riff.extend([7; 20]);
        check(&riff, 12, &[]);
        let mut program = vec![0, 0, 1, 0xba, 0x21, 0, 1, 0, 1, 0x80, 0, 1];
        program.extend([0, 0, 1, 0xe0, 0, 5, 1, 2, 3, 4, 5]);
        program.extend([0, 0, 1, 0xc0, 0, 3, 9, 9, 9]);
        check(&program, 12, &[12, 23]);
        let mut boxes = b"\0\0\0\x10ftypisom\0\0\0\0".to_vec();
        boxes.extend(b"\0\0\0\x0cmdat1234");
        // Fewer bytes than the head of a box are ignored.
        check(&boxes, 12, &[16, 17, 18, 19, 20, 21, 22, 23]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &boxes).unwrap();
        assert!(index_missing(file.path()));
        boxes.extend(b"\0\0\0\x08moov");
        std::fs::write(file.path(), &boxes).unwrap();
        assert!(!index_missing(file.path()));
        assert!(!is_cut(b"OggS, which is not read here"));
    }
}
