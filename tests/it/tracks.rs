//! Tests of recordings with several tracks, cancelling channels, changing streams and wrong
//! timestamps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use expressd::capture::{Pace, SourceHealth};
use serde_json::Value;

use crate::decoder::ffmpeg;
use crate::harness::{demo, of_type, replay};
use crate::playback::play_with;

/// Creates `clip.mkv` in `folder` with the first five seconds of the demonstration.
fn clip(folder: &Path) -> PathBuf {
    let demo = demo();
    let demo = demo.to_str().unwrap();
    let (video, sound) = (["-c:v", "mpeg4", "-q:v", "4"], ["-c:a", "flac"]);
    let mut args = vec!["-i", demo, "-t", "5"];
    args.extend(video);
    args.extend(sound);
    args.push("clip.mkv");
    ffmpeg(folder, &args);
    folder.join("clip.mkv")
}

/// Summary of the events of a replay.
#[derive(Debug, PartialEq)]
struct ReplaySummary {
    /// Exit code.
    code: Option<i32>,
    /// Number of `expression` events that used the face.
    faces: usize,
    /// Number of `expression` events that used the voice.
    voices: usize,
    /// Ids of the subjects, sorted.
    subjects: Vec<String>,
    /// [Start of the first, end of the last] `expression` event, in nanoseconds.
    span: [i64; 2],
}

/// Replays `file` with the further arguments `more`; returns (summary, standard error).
fn summarise_replay(file: &Path, more: &[&str]) -> (ReplaySummary, String) {
    let (code, events, stderr) = replay(file, more);
    let used = |modality: &str| {
        of_type(&events, "expression")
            .filter(|event| event["modalities"][modality]["used"] == true)
            .count()
    };
    let mut subjects: Vec<String> = of_type(&events, "subject")
        .map(|event| event["subject"].as_str().unwrap().to_owned())
        .collect();
    subjects.sort();
    subjects.dedup();
    let times = |key: &str| -> Vec<i64> {
        let times = of_type(&events, "expression").map(|event: &Value| event[key].as_i64());
        times.map(Option::unwrap).collect()
    };
    let found = ReplaySummary {
        code,
        faces: used("face"),
        voices: used("voice"),
        subjects,
        span: [
            times("start_ns").into_iter().min().unwrap_or(0),
            times("end_ns").into_iter().max().unwrap_or(0),
        ],
    };
    (found, stderr)
}

#[test]
fn the_default_sound_track_is_played_and_another_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    // The first sound track is silent; the second is marked as default.
    ffmpeg(
        folder.path(),
        &[
            "-i",
            "clip.mkv",
            "-f",
            "lavfi",
            "-i",
            "anullsrc=r=48000:cl=mono",
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-map",
            "0:a",
            "-c:v",
            "copy",
            "-c:a",
            "flac",
            "-t",
            "5",
            "-disposition:a:0",
            "0",
            "-disposition:a:1",
            "default",
            "two.mkv",
        ],
    );
    let two = folder.path().join("two.mkv");
    let (played, stderr) = summarise_replay(&two, &[]);
    assert!(played.voices > 5 && played.faces > 5, "{played:?} {stderr}");
    let (second, _) = summarise_replay(&two, &["--set", "audio.track=2"]);
    assert_eq!(second, played);
    let (first, stderr) = summarise_replay(&two, &["--set", "audio.track=1"]);
    assert_eq!(
        (first.code, first.voices),
        (Some(0), 0),
        "{first:?} {stderr}"
    );
    assert!(first.faces > 5);
    let (third, stderr) = summarise_replay(&two, &["--set", "audio.track=3"]);
    assert_eq!(third.code, Some(2), "{stderr}");
    for part in [
        "audio.track = \"3\"",
        "two.mkv",
        "\"1\" (audio/x-flac)",
        "\"2\" (audio/x-flac, default)",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let (_, stderr) = summarise_replay(&two, &["--set", "audio.channel=2"]);
    assert!(stderr.contains("has 1 channels"), "{stderr}");
    let (_, stderr) = summarise_replay(&two, &["--set", "audio.channel=left"]);
    assert!(
        stderr.contains("\"auto\", \"mix\" or a number from 1 on"),
        "{stderr}"
    );
}

#[test]
fn a_cover_is_not_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    ffmpeg(
        folder.path(),
        &["-i", "clip.mkv", "-frames:v", "1", "cover.jpg"],
    );
    ffmpeg(
        folder.path(),
        &[
            "-i",
            "cover.jpg",
            "-i",
            "clip.mkv",
            "-map",
            "0:v",
            "-map",
            "1",
            "-c",
            "copy",
            "-disposition:v:0",
            "default",
            "-disposition:v:1",
            "0",
            "covered.mkv",
        ],
    );
    let covered = folder.path().join("covered.mkv");
    let (alone, _) = summarise_replay(&clip, &[]);
    assert!(alone.faces > 15, "{alone:?}");
    let (played, stderr) = summarise_replay(&covered, &[]);
    assert_eq!(played.faces, alone.faces, "{stderr}");
    let (cover, _) = summarise_replay(&covered, &["--set", "video.track=1"]);
    assert!(cover.faces < 3, "{cover:?}");
}

#[test]
fn if_channels_cancel_each_other_the_better_one_is_used() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    let mono = folder.path().join("mono.wav");
    let inverted = folder.path().join("inverted.flac");
    ffmpeg(folder.path(), &["-i", "clip.mkv", "-vn", "mono.wav"]);
    ffmpeg(
        folder.path(),
        &[
            "-i",
            "clip.mkv",
            "-vn",
            "-af",
            "pan=stereo|c0=c0|c1=-1*c0",
            "inverted.flac",
        ],
    );
    let (expected, _) = summarise_replay(&mono, &[]);
    assert!(expected.voices > 5, "{expected:?}");
    let (played, stderr) = summarise_replay(&inverted, &[]);
    assert_eq!(played.voices, expected.voices, "{stderr}");
    assert_eq!(
        stderr.matches("channels cancel each other").count(),
        1,
        "{stderr}"
    );
    let (mixed, _) = summarise_replay(&inverted, &["--set", "audio.channel=mix"]);
    assert_eq!(mixed.voices, 0);
    let (second, stderr) = summarise_replay(&inverted, &["--set", "audio.channel=2"]);
    assert_eq!(second.voices, expected.voices);
    assert!(!stderr.contains("cancel"), "{stderr}");
}

#[test]
fn a_face_is_tracked_over_changes_of_the_frame_size() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let coder = [
        "-an",
        "-c:v",
        "libvpx",
        "-b:v",
        "1M",
        "-deadline",
        "realtime",
    ];
    let small = [
        &["-ss", "2.52", "-i", "clip.mkv", "-vf", "scale=320:240"],
        &coder[..],
        &["b.webm"],
    ];
    ffmpeg(
        folder.path(),
        &[&["-i", "clip.mkv", "-t", "2.52"], &coder[..], &["a.webm"]].concat(),
    );
    ffmpeg(folder.path(), &small.concat());
    std::fs::write(
        folder.path().join("parts.txt"),
        "file a.webm\nfile b.webm\n",
    )
    .unwrap();
    ffmpeg(
        folder.path(),
        &[
            "-f",
            "concat",
            "-i",
            "parts.txt",
            "-c",
            "copy",
            "resized.webm",
        ],
    );
    let (alone, _) = summarise_replay(&clip, &[]);
    let (played, stderr) = summarise_replay(&folder.path().join("resized.webm"), &[]);
    assert_eq!(played.subjects, alone.subjects, "{played:?} {stderr}");
    assert!(played.faces + 1 >= alone.faces, "{played:?} {alone:?}");
}

#[test]
fn the_second_part_of_a_chained_stream_is_played() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path());
    for (from, name) in [("0", "a.ogg"), ("2.5", "b.ogg")] {
        ffmpeg(
            folder.path(),
            &[
                "-ss",
                from,
                "-i",
                "clip.mkv",
                "-t",
                "2.5",
                "-vn",
                "-c:a",
                "libvorbis",
                name,
            ],
        );
    }
    let part = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let chained = folder.path().join("chained.ogg");
    std::fs::write(&chained, [part("a.ogg"), part("b.ogg")].concat()).unwrap();
    let (whole, _) = summarise_replay(&folder.path().join("clip.mkv"), &[]);
    let (played, stderr) = summarise_replay(&chained, &[]);
    assert_eq!(played.code, Some(0), "{stderr}");
    assert!(
        (played.span[1] - whole.span[1]).abs() < 300_000_000,
        "{played:?} {whole:?}"
    );
}

#[test]
fn frames_without_timestamps_get_an_assumed_rate() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    ffmpeg(
        folder.path(),
        &[
            "-i",
            "clip.mkv",
            "-an",
            "-c:v",
            "mjpeg",
            "-q:v",
            "4",
            "-f",
            "mjpeg",
            "dump.mjpeg",
        ],
    );
    let (alone, _) = summarise_replay(&clip, &[]);
    let (played, stderr) = summarise_replay(&folder.path().join("dump.mjpeg"), &[]);
    assert_eq!(played.code, Some(0), "{stderr}");
    assert_eq!(played.faces, alone.faces, "{stderr}");
    assert_eq!(stderr.matches("no stamps").count(), 1, "{stderr}");
}

#[test]
fn a_frame_stamped_far_ahead_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    ffmpeg(
        folder.path(),
        &[
            "-i",
            "clip.mkv",
            "-c",
            "copy",
            "-bsf:v",
            "setts=pts='if(eq(N,60),PTS+46000000,PTS)':dts=DTS",
            "ahead.mkv",
        ],
    );
    let ahead = folder.path().join("ahead.mkv");
    let (alone, _) = summarise_replay(&clip, &[]);
    let (played, stderr) = summarise_replay(&ahead, &[]);
    assert_eq!(played, alone, "{stderr}");
    assert_eq!(stderr.matches("far ahead").count(), 1, "{stderr}");
    let health = Arc::new(SourceHealth::default());
    let decoded = play_with(&ahead, Pace::Offline, health.clone(), Arc::default()).unwrap();
    assert!(decoded.outcome.is_ok());
    let counted = health.video.counters.assumed_stamps.load(Ordering::Relaxed);
    assert_eq!(counted, 1, "the picture itself");
}
