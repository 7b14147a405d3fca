//! Tests with synthetic headers of all kinds that writers produce.

use std::io::Cursor;

use proptest::prelude::*;

use super::chunks::{Layout, read};
use super::coding::Coding;
use super::*;

/// The content of a `fmt ` chunk: tag, channels, rate, bytes of a block, bits.
fn format(tag: u16, channels: u16, rate_hz: u32, block: u16, bits: u16) -> Vec<u8> {
    let words = [
        &tag.to_le_bytes()[..],
        &channels.to_le_bytes(),
        &rate_hz.to_le_bytes(),
    ];
    let mut bytes = words.concat();
    bytes.extend((rate_hz * u32::from(block)).to_le_bytes());
    bytes.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    bytes
}

fn chunk(name: &[u8; 4], size: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = [&name[..], &size.to_le_bytes(), content].concat();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

fn whole(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    chunk(name, content.len() as u32, content)
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let content = chunks.concat();
    let size = content.len() as u32 + 4;
    [&b"RIFF"[..], &size.to_le_bytes(), b"WAVE", &content].concat()
}

fn layout(bytes: &[u8]) -> Option<Layout> {
    read(&mut Cursor::new(bytes), bytes.len() as u64)
}

/// The chunk `fmt ` of mono 16-bit sound at 8 kHz.
fn plain() -> Vec<u8> {
    whole(b"fmt ", &format(1, 1, 8_000, 2, 16))
}

#[test]
fn odd_lengths_tags_and_missing_pad_bytes_lose_no_samples() {
    let coded = whole(b"fmt ", &format(1, 1, 8_000, 3, 24));
    let padded = riff(&[
        whole(b"LIST", b"INFOISFT"),
        coded.clone(),
        whole(b"data", &[1; 3003]),
    ]);
    let found = layout(&padded).unwrap();
    assert_eq!(
        (found.frames, found.missing, found.stated_frames),
        (1001, false, None)
    );
    assert_eq!(found.coding, Coding::Raw("S24LE", 3));
    let bare = layout(&padded[..padded.len() - 1]).unwrap();
    assert_eq!((bare.frames, bare.missing), (1001, false));
    let tagged = riff(&[
        coded,
        whole(b"data", &[1; 3003]),
        whole(b"id3 ", &[9; 40_001]),
    ]);
    assert_eq!(layout(&tagged).unwrap().frames, 1001);
}

#[test]
fn placeholder_lengths_differ_from_truncation() {
    for stated in [0, u32::MAX, 0x7fff_ffff, 0x7fff_f000, 0x8000_0000] {
        let found = layout(&riff(&[plain(), chunk(b"data", stated, &[1; 4000])])).unwrap();
        assert_eq!(
            (found.frames, found.missing, found.stated_frames),
            (2000, false, None)
        );
    }
    let cut = riff(&[plain(), chunk(b"data", 9000, &[1; 4002])]);
    let found = layout(&cut[..cut.len() - 1]).unwrap();
    assert_eq!((found.frames, found.missing), (2000, true));
}

#[test]
fn sound_after_the_stated_end_is_played_and_noted() {
    let under = riff(&[plain(), chunk(b"data", 16_001, &[0; 48_000])]);
    let found = layout(&under).unwrap();
    assert_eq!((found.frames, found.stated_frames), (24_000, Some(8_000)));
    // A few bytes after the end are not sound.
    let rest = riff(&[plain(), chunk(b"data", 16_000, &[0; 16_128])]);
    assert_eq!(layout(&rest).unwrap().frames, 8_000);
}

#[test]
fn long_files_have_64_bit_lengths() {
    let mut sizes = vec![0u8; 28];
    sizes[8..16].copy_from_slice(&4000u64.to_le_bytes());
    let data = chunk(b"data", u32::MAX, &[1; 4000]);
    let content = [
        whole(b"ds64", &sizes),
        plain(),
        data,
        whole(b"LIST", &[0; 64_000]),
    ]
    .concat();
    for name in [b"RF64", b"BW64"] {
        let bytes = [&name[..], &u32::MAX.to_le_bytes(), b"WAVE", &content].concat();
        assert_eq!(layout(&bytes).unwrap().frames, 2000);
    }
    let guid = |name: &[u8; 4], rest: &str| {
        let rest = (0..12).map(|n| u8::from_str_radix(&rest[2 * n..2 * n + 2], 16).unwrap());
        name.iter().copied().chain(rest).collect::<Vec<u8>>()
    };
    let usual = "f3acd3118cd100c04f8edb8a";
    let mut wide = guid(b"riff", "2e91cf11a5d628db04c10000");
    wide.extend(5000u64.to_le_bytes());
    wide.extend(guid(b"wave", usual));
    for (name, content) in [
        (b"fmt ", format(1, 1, 8_000, 2, 16)),
        (b"data", vec![1; 4000]),
    ] {
        wide.extend(guid(name, usual));
        wide.extend((content.len() as u64 + 24).to_le_bytes());
        wide.extend(content);
    }
    assert_eq!(layout(&wide).unwrap().frames, 2000);
}

#[test]
fn channel_positions_are_those_of_the_file_or_none() {
    let of = |channels: u16, mask: u32| {
        let mut content = format(0xfffe, channels, 16_000, 2 * channels, 16);
        content.extend([22, 0, 16, 0]);
        content.extend(mask.to_le_bytes());
        content.extend([
            1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71,
        ]);
        let bytes = riff(&[whole(b"fmt ", &content), whole(b"data", &[0; 64])]);
        layout(&bytes).unwrap().caps().to_string()
    };
    crate::capture::pipeline::init();
    assert!(of(6, 0x60f).contains("channel-mask=(bitmask)0x0000000000000c0f"));
    assert!(of(10, 0).contains("channel-mask=(bitmask)0x0000000000000000"));
    assert!(of(2, 0).contains("channel-mask=(bitmask)0x0000000000000003"));
    assert!(!of(1, 4).contains("mask"));
}

/// The stamps of ADPCM follow from the number of samples in its blocks.
#[test]
fn blocks_are_stamped_by_their_samples() {
    crate::capture::pipeline::init();
    let mut content = format(0x11, 1, 16_000, 256, 4);
    content.extend([2, 0, 0xf9, 1]);
    let fact = whole(b"fact", &1300u32.to_le_bytes());
    let bytes = riff(&[
        whole(b"fmt ", &content),
        fact,
        whole(b"data", &[0; 3 * 256]),
    ]);
    let found = layout(&bytes).unwrap();
    assert_eq!(found.frames, 1300);
    let (mut file, mut next, mut stamps) = (Cursor::new(bytes), 0, Vec::new());
    while let Some(piece) = buffer(&mut file, &found, &mut next) {
        stamps.push((piece.pts().unwrap().nseconds() / 1000, piece.size() / 2));
    }
    assert_eq!(stamps, [(0, 505), (31_562, 505), (63_125, 290)]);
}

proptest! {
    /// For any content after the header, reading ends and stays within the file.
    #[test]
    fn any_bytes_are_read_or_refused(
        rest in prop::collection::vec(any::<u8>(), 0..600),
        wide in any::<bool>(),
    ) {
        crate::capture::pipeline::init();
        let mut bytes = if wide { b"RF64".to_vec() } else { b"RIFF".to_vec() };
        bytes.extend(b"\x10\0\0\0WAVE");
        bytes.extend(&rest);
        check(&bytes);
    }

    #[test]
    fn any_damage_is_read_or_refused(
        at in 0usize..200,
        byte in any::<u8>(),
        tag in 0u16..20,
        bits in 0u16..70,
    ) {
        crate::capture::pipeline::init();
        let content = format(tag, 2, 16_000, 64, bits);
        let mut bytes = riff(&[whole(b"fmt ", &content), whole(b"data", &[7; 500])]);
        let at = at % bytes.len();
        bytes[at] = byte;
        check(&bytes);
    }
}

fn check(bytes: &[u8]) {
    let Some(found) = layout(bytes) else { return };
    assert!(found.start <= found.end || found.frames == 0);
    let (mut file, mut next, mut pieces) = (Cursor::new(bytes), 0, 0);
    while buffer(&mut file, &found, &mut next).is_some() {
        pieces += 1;
        assert!(pieces <= bytes.len(), "it ends");
    }
    assert!(next <= found.frames);
}
