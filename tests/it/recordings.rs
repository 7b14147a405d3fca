//! Recordings: real ones and generated ones, whole and damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use expressd::capture::{CaptureError, Outputs, Pace, Played, Recording, SourceBoard};
use expressd::clip::{AudioBlock, VideoFrame};
use expressd::lane::{LaneReceiver, Received, WhenFull, lane};
use expressd::testing::material;
use expressd::time::{MediaTime, monotonic_nanos};
use sha2::{Digest, Sha256};

/// What came out of a recording.
pub struct Heard {
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
pub fn hear(path: &Path, pace: Pace) -> Result<Heard, CaptureError> {
    hear_with(path, pace, Arc::default(), Arc::default())
}

pub fn hear_with(path: &Path, pace: Pace, board: Arc<SourceBoard>, stop: Arc<AtomicBool>) -> Result<Heard, CaptureError> {
    let begun = monotonic_nanos();
    let recording = Recording::open(path)?;
    let (frames, frames_out) = lane("frames", 4, WhenFull::Block);
    let (audio, audio_out) = lane("audio", 8, WhenFull::Block);
    let seeing = std::thread::Builder::new().name("seeing".into()).spawn(move || see(&frames_out)).unwrap();
    let listening = std::thread::Builder::new().name("listening".into()).spawn(move || listen(&audio_out)).unwrap();
    let played = recording.play(pace, Outputs { frames: Some(frames), audio: Some(audio) }, board, stop);
    let (frame_times, sizes, lumas, video_digest) = seeing.join().unwrap();
    let (block_times, samples, audio_digest) = listening.join().unwrap();
    let wall_seconds = (monotonic_nanos() - begun) as f64 * 1e-9;
    Ok(Heard { played, frame_times, sizes, lumas, block_times, samples, digest: [video_digest, audio_digest], wall_seconds })
}

type Seen = (Vec<MediaTime>, Vec<(usize, usize)>, Vec<f64>, Vec<u8>);

fn see(lane: &LaneReceiver<VideoFrame>) -> Seen {
    let (mut times, mut sizes, mut lumas, mut hash) = (Vec::new(), Vec::new(), Vec::new(), Sha256::new());
    while let Received::Item(frame) = lane.recv(None) {
        assert_eq!(frame.index, times.len() as u64);
        let picture = &frame.picture;
        hash.update(frame.time.nanos().to_le_bytes());
        for (index, plane) in picture.planes.iter().enumerate() {
            let (columns, rows) = if index == 0 { (picture.width, picture.height) } else { (picture.width.div_ceil(2), picture.height.div_ceil(2)) };
            for row in 0..rows {
                hash.update(&picture.bytes()[plane.offset + row * plane.stride..][..columns]);
            }
        }
        let sum: u64 = (0..picture.height).flat_map(|y| picture.luma_row(y)).map(|v| u64::from(*v)).sum();
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
        block.samples.iter().for_each(|s| hash.update(s.to_le_bytes()));
        samples.extend_from_slice(&block.samples);
    }
    (times, samples, hash.finalize().to_vec())
}

fn media_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            media_files(&path, found);
        } else if path.extension().is_some_and(|e| ["mp4", "mpg", "mov"].iter().any(|m| e == *m)) {
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
    for path in files {
        let heard = hear(&path, Pace::Offline).unwrap_or_else(|e| panic!("{e}"));
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
        assert_eq!((played.video_frames, played.audio_samples), (heard.frame_times.len() as u64, heard.samples.len() as u64));
        assert!(heard.frame_times.is_sorted_by(|a, b| a < b) && heard.block_times.is_sorted_by(|a, b| a < b));
        assert!(heard.frame_times.len() >= 20, "{}", path.display());
        let silent = path.to_string_lossy().contains("silent");
        assert_eq!(heard.samples.is_empty(), silent, "{}", path.display());
        assert!(heard.samples.iter().all(|s| s.abs() < 4.0) && (silent || heard.samples.iter().any(|s| s.abs() > 0.01)));
    }
}
