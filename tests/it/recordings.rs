//! Tests of the decoding of recordings: real and generated, whole and damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::generate::{AAC, H264, Pictures, Sound, frames_at_25_hz, generate, grey, tone};
use crate::playback::{DecodedRecording, play};
use expressd::capture::{CaptureError, Outputs, Pace, Recording};
use expressd::lane::{Received, WhenFull, lane};
use expressd::testing::material;
use expressd::time::MediaTime;

/// Adds all MP4, MPEG and MOV files in `folder` and its subfolders to `found`.
fn media_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            media_files(&path, found);
        } else if path
            .extension()
            .is_some_and(|e| ["mp4", "mpg", "mov"].iter().any(|m| e == *m))
        {
            found.push(path);
        }
    }
}

#[test]
fn every_recording_of_the_material_is_decoded_completely() {
    let Some(folder) = material("av") else { return };
    let mut files = Vec::new();
    media_files(&folder, &mut files);
    assert!(files.len() > 60, "{files:?}");
    let mut loud = 0;
    for path in &files {
        let decoded = play(path, Pace::Offline).unwrap_or_else(|e| panic!("{e}"));
        let played = decoded.outcome.unwrap_or_else(|e| panic!("{e}"));
        println!(
            "{}: {} frames {:?}, {:.3} s of sound, end {:?}, first frame {:?}, first block {:?}, \
             took {:.2} s",
            path.strip_prefix(&folder).unwrap().display(),
            decoded.frame_times.len(),
            decoded.sizes.first(),
            decoded.samples.len() as f64 / 16e3,
            played.end,
            decoded.frame_times.first(),
            decoded.block_times.first(),
            decoded.wall_seconds
        );
        assert_eq!(
            (played.video_frames, played.audio_samples),
            (
                decoded.frame_times.len() as u64,
                decoded.samples.len() as u64
            )
        );
        assert!(
            decoded.frame_times.is_sorted_by(|a, b| a < b)
                && decoded.block_times.is_sorted_by(|a, b| a < b)
        );
        assert!(decoded.frame_times.len() >= 20, "{}", path.display());
        let silent = path.to_string_lossy().contains("silent");
        assert_eq!(decoded.samples.is_empty(), silent, "{}", path.display());
        assert!(decoded.samples.iter().all(|s| s.abs() < 4.0));
        loud += usize::from(decoded.samples.iter().any(|s| s.abs() > 0.01));
        // Video and audio of a recording end at about the same time.
        assert!(
            silent
                || (decoded.frame_times.last().unwrap().secs_f64()
                    - decoded.block_times.last().unwrap().secs_f64())
                .abs()
                    < 0.3,
            "{}",
            path.display()
        );
    }
    // Nine recordings have no sound track, a few have a silent one.
    assert!(
        loud >= files.len() - 12,
        "{loud} of {} have sound",
        files.len()
    );
}

#[test]
fn sound_of_every_rate_keeps_its_pitch_and_length() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (rate_hz, channels, encoder, muxer)) in [
        (8_000, 1, "identity", "wavenc"),
        (16_000, 2, "identity", "wavenc"),
        (44_100, 2, "flacenc ! flacparse", "matroskamux"),
        (48_000, 1, "opusenc", "oggmux"),
        (48_000, 2, AAC, "mp4mux"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{index}.media"));
        generate(
            &path,
            muxer,
            None,
            Some(Sound {
                rate_hz,
                channels,
                encoder,
                samples: tone(rate_hz, 500.0, 2.0),
                begins_ms: 0,
            }),
        );
        let decoded = play(&path, Pace::Offline).unwrap();
        let what = format!("{rate_hz} Hz, {channels} channels, {encoder}, {muxer}");
        decoded.outcome.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(decoded.frame_times.is_empty());
        assert!(
            (decoded.samples.len() as f64 - 32_000.0).abs() < 1_200.0,
            "{what}: {} samples",
            decoded.samples.len()
        );
        let crossings = decoded.samples[4_000..28_000]
            .windows(2)
            .filter(|w| w[0] <= 0.0 && w[1] > 0.0)
            .count();
        assert!(
            (748..=752).contains(&crossings),
            "{what}: {crossings} periods of 750"
        );
    }
}

#[test]
fn odd_sizes_and_variable_rates_keep_every_frame_and_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.webm");
    let millis = [0u64, 40, 55, 200, 233, 900, 901, 1000];
    let frames = millis
        .iter()
        .enumerate()
        .map(|(n, at)| (*at, [40 + 20 * n as u8; 2]))
        .collect();
    generate(
        &path,
        "webmmux",
        Some(Pictures {
            size: (161, 121),
            encoder: "vp8enc min-quantizer=0 max-quantizer=8 deadline=1 lag-in-frames=0",
            frames,
        }),
        None,
    );
    let decoded = play(&path, Pace::Offline).unwrap();
    decoded.outcome.unwrap();
    assert!(decoded.samples.is_empty());
    assert!(
        decoded.sizes.iter().all(|size| *size == (161, 121)),
        "{:?}",
        decoded.sizes
    );
    let stamps: Vec<u64> = decoded
        .frame_times
        .iter()
        .map(|time| time.nanos() as u64 / 1_000_000)
        .collect();
    assert_eq!(stamps, millis);
    for (n, luma) in decoded.lumas.iter().enumerate() {
        assert!(
            (luma - (40.0 + 20.0 * n as f64)).abs() < 4.0,
            "frame {n}: {luma}"
        );
    }
}

#[test]
fn a_rotated_recording_is_decoded_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rotated.mp4");
    generate(
        &path,
        "mp4mux",
        Some(Pictures {
            size: (128, 64),
            encoder: H264,
            frames: (0..10).map(|n| (n * 40, [200, 30])).collect(),
        }),
        None,
    );
    // The track header gets the matrix that a phone in upright position writes: a quarter turn
    // clockwise.
    let mut bytes = std::fs::read(&path).unwrap();
    let matrix = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4 + 40;
    for (at, value) in [(0, 0), (4, 1), (12, -1), (16, 0)] {
        bytes[matrix + at..matrix + at + 4].copy_from_slice(&(value * 0x1_0000i32).to_be_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let recording = Recording::open(&path).unwrap();
    let (frames, out) = lane("frames", 20, WhenFull::Block);
    recording
        .play(
            Pace::Offline,
            Outputs {
                frames: Some(frames),
                audio: None,
            },
            Arc::default(),
            Arc::default(),
        )
        .unwrap();
    let Received::Item(frame) = out.recv(None) else {
        panic!("no frame")
    };
    let picture = &frame.picture;
    assert_eq!((picture.width, picture.height), (64, 128));
    // The left half of the stored picture is the upper half of the upright one.
    assert!(
        picture.luma_row(8)[32] > 180 && picture.luma_row(120)[32] < 50,
        "{} {}",
        picture.luma_row(8)[32],
        picture.luma_row(120)[32]
    );
}

#[test]
fn a_flash_and_a_beep_stay_synchronous() {
    let folder = tempfile::tempdir().unwrap();
    for (name, muxer, video, audio) in [
        ("a.mov", "qtmux", H264, "identity"),
        ("b.mkv", "matroskamux", H264, "flacenc ! flacparse"),
        ("c.avi", "avimux", "jpegenc", "identity"),
    ] {
        let path = folder.path().join(name);
        let frames = frames_at_25_hz(75, |n| if (30..35).contains(&n) { 235 } else { 16 });
        let samples = tone(44_100, 1000.0, 3.0)
            .iter()
            .enumerate()
            .map(|(n, s)| {
                if (52_920..61_740).contains(&n) {
                    *s
                } else {
                    0.0
                }
            })
            .collect();
        generate(
            &path,
            muxer,
            Some(Pictures {
                size: (160, 120),
                encoder: video,
                frames,
            }),
            Some(Sound {
                rate_hz: 44_100,
                channels: 2,
                encoder: audio,
                samples,
                begins_ms: 0,
            }),
        );
        let decoded = play(&path, Pace::Offline).unwrap();
        let flash =
            decoded.frame_times[decoded.lumas.iter().position(|luma| *luma > 120.0).unwrap()];
        let onset = decoded.samples.iter().position(|s| s.abs() > 0.1).unwrap();
        let beep = decoded.block_times[onset / 320].plus_nanos((onset % 320) as i64 * 62_500);
        let skew_ms = beep.millis_since(flash);
        println!("{name}: flash at {flash:?}, beep {skew_ms:+.2} ms from it");
        assert!(
            (flash.millis_since(MediaTime::from_millis(1200))).abs() < 1.0,
            "{name}: {flash:?}"
        );
        assert!(skew_ms.abs() < 5.0, "{name}: {skew_ms} ms");
        decoded.outcome.unwrap();
    }
}

#[test]
fn the_same_recording_gives_the_same_bits_at_every_pace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.mp4");
    generate(
        &path,
        "mp4mux",
        Some(grey((320, 240), H264, 50)),
        Some(Sound {
            rate_hz: 44_100,
            channels: 2,
            encoder: AAC,
            samples: tone(44_100, 700.0, 2.0),
            begins_ms: 0,
        }),
    );
    let first = play(&path, Pace::Offline).unwrap();
    assert_eq!(first.outcome.as_ref().unwrap().video_frames, 50);
    for pace in [Pace::Offline, Pace::Offline, Pace::Realtime] {
        let again = play(&path, pace.clone()).unwrap();
        assert_eq!(first.digest, again.digest, "{pace:?}");
        if matches!(pace, Pace::Realtime) {
            assert!(again.wall_seconds > 1.9, "{} s", again.wall_seconds);
        }
    }
    let Some(real) = material("av/several_people/hamilton.mp4") else {
        return;
    };
    assert_eq!(
        play(&real, Pace::Offline).unwrap().digest,
        play(&real, Pace::Offline).unwrap().digest
    );
}

#[test]
fn bad_files_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let refusal = |path: &Path| {
        Recording::open(path)
            .err()
            .unwrap_or_else(|| panic!("{} opened", path.display()))
    };
    assert!(matches!(
        refusal(&folder.path().join("none.mp4")),
        CaptureError::NoSuchFile(_)
    ));
    for path in [
        file("empty.mp4", b""),
        file(
            "text.mp4",
            b"This is a text, whatever its name says.\n"
                .repeat(20)
                .as_slice(),
        ),
        file("noise.mp4", &[0x5a; 4000]),
        folder.path().to_owned(),
    ] {
        let error = refusal(&path);
        println!("{error}");
        assert!(matches!(error, CaptureError::Unreadable { .. }), "{error}");
    }
    // Without the index at the end of the file nothing can be decoded.
    let whole = folder.path().join("whole.mp4");
    generate(&whole, "mp4mux", Some(grey((160, 120), H264, 50)), None);
    let bytes = std::fs::read(&whole).unwrap();
    let error = refusal(&file("headless.mp4", &bytes[..bytes.len() / 2]));
    println!("{error}");
    assert!(matches!(error, CaptureError::Unreadable { .. }), "{error}");
}

/// Plays the first `share` (in [0, 1]) of a file's bytes, which must end with
/// [`CaptureError::Cut`].
fn play_cut(path: &Path, share: f64) -> DecodedRecording {
    let bytes = std::fs::read(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join(path.file_name().unwrap());
    std::fs::write(&short, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
    let decoded = play(&short, Pace::Offline).unwrap_or_else(|e| panic!("{e}"));
    match &decoded.outcome {
        Err(error @ CaptureError::Cut { .. }) => println!("{error}"),
        other => panic!("{}: {other:?}", path.display()),
    }
    decoded
}

#[test]
fn a_truncated_recording_is_decoded_to_its_end_and_then_reported() {
    let folder = tempfile::tempdir().unwrap();
    let sound = |encoder| {
        Some(Sound {
            rate_hz: 44_100,
            channels: 2,
            encoder,
            samples: tone(44_100, 700.0, 4.0),
            begins_ms: 0,
        })
    };
    for (name, muxer, encoder) in [
        ("faststart.mp4", "mp4mux faststart=true", AAC),
        ("cut.mkv", "matroskamux", "flacenc ! flacparse"),
        ("cut.avi", "avimux", "identity"),
    ] {
        let path = folder.path().join(name);
        let video = if name == "cut.avi" { "jpegenc" } else { H264 };
        generate(
            &path,
            muxer,
            Some(grey((160, 120), video, 100)),
            sound(encoder),
        );
        let decoded = play_cut(&path, 0.6);
        assert!(
            (30..90).contains(&decoded.frame_times.len()),
            "{name}: {} frames",
            decoded.frame_times.len()
        );
        assert!(
            (16_000..60_000).contains(&decoded.samples.len()),
            "{name}: {} samples",
            decoded.samples.len()
        );
    }
    for path in ["av/not_faces/cartoon_neutral.mp4", "av/grid_s1/bbaf3s.mpg"]
        .iter()
        .filter_map(|p| material(p))
    {
        assert!(
            play_cut(&path, 0.55).frame_times.len() > 20,
            "{}",
            path.display()
        );
    }
    if let Some(path) = material("speech/ravdess/Actor_01")
        .and_then(|folder| std::fs::read_dir(folder).unwrap().next())
    {
        let decoded = play_cut(&path.unwrap().path(), 0.5);
        assert!(decoded.frame_times.is_empty() && decoded.samples.len() > 8_000);
    }
}
