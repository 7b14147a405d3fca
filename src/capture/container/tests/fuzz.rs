//! Fuzz target: the headers of media files, as they are read before any decoder.

use super::*;
use crate::capture::truncation::{is_truncated, unplayable};
use crate::testing::fuzz::{InputFile, Target};

/// A RIFF chunk: name, size, content and padding.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u32).to_le_bytes();
    let pad: &[u8] = if content.len() % 2 == 1 { &[0] } else { &[] };
    [&name[..], &size, content, pad].concat()
}

/// The integers as little-endian bytes.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A WAV file: one second of 16-bit stereo sound, cut off after 64 bytes, behind a list chunk.
fn wav() -> Vec<u8> {
    let format = [&[1, 0, 2, 0][..], &words(&[8000, 32_000]), &[4, 0, 16, 0]].concat();
    let chunks = [
        chunk(b"LIST", b"INFOISFT"),
        chunk(b"fmt ", &format),
        chunk(b"data", &[7; 64]),
    ];
    chunk(b"RIFF", &[&b"WAVE"[..], &chunks.concat()].concat())
}

/// A WAV file of ADPCM with a `fact` chunk, which states the number of samples.
fn adpcm() -> Vec<u8> {
    let format = [
        &[17, 0, 1, 0][..],
        &words(&[8000, 4055]),
        &[0, 1, 4, 0, 2, 0, 249, 1],
    ];
    let chunks = [
        chunk(b"fmt ", &format.concat()),
        chunk(b"fact", &words(&[505])),
        chunk(b"data", &[0; 256]),
    ];
    chunk(b"RIFF", &[&b"WAVE"[..], &chunks.concat()].concat())
}

/// An AVI file with the headers of one picture stream at 25 Hz.
fn avi() -> Vec<u8> {
    let header = [&b"vidsMJPG"[..], &words(&[0, 0, 0, 1, 25, 0, 50, 0, 0, 0])].concat();
    let format = [&words(&[40, 320, 240, 1])[..], b"MJPG", &[0; 20]].concat();
    let stream = [
        &b"strl"[..],
        &chunk(b"strh", &header),
        &chunk(b"strf", &format),
    ];
    let headers = [&b"hdrl"[..], &chunk(b"LIST", &stream.concat())].concat();
    let content = [&b"AVI "[..], &chunk(b"LIST", &headers)].concat();
    chunk(b"RIFF", &content)
}

/// A JPEG file with an EXIF orientation and three bytes of picture data.
fn jpeg() -> Vec<u8> {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let size = (exif.len() as u16 + 2).to_be_bytes();
    [
        &b"\xff\xd8\xff\xe1"[..],
        &size,
        exif,
        b"\xff\xda\0\x02\x01\x02\x03\xff\xd9",
    ]
    .concat()
}

/// An MPEG program stream: a pack header and a video packet.
fn program_stream() -> Vec<u8> {
    b"\0\0\x01\xba\x21\0\x01\0\x01\x80\0\x01\0\0\x01\xe0\0\x05\x01\x02\x03\x04\x05\0\0\x01\xb9"
        .into()
}

/// The first bytes of the demonstration: its index, and the beginning of its media.
fn index(film: &[u8]) -> Vec<u8> {
    film[..film.len().min(14_000)].to_vec()
}

/// Reads the file at `path`, which contains `input`, and checks that its tables are consistent.
fn check(path: &Path, input: &[u8]) {
    let length = input.len() as u64;
    let metadata = std::fs::metadata(path).unwrap();
    if let Some(reason) = unplayable(path, &metadata) {
        assert!(!reason.trim().is_empty());
    }
    let _ = is_truncated(path);
    let Some(tables) = Tables::read(path) else {
        return;
    };
    assert_eq!(
        Tables::read(path).as_ref(),
        Some(&tables),
        "a second reading"
    );
    for patch in &tables.patches {
        let end = patch.offset.checked_add(patch.bytes.len() as u64);
        assert!(
            end.is_some_and(|end| end <= length),
            "{patch:?} in {length} bytes"
        );
    }
    for track in &tables.tracks {
        assert!(tables.named(&format!("0a1b/{:03}", track.number)).is_some());
        if let Some(edits) = &track.edits {
            assert!(!edits.0.is_empty());
            assert!(edits.start() <= edits.end(), "{edits:?}");
        }
    }
    let _ = tables.end_nanos();
    let delivered = |count| Delivered {
        wanted: true,
        count,
        end_nanos: 1_000_000_000,
    };
    for count in [0, 25] {
        if let Err(error) = tables.check_delivered(path, delivered(count), delivered(0), None) {
            assert!(!error.to_string().trim().is_empty());
        }
    }
}

#[test]
fn mutated_headers_are_read_or_refused() {
    let file = InputFile::in_memory();
    let film = demo();
    let video: &[(u32, i32)] = &[(3000, 25_600), (5000, 102_400)];
    let audio: &[(u32, i32)] = &[(3000, 96_312), (5000, 384_312)];
    let edited = with_edits(&film, &[video, audio]);
    // The index is at the end of the file; the media before it is left out.
    let media = edited.len() - 14_000;
    let edited = [&edited[..64], &edited[media..]].concat();
    let blocks = [(1, 0), (1, 40), (2, 80)];
    Target::bytes("container", 2500)
        .seeds([
            index(&film),
            edited,
            matroska(&blocks),
            wav(),
            adpcm(),
            avi(),
            jpeg(),
        ])
        .seeds([program_stream()])
        .words(&[
            "moov", "moof", "mdat", "trun", "elst", "stsz", "ctts", "RF64", "ds64", "LIST",
        ])
        .run(|input| check(file.write(input), input));
}
