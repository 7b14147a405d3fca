//! Tests of WAV files with every coding, and with wrong headers.

use std::path::Path;

use expressd::capture::{CaptureError, Pace};

use crate::decoder::ffmpeg;
use crate::generate::tone;
use crate::playback::{DecodedRecording, play};

/// A mono WAV file with 16-bit samples. `stated` is the length in bytes in the header of its `data`
/// chunk; `None`: the true length.
fn wav(rate_hz: u32, samples: &[f32], stated: Option<u32>) -> Vec<u8> {
    let data: Vec<u8> = (samples.iter())
        .flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes())
        .collect();
    let size = data.len() as u32;
    let mut bytes = [
        &b"RIFF"[..],
        &(size + 36).to_le_bytes(),
        b"WAVEfmt \x10\0\0\0\x01\0\x01\0",
    ]
    .concat();
    bytes.extend([rate_hz.to_le_bytes(), (2 * rate_hz).to_le_bytes()].concat());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(stated.unwrap_or(size).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Writes `bytes` to a file and decodes it.
fn play_bytes(folder: &Path, name: &str, bytes: &[u8]) -> DecodedRecording {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    play(&path, Pace::Offline).unwrap_or_else(|error| panic!("{error}"))
}

/// Expects two seconds of a 500 Hz tone at 16 kHz: complete, from time 0 on, in blocks of 20 ms
/// without a gap.
fn check(decoded: &DecodedRecording, what: &str) {
    if let Err(error) = &decoded.outcome {
        panic!("{what}: {error}");
    }
    // Codings with adaptive prediction (ADPCM) pad their last block.
    let count = decoded.samples.len();
    assert!((31_600..33_100).contains(&count), "{what}: {count} samples");
    let crossings = decoded.samples[4_000..28_000].windows(2);
    let crossings = crossings
        .filter(|pair| pair[0] <= 0.0 && pair[1] > 0.0)
        .count();
    assert!(
        (748..=752).contains(&crossings),
        "{what}: {crossings} periods of 750"
    );
    assert_eq!(decoded.block_times[0].nanos(), 0, "{what}");
    let gaps = decoded
        .block_times
        .windows(2)
        .filter(|pair| pair[1].nanos_since(pair[0]) != 20_000_000);
    assert_eq!(gaps.count(), 0, "{what}: blocks follow each other");
}

#[test]
fn every_coding_is_decoded_completely_and_in_time() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("tone.wav"),
        wav(16_000, &tone(16_000, 500.0, 2.0), None),
    )
    .unwrap();
    for (coding, ending, more) in [
        ("pcm_u8", "wav", &[][..]),
        ("pcm_s24le", "wav", &["-af", "atrim=end_sample=31999"]),
        ("pcm_s32le", "wav", &[]),
        ("pcm_f32le", "wav", &[]),
        ("pcm_f64le", "wav", &["-ar", "44100"]),
        (
            "pcm_alaw",
            "wav",
            &["-af", "aresample=8000,atrim=end_sample=15999"],
        ),
        ("pcm_mulaw", "wav", &["-ar", "8000"]),
        ("adpcm_ima_wav", "wav", &[]),
        ("adpcm_ms", "wav", &["-ac", "2"]),
        ("adpcm_ima_wav", "wav", &["-ac", "2", "-ar", "22050"]),
        ("pcm_s16le", "w64", &[]),
        ("pcm_s16le", "wav", &["-rf64", "always"]),
        ("pcm_s16le", "wav", &["-ac", "6"]),
    ] {
        let name = format!("coded.{ending}");
        let args = [
            &["-i", "tone.wav", "-c:a", coding],
            more,
            &["-f", ending, &name],
        ]
        .concat();
        ffmpeg(folder.path(), &args);
        let decoded = play(&folder.path().join(name), Pace::Offline).unwrap();
        check(&decoded, &format!("{coding} {ending} {more:?}"));
    }
}

#[test]
fn a_wrong_length_in_a_header_is_replaced_by_the_length_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let samples = tone(16_000, 500.0, 2.0);
    let whole = play_bytes(folder.path(), "whole.wav", &wav(16_000, &samples, None));
    check(&whole, "as it should be");
    for stated in [0, u32::MAX, 0x7fff_f000, 0x7fff_ffff, 30_001] {
        let decoded = play_bytes(
            folder.path(),
            "stated.wav",
            &wav(16_000, &samples, Some(stated)),
        );
        check(&decoded, &format!("{stated} bytes stated"));
        assert_eq!(decoded.digest, whole.digest, "{stated} bytes stated");
    }
    let cut = wav(16_000, &samples, Some(96_000));
    let decoded = play_bytes(folder.path(), "cut.wav", &cut[..cut.len() - 1]);
    assert!(decoded.samples.len() > 31_900);
    assert!(
        matches!(decoded.outcome, Err(CaptureError::Cut { .. })),
        "{:?}",
        decoded.outcome
    );
}

#[test]
fn many_channels_without_a_layout_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let samples = tone(16_000, 500.0, 2.0);
    for channels in [3u16, 10] {
        let mut bytes = wav(16_000, &samples, None);
        let data = bytes.split_off(44);
        let many: Vec<u8> = (data.chunks_exact(2))
            .flat_map(|sample| sample.repeat(usize::from(channels)))
            .collect();
        bytes[22..24].copy_from_slice(&channels.to_le_bytes());
        bytes[32..34].copy_from_slice(&(2 * channels).to_le_bytes());
        bytes[40..44].copy_from_slice(&(many.len() as u32).to_le_bytes());
        bytes.extend(many);
        check(
            &play_bytes(folder.path(), "many.wav", &bytes),
            &format!("{channels} channels"),
        );
    }
}
