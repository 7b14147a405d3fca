//! Plays a recording for a test and collects its frames and samples.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use expressd::capture::{CaptureError, Outputs, Pace, Played, Recording, SourceHealth};
use expressd::clip::{AudioBlock, VideoFrame};
use expressd::lane::{LaneReceiver, Received, WhenFull, lane};
use expressd::time::{MediaTime, monotonic_nanos};
use sha2::{Digest, Sha256};

/// The decoded frames and samples of a recording.
pub struct DecodedRecording {
    /// The result of the playback, which may fail after some frames.
    pub outcome: Result<Played, CaptureError>,
    /// Time of each frame.
    pub frame_times: Vec<MediaTime>,
    /// (Width, height) of each frame, in pixels.
    pub sizes: Vec<(usize, usize)>,
    /// Mean luma of each frame, in 0..=255.
    pub lumas: Vec<f64>,
    /// Time of each audio block.
    pub block_times: Vec<MediaTime>,
    /// All samples: mono, 16 kHz.
    pub samples: Vec<f32>,
    /// SHA-256 of [all rows and times of the video, all samples and times of the audio].
    pub digest: [Vec<u8>; 2],
    /// Duration of opening and playback.
    pub wall_seconds: f64,
}

/// Plays the recording `path` and receives its frames and samples on threads of their own.
pub fn play(path: &Path, pace: Pace) -> Result<DecodedRecording, CaptureError> {
    play_with(path, pace, Arc::default(), Arc::default())
}

/// As [`play`], with the state of the source in `health` and a switch that stops the playback.
pub fn play_with(
    path: &Path,
    pace: Pace,
    health: Arc<SourceHealth>,
    stop: Arc<AtomicBool>,
) -> Result<DecodedRecording, CaptureError> {
    let begun = monotonic_nanos();
    let recording = Recording::open(path)?;
    let (frames, frames_out) = lane("frames", 4, WhenFull::Block);
    let (audio, audio_out) = lane("audio", 8, WhenFull::Block);
    let video = std::thread::Builder::new()
        .name("frames".into())
        .spawn(move || drain_frames(&frames_out))
        .unwrap();
    let sound = std::thread::Builder::new()
        .name("audio".into())
        .spawn(move || drain_audio(&audio_out))
        .unwrap();
    let outcome = recording.play(
        pace,
        Outputs {
            frames: Some(frames),
            audio: Some(audio),
        },
        health,
        stop,
    );
    let (frame_times, sizes, lumas, video_digest) = video.join().unwrap();
    let (block_times, samples, audio_digest) = sound.join().unwrap();
    let wall_seconds = (monotonic_nanos() - begun) as f64 * 1e-9;
    Ok(DecodedRecording {
        outcome,
        frame_times,
        sizes,
        lumas,
        block_times,
        samples,
        digest: [video_digest, audio_digest],
        wall_seconds,
    })
}

/// (Times, sizes, mean lumas, SHA-256) of the frames.
type DecodedVideo = (Vec<MediaTime>, Vec<(usize, usize)>, Vec<f64>, Vec<u8>);

/// Receives all frames.
fn drain_frames(lane: &LaneReceiver<VideoFrame>) -> DecodedVideo {
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

/// Receives all audio blocks; returns (times, samples, SHA-256).
fn drain_audio(lane: &LaneReceiver<AudioBlock>) -> (Vec<MediaTime>, Vec<f32>, Vec<u8>) {
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
