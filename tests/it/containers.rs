//! Tests of containers with unusual tables: edit lists, wrong durations, tags after the media,
//! tracks without a decoder, still images.

use std::path::{Path, PathBuf};

use expressd::capture::{CaptureError, Pace, Recording};
use expressd::testing::mp4::{overwrite, with_edits};

use crate::decoder::ffmpeg;
use crate::harness::{command, demo, expressd, of_type, replay, stderr};
use crate::playback::{DecodedRecording, play};

/// Writes a file; returns its path.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The bytes of the demonstration recording.
fn film() -> Vec<u8> {
    std::fs::read(demo()).unwrap()
}

/// Plays a recording, which must not fail.
fn play_whole(path: &Path) -> DecodedRecording {
    let decoded = play(path, Pace::Offline).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = &decoded.outcome {
        panic!("{error}");
    }
    decoded
}

/// Time of each frame, in milliseconds.
fn millis(decoded: &DecodedRecording) -> Vec<i64> {
    let nanos = decoded.frame_times.iter().map(|time| time.nanos());
    nanos.map(|nanos| (nanos + 500_000) / 1_000_000).collect()
}

/// Root mean square of the difference of two signals, divided by that of the first.
fn difference(one: &[f32], other: &[f32]) -> f64 {
    let energy = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>()
    };
    assert_eq!(one.len(), other.len());
    let difference = energy(&mut one.iter().zip(other).map(|(a, b)| a - b));
    (difference / energy(&mut one.iter().copied()).max(1e-9)).sqrt()
}

#[test]
fn every_part_of_an_edit_list_is_played_at_its_presentation_time() {
    let folder = tempfile::tempdir().unwrap();
    let whole = play_whole(&demo());
    // The edit lists: one empty second, then 3 s from 2 s on, then 5 s from 8 s on.
    let video: &[(u32, i32)] = &[(1000, -1), (3000, 25_600), (5000, 102_400)];
    let audio: &[(u32, i32)] = &[(1000, -1), (3000, 96_312), (5000, 384_312)];
    let edited = write(
        folder.path(),
        "edits.mp4",
        &with_edits(&film(), &[video, audio]),
    );
    let decoded = play_whole(&edited);
    let wanted: Vec<i64> = (0..200).map(|index| 1000 + 40 * index).collect();
    assert_eq!(millis(&decoded), wanted);
    let lumas: Vec<f64> = [&whole.lumas[50..125], &whole.lumas[200..325]].concat();
    let worst = lumas
        .iter()
        .zip(&decoded.lumas)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-9, "the same pictures: {worst}");
    assert!(
        (decoded.samples.len() as i64 - 128_000).abs() < 400,
        "{}",
        decoded.samples.len()
    );
    assert!((decoded.block_times[0].secs_f64() - 1.0).abs() < 0.001);
    // The samples equal those of the whole recording, shifted by at most a few samples.
    for (at, from) in [(4_000, 36_000), (60_000, 140_000)] {
        let part = &decoded.samples[at..at + 32_000];
        let nearest = (from - 3..from + 4)
            .map(|start: usize| difference(part, &whole.samples[start..start + 32_000]))
            .fold(f64::MAX, f64::min);
        assert!(nearest < 0.2, "sound of {at}: {nearest}");
    }
}

#[test]
fn long_delays_and_wrong_durations_lose_no_track() {
    let folder = tempfile::tempdir().unwrap();
    let whole = play_whole(&demo());
    for delay in [20_000u32, 3_600_000] {
        let video = [(delay, -1), (19_680, 0)];
        let audio = [(delay, -1), (19_680, 312)];
        let bytes = with_edits(&film(), &[&video, &audio]);
        let decoded = play_whole(&write(folder.path(), "delayed.mp4", &bytes));
        assert_eq!(
            decoded.frame_times.len(),
            whole.frame_times.len(),
            "{delay} ms"
        );
        assert_eq!(millis(&decoded)[0], i64::from(delay));
        assert!(
            decoded.samples.len() + 800 > whole.samples.len(),
            "{delay} ms"
        );
    }
    // The stated durations of the film and of a track are wrong.
    for (kind, at, ticks) in [
        (b"mvhd", 16, 19_680 * 9),
        (b"mvhd", 16, 1000),
        (b"mdhd", 16, 8_000u32),
    ] {
        let mut bytes = film();
        overwrite(&mut bytes, kind, 0, at, &ticks.to_be_bytes());
        let decoded = play_whole(&write(folder.path(), "durations.mp4", &bytes));
        assert_eq!(
            decoded.frame_times.len(),
            whole.frame_times.len(),
            "{kind:?} {ticks}"
        );
        assert!(
            decoded.samples.len() + 2000 > whole.samples.len(),
            "{kind:?} {ticks}"
        );
    }
}

#[test]
fn edits_out_of_order_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let lists: [&[(u32, i32)]; 2] = [&[(1000, 128_000), (1000, 0)], &[(2000, 312)]];
    let path = write(folder.path(), "backwards.mp4", &with_edits(&film(), &lists));
    let error = Recording::open(&path)
        .expect_err("it is refused")
        .to_string();
    assert!(error.contains("edit list of its picture track"), "{error}");
}

#[test]
fn bytes_after_the_media_are_not_reported_as_truncation() {
    let folder = tempfile::tempdir().unwrap();
    let whole = play_whole(&demo());
    let mut tagged = film();
    tagged.extend([&b"TAG"[..], &[b' '; 125]].concat());
    let tagged = write(folder.path(), "tagged.mp4", &tagged);
    let words = "1\n00:00:01,000 --> 00:00:40,000\nstill there\n";
    std::fs::write(folder.path().join("words.srt"), words).unwrap();
    std::fs::copy(demo(), folder.path().join("demo.mp4")).unwrap();
    let subtitles = [
        "-i",
        "demo.mp4",
        "-i",
        "words.srt",
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
    ];
    ffmpeg(
        folder.path(),
        &[&subtitles[..], &["-c:s", "mov_text", "words.mp4"]].concat(),
    );
    ffmpeg(
        folder.path(),
        &[&subtitles[..], &["-c:s", "srt", "words.mkv"]].concat(),
    );
    let late = [
        "-i",
        "demo.mp4",
        "-c",
        "copy",
        "-output_ts_offset",
        "3600",
        "late.mkv",
    ];
    ffmpeg(folder.path(), &late);
    for path in [
        tagged,
        folder.path().join("words.mp4"),
        folder.path().join("words.mkv"),
        folder.path().join("late.mkv"),
    ] {
        let decoded = play_whole(&path);
        assert_eq!(
            decoded.frame_times.len(),
            whole.frame_times.len(),
            "{}",
            path.display()
        );
        assert!(
            decoded.frame_times[0].secs_f64() < 0.1,
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_track_without_a_decoder_is_reported_after_the_others_are_played() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = film();
    overwrite(&mut bytes, b"stsd", 0, 12, b"Zq9x");
    let path = write(folder.path(), "unknown.mp4", &bytes);
    let decoded = play(&path, Pace::Offline).unwrap();
    assert!(decoded.frame_times.is_empty() && decoded.samples.len() > 300_000);
    match decoded.outcome {
        Err(error @ CaptureError::Missing { .. }) => {
            let text = error.to_string();
            for part in [
                "picture track",
                "Zq9x",
                "delivered nothing",
                "gstreamer1.0-libav",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
        other => panic!("{other:?}"),
    }
    let (code, events, errors) = replay(&path, &[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(of_type(&events, "expression").count() > 3, "{errors}");
    assert!(errors.contains("unknown.mp4: played 19."), "{errors}");
}

/// A JPEG picture of the demonstration gets the orientation tag of a phone in upright position.
#[test]
fn a_photo_is_rotated_by_its_orientation_and_a_truncated_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(demo(), folder.path().join("demo.mp4")).unwrap();
    let still = [
        "-i",
        "demo.mp4",
        "-frames:v",
        "1",
        "-vf",
        "scale=320:240",
        "plain.jpg",
    ];
    ffmpeg(folder.path(), &still);
    let plain = std::fs::read(folder.path().join("plain.jpg")).unwrap();
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let size = (exif.len() as u16 + 2).to_be_bytes();
    let turned = [&plain[..2], &[0xff, 0xe1], &size, exif, &plain[2..]].concat();
    assert_eq!(
        play_whole(&write(folder.path(), "plain.jpg", &plain)).sizes,
        [(320, 240)]
    );
    assert_eq!(
        play_whole(&write(folder.path(), "turned.jpg", &turned)).sizes,
        [(240, 320)]
    );
    let cut = write(folder.path(), "cut.jpg", &plain[..plain.len() / 2]);
    let failed =
        play(&cut, Pace::Offline).map_or_else(|_| true, |decoded| decoded.outcome.is_err());
    assert!(failed, "a truncated picture is an error");
    let heif = write(
        folder.path(),
        "a.heic",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x10mdat01234567",
    );
    let error = Recording::open(&heif).expect_err("a photo").to_string();
    assert!(
        error.contains("HEIF photo") && !error.contains("truncated"),
        "{error}"
    );
}

#[test]
fn a_pipe_is_played_like_a_file() {
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let bytes = film();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
    let (piped, whole) = (play_whole(Path::new(&path)), play_whole(&demo()));
    writing.join().unwrap().unwrap();
    assert_eq!(piped.frame_times.len(), whole.frame_times.len());
    assert!(piped.samples.len() + 800 > whole.samples.len());
    let error = Recording::open("/dev/null")
        .expect_err("nothing")
        .to_string();
    assert!(error.contains("device"), "{error}");
}

#[test]
fn recordings_in_a_folder_are_recognised_by_content_and_summarised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::copy(demo(), path.join("GOPR0001.LRV")).unwrap();
    for (name, bytes) in [
        (
            "pointer.flv",
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"[..],
        ),
        ("session.TextGrid", b""),
        ("Thumbs.db", b"x"),
        ("desktop.ini", b"[ViewState]"),
        (".DS_Store", b"x"),
        ("photo.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ] {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let output = expressd(&["replay", path.to_str().unwrap(), "--jsonl", "-"]);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(
        errors.contains("5 of 6 files are not recordings by their content"),
        "{errors}"
    );
    assert!(errors.contains("among them pointer.flv"), "{errors}");
    let line = errors
        .lines()
        .find(|line| line.contains("GOPR0001.LRV: played 19."));
    let line = line.unwrap_or_else(|| panic!("no last line: {errors}"));
    for part in [
        "492 frames (",
        " with a face)",
        "s of sound (",
        "s of speech)",
        " events",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

/// The containers in this test have no tables of their tracks, so the demuxer reports the tracks.
#[test]
fn a_track_without_a_decoder_is_reported_in_containers_without_tables() {
    const PICTURES: &str =
        "theoradec,avdec_theora,mpeg2dec,avdec_mpeg2video,avdec_mpegvideo,avdec_flv,avdec_wmv2";
    const SOUND: &str = "vorbisdec,ivorbisdec,avdec_vorbis,mpg123audiodec,avdec_mp2float,avdec_mp3,\
                         avdec_mp3float,avdec_mp2,avdec_wmav2";
    let folder = tempfile::tempdir().unwrap();
    let film = demo();
    let film = film.to_str().unwrap();
    for (name, codecs) in [
        ("film.ogv", ["libtheora", "libvorbis"]),
        ("film.ts", ["mpeg2video", "mp2"]),
        ("film.flv", ["flv1", "libmp3lame"]),
        ("film.asf", ["wmv2", "wmav2"]),
    ] {
        let [video, audio] = codecs;
        let args = [
            "-i", film, "-t", "4", "-c:v", video, "-c:a", audio, "-ar", "44100", name,
        ];
        ffmpeg(folder.path(), &args);
        let path = folder.path().join(name);
        let (code, _, errors) = replay(&path, &[]);
        assert_eq!(code, Some(0), "{name}: {errors}");
        for (decoders, track) in [(PICTURES, "picture track"), (SOUND, "sound track")] {
            let ranks = decoders.replace(',', ":NONE,") + ":NONE";
            let output = command(&["replay", path.to_str().unwrap(), "--jsonl", "-"])
                .env("GST_PLUGIN_FEATURE_RANK", ranks)
                .output()
                .unwrap();
            let errors = stderr(&output);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{name}, no {track}: {errors}"
            );
            for part in [track, "delivered nothing", "the rest was played"] {
                assert!(errors.contains(part), "{name}, no {track}: {errors}");
            }
        }
    }
}
