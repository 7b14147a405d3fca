//! Recordings: real ones and generated ones, whole and damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::generate::{AAC, Pictures, Sound, generate, tone};
use crate::harness::eventually;
use expressd::capture::{
    AudioSpec, CaptureError, Outputs, Pace, Played, Recording, SourceHealth, VideoSpec, open_live,
};
use expressd::clip::{AudioBlock, VideoFrame};
use expressd::event::SourceState;
use expressd::lane::{LaneReceiver, Received, WhenFull, lane};
use expressd::testing::material;
use expressd::time::{Clock, MediaTime, SystemClock, monotonic_nanos};
use sha2::{Digest, Sha256};

/// What came out of a recording.
pub struct VadBlock {
    pub played: Result<Played, CaptureError>,
    pub frame_times: Vec<MediaTime>,
    pub sizes: Vec<(usize, usize)>,
    /// Mean luma of every frame.
    pub lumas: Vec<f64>,
    pub block_times: Vec<MediaTime>,
    pub samples: Vec<f32>,
    /// Of every row of every plane and every stamp; of every sample and every stamp.
    pub digest: [Vec<u8>; 2],
    pub wall_seconds: f64,
}

/// Plays `path` and drains both lanes, each on a thread of its own.
pub fn hear(path: &Path, pace: Pace) -> Result<VadBlock, CaptureError> {
    hear_with(path, pace, Arc::default(), Arc::default())
}

pub fn hear_with(
    path: &Path,
    pace: Pace,
    board: Arc<SourceHealth>,
    stop: Arc<AtomicBool>,
) -> Result<VadBlock, CaptureError> {
    let begun = monotonic_nanos();
    let recording = Recording::open(path)?;
    let (frames, frames_out) = lane("frames", 4, WhenFull::Block);
    let (audio, audio_out) = lane("audio", 8, WhenFull::Block);
    let seeing = std::thread::Builder::new()
        .name("seeing".into())
        .spawn(move || see(&frames_out))
        .unwrap();
    let listening = std::thread::Builder::new()
        .name("listening".into())
        .spawn(move || listen(&audio_out))
        .unwrap();
    let played = recording.play(
        pace,
        Outputs {
            frames: Some(frames),
            audio: Some(audio),
        },
        board,
        stop,
    );
    let (frame_times, sizes, lumas, video_digest) = seeing.join().unwrap();
    let (block_times, samples, audio_digest) = listening.join().unwrap();
    let wall_seconds = (monotonic_nanos() - begun) as f64 * 1e-9;
    Ok(VadBlock {
        played,
        frame_times,
        sizes,
        lumas,
        block_times,
        samples,
        digest: [video_digest, audio_digest],
        wall_seconds,
    })
}

type Seen = (Vec<MediaTime>, Vec<(usize, usize)>, Vec<f64>, Vec<u8>);

fn see(lane: &LaneReceiver<VideoFrame>) -> Seen {
    let (mut times, mut sizes, mut lumas, mut hash) =
        (Vec::new(), Vec::new(), Vec::new(), Sha256::new());
    while let Received::Item(frame) = lane.recv(None) {
        assert_eq!(frame.index, times.len() as u64);
        let picture = &frame.picture;
        hash.update(frame.time.nanos().to_le_bytes());
        for (index, plane) in picture.planes.iter().enumerate() {
            let (columns, rows) = if index == 0 {
                (picture.width, picture.height)
            } else {
                (picture.width.div_ceil(2), picture.height.div_ceil(2))
            };
            for row in 0..rows {
                hash.update(&picture.bytes()[plane.offset + row * plane.stride..][..columns]);
            }
        }
        let sum: u64 = (0..picture.height)
            .flat_map(|y| picture.luma_row(y))
            .map(|v| u64::from(*v))
            .sum();
        lumas.push(sum as f64 / (picture.width * picture.height) as f64);
        sizes.push((picture.width, picture.height));
        times.push(frame.time);
    }
    (times, sizes, lumas, hash.finalize().to_vec())
}

fn listen(lane: &LaneReceiver<AudioBlock>) -> (Vec<MediaTime>, Vec<f32>, Vec<u8>) {
    let (mut times, mut samples, mut hash) = (Vec::new(), Vec::new(), Sha256::new());
    while let Received::Item(block) = lane.recv(None) {
        times.push(block.time);
        hash.update(block.time.nanos().to_le_bytes());
        block
            .samples
            .iter()
            .for_each(|s| hash.update(s.to_le_bytes()));
        samples.extend_from_slice(&block.samples);
    }
    (times, samples, hash.finalize().to_vec())
}

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
fn every_recording_of_the_material_decodes_whole() {
    let Some(folder) = material("av") else { return };
    let mut files = Vec::new();
    media_files(&folder, &mut files);
    assert!(files.len() > 60, "{files:?}");
    let mut loud = 0;
    for path in &files {
        let heard = hear(path, Pace::Offline).unwrap_or_else(|e| panic!("{e}"));
        let played = heard.played.unwrap_or_else(|e| panic!("{e}"));
        println!(
            "{}: {} frames {:?}, {:.3} s of sound, end {:?}, first frame {:?}, first block {:?}, took {:.2} s",
            path.strip_prefix(&folder).unwrap().display(),
            heard.frame_times.len(),
            heard.sizes.first(),
            heard.samples.len() as f64 / 16e3,
            played.end,
            heard.frame_times.first(),
            heard.block_times.first(),
            heard.wall_seconds
        );
        assert_eq!(
            (played.video_frames, played.audio_samples),
            (heard.frame_times.len() as u64, heard.samples.len() as u64)
        );
        assert!(
            heard.frame_times.is_sorted_by(|a, b| a < b)
                && heard.block_times.is_sorted_by(|a, b| a < b)
        );
        assert!(heard.frame_times.len() >= 20, "{}", path.display());
        let silent = path.to_string_lossy().contains("silent");
        assert_eq!(heard.samples.is_empty(), silent, "{}", path.display());
        assert!(heard.samples.iter().all(|s| s.abs() < 4.0));
        loud += usize::from(heard.samples.iter().any(|s| s.abs() > 0.01));
        // Pictures and sound of one recording end about together.
        assert!(
            silent
                || (heard.frame_times.last().unwrap().secs_f64()
                    - heard.block_times.last().unwrap().secs_f64())
                .abs()
                    < 0.3,
            "{}",
            path.display()
        );
    }
    // Nine have no sound track, a few one without sound.
    assert!(
        loud >= files.len() - 12,
        "{loud} of {} have sound",
        files.len()
    );
}

fn steady(count: u64, luma: impl Fn(u64) -> u8) -> Vec<(u64, [u8; 2])> {
    (0..count).map(|n| (n * 40, [luma(n); 2])).collect()
}

fn grey(size: (usize, usize), encoder: &str, count: u64) -> Pictures<'_> {
    Pictures {
        size,
        encoder,
        frames: steady(count, |n| 60 + n as u8),
    }
}

const H264: &str = "x264enc speed-preset=ultrafast key-int-max=10";

#[test]
fn sound_alone_at_every_rate_keeps_its_pitch_and_length() {
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
        let heard = hear(&path, Pace::Offline).unwrap();
        let what = format!("{rate_hz} Hz, {channels} channels, {encoder}, {muxer}");
        heard.played.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(heard.frame_times.is_empty());
        assert!(
            (heard.samples.len() as f64 - 32_000.0).abs() < 1_200.0,
            "{what}: {} samples",
            heard.samples.len()
        );
        let crossings = heard.samples[4_000..28_000]
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
fn odd_sizes_and_variable_rates_alone_keep_every_frame_and_stamp() {
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
    let heard = hear(&path, Pace::Offline).unwrap();
    heard.played.unwrap();
    assert!(heard.samples.is_empty());
    assert!(
        heard.sizes.iter().all(|size| *size == (161, 121)),
        "{:?}",
        heard.sizes
    );
    let stamps: Vec<u64> = heard
        .frame_times
        .iter()
        .map(|time| time.nanos() as u64 / 1_000_000)
        .collect();
    assert_eq!(stamps, millis);
    for (n, luma) in heard.lumas.iter().enumerate() {
        assert!(
            (luma - (40.0 + 20.0 * n as f64)).abs() < 4.0,
            "frame {n}: {luma}"
        );
    }
}

#[test]
fn a_rotated_recording_stands_upright() {
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
    // As a phone writes it that is held upright: the track header's matrix says a quarter turn clockwise.
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
    // What was on the left is on top now.
    assert!(
        picture.luma_row(8)[32] > 180 && picture.luma_row(120)[32] < 50,
        "{} {}",
        picture.luma_row(8)[32],
        picture.luma_row(120)[32]
    );
}

#[test]
fn a_flash_and_a_beep_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    for (name, muxer, video, audio) in [
        ("a.mov", "qtmux", H264, "identity"),
        ("b.mkv", "matroskamux", H264, "flacenc ! flacparse"),
        ("c.avi", "avimux", "jpegenc", "identity"),
    ] {
        let path = folder.path().join(name);
        let frames = steady(75, |n| if (30..35).contains(&n) { 235 } else { 16 });
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
        let heard = hear(&path, Pace::Offline).unwrap();
        let flash = heard.frame_times[heard.lumas.iter().position(|luma| *luma > 120.0).unwrap()];
        let onset = heard.samples.iter().position(|s| s.abs() > 0.1).unwrap();
        let beep = heard.block_times[onset / 320].plus_nanos((onset % 320) as i64 * 62_500);
        let skew_ms = beep.millis_since(flash);
        println!("{name}: flash at {flash:?}, beep {skew_ms:+.2} ms from it");
        assert!(
            (flash.millis_since(MediaTime::from_millis(1200))).abs() < 1.0,
            "{name}: {flash:?}"
        );
        assert!(skew_ms.abs() < 5.0, "{name}: {skew_ms} ms");
        heard.played.unwrap();
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
    let first = hear(&path, Pace::Offline).unwrap();
    assert_eq!(first.played.as_ref().unwrap().video_frames, 50);
    for pace in [Pace::Offline, Pace::Offline, Pace::Realtime] {
        let again = hear(&path, pace.clone()).unwrap();
        assert_eq!(first.digest, again.digest, "{pace:?}");
        if matches!(pace, Pace::Realtime) {
            assert!(again.wall_seconds > 1.9, "{} s", again.wall_seconds);
        }
    }
    let Some(real) = material("av/several_people/hamilton.mp4") else {
        return;
    };
    assert_eq!(
        hear(&real, Pace::Offline).unwrap().digest,
        hear(&real, Pace::Offline).unwrap().digest
    );
}

#[test]
fn a_looped_replay_says_where_each_pass_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loop.mp4");
    generate(
        &path,
        "mp4mux",
        Some(grey((160, 120), H264, 15)),
        Some(Sound {
            rate_hz: 16_000,
            channels: 1,
            encoder: AAC,
            samples: tone(16_000, 300.0, 0.6),
            begins_ms: 0,
        }),
    );
    let (clock, board, stop) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
        Arc::new(AtomicBool::new(false)),
    );
    let (frames, out) = lane("frames", 4, WhenFull::DropOldest);
    let (audio, _audio_out) = lane("audio", 4, WhenFull::DropOldest);
    let playing = {
        let (clock, board, stop) = (clock.clone(), board.clone(), stop.clone());
        let recording = Recording::open(&path).unwrap();
        std::thread::Builder::new()
            .name("playing".into())
            .spawn(move || {
                recording.play(
                    Pace::Live {
                        clock,
                        looped: true,
                    },
                    Outputs {
                        frames: Some(frames),
                        audio: Some(audio),
                    },
                    board,
                    stop,
                )
            })
            .unwrap()
    };
    let (mut origins, mut last) = (Vec::new(), MediaTime::from_nanos(i64::MIN));
    while origins.len() < 3 {
        let Received::Item(frame) = out.recv(Some(Duration::from_secs(10))) else {
            panic!("no frame")
        };
        let origin = board.video.status().origin_ns.unwrap();
        let age_ms = clock.now().millis_since(frame.time);
        assert!(
            frame.time > last && (0.0..300.0).contains(&age_ms),
            "{age_ms} ms old"
        );
        last = frame.time;
        if origins.last() != Some(&origin) {
            origins.push(origin);
        }
    }
    stop.store(true, Ordering::Release);
    let played = playing.join().unwrap().unwrap();
    assert!(played.video_frames > 30);
    assert!(
        origins.windows(2).all(|w| w[1].millis_since(w[0]) >= 590.0),
        "{origins:?}"
    );
    assert_eq!(board.video.status().state, SourceState::Off);
}

#[test]
fn a_looped_file_that_vanishes_loses_pictures_and_sound_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let [path, elsewhere] = ["loop.mp4", "elsewhere.mp4"].map(|name| folder.path().join(name));
    generate(
        &path,
        "mp4mux",
        Some(grey((160, 120), H264, 15)),
        Some(Sound {
            rate_hz: 16_000,
            channels: 1,
            encoder: AAC,
            samples: tone(16_000, 300.0, 0.6),
            begins_ms: 0,
        }),
    );
    let (clock, board) = (
        Arc::new(SystemClock::new()),
        Arc::new(SourceHealth::default()),
    );
    let (frames, _frames_out) = lane("frames", 4, WhenFull::DropOldest);
    let (audio, _audio_out) = lane("audio", 4, WhenFull::DropOldest);
    let uri = VideoSpec::Uri(path.to_str().unwrap().into());
    let capture = open_live(
        &uri,
        &AudioSpec::Uri,
        clock,
        Outputs {
            frames: Some(frames),
            audio: Some(audio),
        },
        board.clone(),
    )
    .unwrap();
    let both = |state: SourceState| {
        board.video.status().state == state && board.audio.status().state == state
    };
    eventually("pictures and sound", Duration::from_secs(10), || {
        both(SourceState::Delivering)
    });
    std::fs::rename(&path, &elsewhere).unwrap();
    eventually("the loss of both", Duration::from_secs(10), || {
        both(SourceState::Lost)
    });
    assert!(board.audio.status().reason.unwrap().contains("loop.mp4"));
    std::fs::rename(&elsewhere, &path).unwrap();
    eventually("the return of both", Duration::from_secs(10), || {
        both(SourceState::Delivering)
    });
    capture.stop();
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
    // Its index is at the end, and missing.
    let whole = folder.path().join("whole.mp4");
    generate(&whole, "mp4mux", Some(grey((160, 120), H264, 50)), None);
    let bytes = std::fs::read(&whole).unwrap();
    let error = refusal(&file("headless.mp4", &bytes[..bytes.len() / 2]));
    println!("{error}");
    assert!(matches!(error, CaptureError::Unreadable { .. }), "{error}");
}

/// Plays the first `share` of a file: what came, and what was said.
fn cut(path: &Path, share: f64) -> VadBlock {
    let bytes = std::fs::read(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join(path.file_name().unwrap());
    std::fs::write(&short, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
    let heard = hear(&short, Pace::Offline).unwrap_or_else(|e| panic!("{e}"));
    match &heard.played {
        Err(error @ CaptureError::Cut { .. }) => println!("{error}"),
        other => panic!("{}: {other:?}", path.display()),
    }
    heard
}

#[test]
fn a_cut_recording_is_heard_to_where_it_breaks_and_then_named() {
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
        let heard = cut(&path, 0.6);
        assert!(
            (30..90).contains(&heard.frame_times.len()),
            "{name}: {} frames",
            heard.frame_times.len()
        );
        assert!(
            (16_000..60_000).contains(&heard.samples.len()),
            "{name}: {} samples",
            heard.samples.len()
        );
    }
    for path in ["av/not_faces/cartoon_neutral.mp4", "av/grid_s1/bbaf3s.mpg"]
        .iter()
        .filter_map(|p| material(p))
    {
        assert!(
            cut(&path, 0.55).frame_times.len() > 20,
            "{}",
            path.display()
        );
    }
    if let Some(path) = material("speech/ravdess/Actor_01")
        .and_then(|folder| std::fs::read_dir(folder).unwrap().next())
    {
        let heard = cut(&path.unwrap().path(), 0.5);
        assert!(heard.frame_times.is_empty() && heard.samples.len() > 8_000);
    }
}
