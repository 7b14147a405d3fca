//! Detection of concatenated recordings (`cat a.webm b.webm > both.webm`). A demuxer stops without
//! an error where the second recording begins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Identifier of the EBML header, with which a Matroska file begins.
const EBML: u32 = 0x1A45_DFA3;
/// Identifier of the segment, which contains the media of a Matroska file.
const SEGMENT: u32 = 0x1853_8067;
/// Identifier of a cluster, a group of blocks in the segment.
const CLUSTER: u32 = 0x1F43_B675;

/// Byte offset of a second recording that a demuxer does not reach. `None` if there is none, or if
/// the file is neither Matroska nor Ogg.
pub(super) fn second_recording(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut reader = BufReader::with_capacity(512, file);
    let mut magic = [0u8; 4];
    reader.read_exact(&mut magic).ok()?;
    match magic {
        [b'O', b'g', b'g', b'S'] => second_chain(&mut reader, length),
        _ => second_matroska(&mut reader, length),
    }
}

/// Byte offset of the first Ogg chain that reuses the serial number of an earlier stream. A demuxer
/// takes that chain for the earlier stream and stops; chains with new serial numbers are played.
fn second_chain(reader: &mut BufReader<File>, length: u64) -> Option<u64> {
    let (mut numbers, mut is_among_data, mut at) = (BTreeSet::new(), false, 0);
    while at < length {
        reader.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0u8; 27];
        reader.read_exact(&mut head).ok()?;
        if head[..4] != *b"OggS" {
            return None;
        }
        let mut lengths = vec![0u8; usize::from(head[26])];
        reader.read_exact(&mut lengths).ok()?;
        let number = [head[14], head[15], head[16], head[17]];
        let is_first_page = head[5] & 2 == 2;
        let is_new = !is_first_page || numbers.insert(number);
        if is_among_data && !is_new {
            return Some(at);
        }
        is_among_data |= !is_first_page;
        let body: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        at += 27 + lengths.len() as u64 + body;
    }
    None
}

/// Byte offset of a second EBML header in a Matroska file of `length` bytes.
fn second_matroska(reader: &mut BufReader<File>, length: u64) -> Option<u64> {
    let mut at = 0;
    while at < length {
        reader.seek(SeekFrom::Start(at)).ok()?;
        let (id, size, head) = element(reader)?;
        match (id, size) {
            (EBML, Some(_)) if at > 0 => return Some(at),
            (first, _) if at == 0 && first != EBML => return None,
            // Unknown size: the content follows, and the next header ends the element.
            (SEGMENT | CLUSTER, None) => at += head,
            (_, Some(size)) => at = at.checked_add(head)?.checked_add(size)?,
            (_, None) => return None,
        }
    }
    None
}

/// Reads the head of a Matroska element: its identifier, the size of its content in bytes (`None`
/// if unknown), and the length of the head in bytes.
fn element(reader: &mut impl Read) -> Option<(u32, Option<u64>, u64)> {
    let (id, id_length, _) = number(reader, 4, true)?;
    let (size, size_length, is_unknown) = number(reader, 8, false)?;
    let size = (!is_unknown).then_some(size);
    Some((u32::try_from(id).ok()?, size, id_length + size_length))
}

/// Reads a variable-length EBML number of at most `longest` bytes, with its marker bit if
/// `keep_marker`. Returns its value, its length in bytes, and whether all its bits are ones (an
/// unknown size).
fn number(reader: &mut impl Read, longest: u32, keep_marker: bool) -> Option<(u64, u64, bool)> {
    let mut bytes = [0u8; 8];
    reader.read_exact(&mut bytes[..1]).ok()?;
    let length = bytes[0].leading_zeros() + 1;
    if length > longest {
        return None;
    }
    reader.read_exact(&mut bytes[1..length as usize]).ok()?;
    let mut value = 0u64;
    for byte in &bytes[..length as usize] {
        value = value << 8 | u64::from(*byte);
    }
    let mask = (1u64 << (7 * length)) - 1;
    let is_all_ones = value & mask == mask;
    let value = if keep_marker { value } else { value & mask };
    Some((value, u64::from(length), is_all_ones))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Matroska file: an EBML header, and a segment of one cluster with six bytes.
    fn recording(is_size_known: bool) -> Vec<u8> {
        let cluster = [&[0x1F, 0x43, 0xB6, 0x75, 0x86][..], &[7; 6]].concat();
        let size = if is_size_known {
            0x80 | cluster.len() as u8
        } else {
            0xFF
        };
        let head = [
            0x1A, 0x45, 0xDF, 0xA3, 0x82, 1, 2, 0x18, 0x53, 0x80, 0x67, size,
        ];
        [&head[..], &cluster].concat()
    }

    fn second(bytes: &[u8]) -> Option<u64> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        second_recording(file.path())
    }

    /// Two Ogg pages of the stream with serial number `number`: the first page and one data page.
    fn stream(number: u8) -> Vec<u8> {
        let page = |kind: u8| {
            let mut page = b"OggS".to_vec();
            page.extend([0, kind]);
            page.extend([0; 8]);
            page.extend([number, 0, 0, 0]);
            page.extend([0; 8]);
            page.extend([2, 3, 2]);
            page.extend([9; 5]);
            page
        };
        [page(2), page(4)].concat()
    }

    #[test]
    fn a_chain_with_reused_serial_numbers_is_found() {
        assert_eq!(second(&[stream(1), stream(2)].concat()), None);
        let at = stream(1).len() as u64;
        assert_eq!(second(&[stream(1), stream(1)].concat()), Some(at));
    }

    #[test]
    fn a_second_recording_is_found_after_known_and_unknown_sizes() {
        for is_size_known in [true, false] {
            let one = recording(is_size_known);
            assert_eq!(second(&one), None);
            let two = [one.clone(), one.clone()].concat();
            assert_eq!(second(&two), Some(one.len() as u64));
            assert_eq!(second(&two[..two.len() - 9]), Some(one.len() as u64));
            assert_eq!(second(&one[..one.len() - 3]), None);
        }
        assert_eq!(second(b"RIFF, which is not read here"), None);
        assert_eq!(second(b""), None);
    }
}
