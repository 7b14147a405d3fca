//! Tests with the demonstration recording, original and modified, and with small synthetic files.

mod fuzz;

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::testing::mp4::{overwrite, with_edits};
use crate::testing::project;

fn demo() -> Vec<u8> {
    std::fs::read(project("config/demo/demo.mp4")).unwrap()
}

fn tables(bytes: &[u8]) -> Option<Tables> {
    Tables::read_from(&mut Cursor::new(bytes), bytes.len() as u64)
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 * 1e-9
}

#[test]
fn a_normal_file_needs_no_patch() {
    let found = tables(&demo()).unwrap();
    assert!(found.patches.is_empty() && found.unsupported.is_none());
    assert_eq!(found.is_truncated, Some(false));
    let facts: Vec<_> = (found.tracks.iter())
        .map(|track| {
            (
                track.kind,
                track.codec.as_str(),
                track.samples,
                track.default,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            (TrackKind::Video, "vp09", Some(492), true),
            (TrackKind::Audio, "Opus", Some(984), true)
        ]
    );
    for track in &found.tracks {
        assert!(
            (seconds(track.end_nanos.unwrap()) - 19.68).abs() < 0.02,
            "{track:?}"
        );
        assert!(track.edits.is_none());
    }
    assert!(
        found
            .named("0a1b/002")
            .is_some_and(|track| track.kind == TrackKind::Audio)
    );
    assert!(found.named("0a1b/009").is_none());
}

#[test]
fn truncation_is_measured_by_the_samples() {
    let whole = demo();
    let mut tagged = whole.clone();
    tagged.extend([&b"TAG"[..], &[b' '; 125]].concat());
    assert_eq!(tables(&tagged).unwrap().is_truncated, Some(false));
    let cut = &whole[..whole.len() * 3 / 4];
    assert_eq!(tables(cut).unwrap().is_truncated, Some(true));
}

#[test]
fn edits_that_the_demuxer_loses_are_hidden_from_it() {
    // The edits leave out two seconds at the start, and three in the middle.
    let video: &[(u32, i32)] = &[(3000, 25_600), (5000, 102_400)];
    let audio: &[(u32, i32)] = &[(3000, 96_312), (5000, 384_312)];
    let found = tables(&with_edits(&demo(), &[video, audio])).unwrap();
    assert_eq!(
        found
            .patches
            .iter()
            .filter(|patch| patch.bytes == b"free")
            .count(),
        2
    );
    for track in &found.tracks {
        let edits = &track.edits.as_ref().unwrap().0;
        assert_eq!(edits.len(), 2);
        assert_eq!((edits[0].presented, edits[1].presented), (0, 3_000_000_000));
        assert!(
            (seconds(edits[1].media_start) - 8.0).abs() < 0.01,
            "{edits:?}"
        );
        assert_eq!(track.end_nanos, Some(8_000_000_000));
    }
    // A short delay and an encoder's priming are left to the demuxer.
    let usual: [&[(u32, i32)]; 2] = [&[(500, -1), (19_680, 0)], &[(19_680, 312)]];
    let found = tables(&with_edits(&demo(), &usual)).unwrap();
    assert!(found.patches.is_empty());
    assert_eq!(found.tracks[0].start_nanos, 500_000_000);
    let backwards: [&[(u32, i32)]; 2] = [&[(1000, 128_000), (1000, 0)], &[(2000, 312)]];
    let found = tables(&with_edits(&demo(), &backwards)).unwrap();
    assert!(found.unsupported.unwrap().contains("picture track"));
}

#[test]
fn durations_that_are_too_short_are_raised() {
    let mut film = demo();
    overwrite(&mut film, b"mdhd", 0, 16, &8_000u32.to_be_bytes());
    let found = tables(&film).unwrap();
    assert_eq!(found.patches.len(), 1);
    assert!(u32::from_be_bytes(found.patches[0].bytes[..].try_into().unwrap()) >= 251_904);
    assert!((seconds(found.tracks[0].end_nanos.unwrap()) - 19.68).abs() < 0.02);
}

/// An EBML element.
fn element(id: u32, content: &[u8]) -> Vec<u8> {
    let id: Vec<u8> = id
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect();
    let size = (content.len() as u32 | 0x1000_0000).to_be_bytes();
    [&id[..], &size, content].concat()
}

/// Matroska with a picture track and a subtitle track, blocks as `(track, milliseconds)`.
fn matroska(blocks: &[(u8, u16)]) -> Vec<u8> {
    let track = |number: u8, kind: u8, codec: &[u8]| {
        let fields = [
            element(0xd7, &[number]),
            element(0x83, &[kind]),
            element(0x86, codec),
        ];
        element(0xae, &fields.concat())
    };
    let tracks = [track(1, 1, b"V_VP8"), track(2, 0x11, b"S_TEXT/UTF8")].concat();
    let mut cluster = element(0xe7, &3_600_000u32.to_be_bytes());
    for (track, millis) in blocks {
        let [high, low] = millis.to_be_bytes();
        cluster.extend(element(0xa3, &[0x80 | track, high, low, 0x80, 1, 2, 3]));
    }
    let segment = [
        element(0x1654_ae6b, &tracks),
        element(0x1f43_b675, &cluster),
    ]
    .concat();
    [element(0x1a45_dfa3, b""), element(0x1853_8067, &segment)].concat()
}

#[test]
fn matroska_is_measured_from_its_first_block() {
    let pictures = (0..50u16).map(|index| (1, 40 * index));
    let blocks: Vec<_> = pictures.chain([(2, 30_000)]).collect();
    let whole = matroska(&blocks);
    let found = tables(&whole).unwrap();
    assert_eq!(seconds(found.origin_nanos), 3600.0);
    assert_eq!(found.end_nanos(), Some(2_000_000_000));
    assert_eq!(found.is_truncated, Some(false));
    assert_eq!(
        (found.tracks[0].samples, found.tracks[0].codec.as_str()),
        (Some(50), "V_VP8")
    );
    assert_eq!(
        tables(&whole[..whole.len() - 5]).unwrap().is_truncated,
        Some(true)
    );
    // Blocks of an appended recording do not count.
    let both = [whole.clone(), whole].concat();
    assert_eq!(tables(&both).unwrap().tracks[0].samples, Some(50));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Readers of damaged files return tables or `None`, and do not panic.
    #[test]
    fn any_damage_is_read_or_refused(
        places in prop::collection::vec((any::<u32>(), any::<u8>()), 1..12),
    ) {
        let mut film = demo();
        // The index is at the start of the file.
        film.truncate(14_000);
        for (place, byte) in &places {
            let at = *place as usize % 12_000;
            film[at] = *byte;
        }
        let _ = tables(&film);
        let mut film = matroska(&[(1, 0), (1, 40), (2, 80)]);
        for (place, byte) in places {
            let at = place as usize % film.len();
            film[at] = byte;
        }
        let _ = tables(&film);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 0usize..4,
        rest in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let heads: [&[u8]; 4] = [
            b"\0\0\0\x08ftyp\0\0\x01\0moov",
            b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
            b"RIFF\0\x01\0\0AVI LIST\0\x01\0\0hdrl",
            b"\xff\xd8\xff\xe1",
        ];
        let _ = tables(&[heads[kind], &rest[..]].concat());
    }
}
