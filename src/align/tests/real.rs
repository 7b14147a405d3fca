//! Active-speaker test with two recorded people, side by side, who speak one after the other. The
//! scene is composed from their recordings, so that the active speaker is known. The pictures of
//! the listener are from a silent part of the same recording, played forwards and backwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::align::{AlignInput, AlignSettings, Aligned, Aligner};
use crate::capture::{Outputs, Pace, Recording, SourceHealth};
use crate::clip::{
    AudioBlock, ColorMatrix, Colorimetry, FramedFaces, Picture, SubjectId, VideoFrame,
    samples_to_nanos,
};
use crate::encode::{Provider, Runtime};
use crate::face::{Detector, DetectorSettings, FaceSettings, FaceStage, Follower};
use crate::lane::{Received, WhenFull, lane};
use crate::speech::{SpeechStage, TurnRule, VoiceDetector};
use crate::testing::{material, project};
use crate::time::MediaTime;

/// Frames per second of the composed scene.
const FPS: i64 = 25;
/// Side of a person's square picture, in pixels.
const SIDE: usize = 288;

/// A recorded speaker: I420 pictures of `SIDE` by `SIDE` pixels at 25 Hz, mono sound at 16 kHz, and
/// whether each picture is within 0.2 s of speech.
struct Person {
    pictures: Vec<Vec<u8>>,
    samples: Vec<f32>,
    speaks: Vec<bool>,
}

/// Decodes the recording `file`, and detects its speech.
fn person(file: &Path) -> Person {
    let (frame_sender, frames) = lane("frames", 1 << 12, WhenFull::Block);
    let (audio_sender, audio) = lane("audio", 1 << 14, WhenFull::Block);
    let outputs = Outputs {
        frames: Some(frame_sender),
        audio: Some(audio_sender),
    };
    Recording::open(file)
        .unwrap()
        .play(
            Pace::Offline,
            outputs,
            Arc::new(SourceHealth::default()),
            Arc::new(AtomicBool::new(false)),
        )
        .unwrap();
    let mut samples = Vec::new();
    while let Received::Item(block) = audio.recv(None) {
        let first = (block.time.nanos() / samples_to_nanos(1)).max(0) as usize;
        samples.resize(samples.len().max(first), 0.0);
        samples.extend_from_slice(&block.samples);
    }
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    while let Received::Item(frame) = frames.recv(None) {
        let frame: VideoFrame = frame;
        let square = squared(&frame.picture);
        while (pictures.len() as i64) * 1_000_000_000 / FPS <= frame.time.nanos() {
            pictures.push(square.clone());
        }
    }
    let runtime = Runtime::load().unwrap();
    let mut stage = SpeechStage::new(TurnRule::default(), VoiceDetector::load(&runtime).unwrap());
    let vad = stage
        .push(AudioBlock {
            time: MediaTime::ZERO,
            samples: samples.clone().into(),
        })
        .unwrap();
    let speaks = (0..pictures.len() as i64)
        .map(|i| {
            let near = |time: MediaTime| {
                vad.activity
                    .iter()
                    .any(|a| a.speech && a.span.contains(time))
            };
            // Lips move before the voice starts.
            (-5..=5).any(|d| near(MediaTime::from_millis((i + d) * 1000 / FPS)))
        })
        .collect();
    Person {
        pictures,
        samples,
        speaks,
    }
}

/// The central square of `picture`, scaled to `SIDE` by `SIDE` pixels, as I420 bytes.
fn squared(picture: &Picture) -> Vec<u8> {
    let side = picture.width.min(picture.height);
    let mut out = Vec::with_capacity(SIDE * SIDE * 3 / 2);
    for (plane, half) in picture.planes.iter().zip([1, 2, 2]) {
        let (width, height, from, to) = (
            picture.width.div_ceil(half),
            picture.height.div_ceil(half),
            side / half,
            SIDE / half,
        );
        let (left, top) = ((width - from) / 2, (height - from) / 2);
        for y in 0..to {
            let row =
                &picture.bytes()[plane.offset + (top + y * from / to) * plane.stride..][..width];
            out.extend((0..to).map(|x| row[left + x * from / to]));
        }
    }
    out
}

/// An I420 picture of `left` and `right`, two squares of `SIDE` by `SIDE` pixels, side by side.
fn side_by_side(left: &[u8], right: &[u8]) -> Picture {
    let mut data = Vec::with_capacity(2 * left.len());
    let mut offset = 0;
    for side in [SIDE, SIDE / 2, SIDE / 2] {
        for y in 0..side {
            for person in [left, right] {
                data.extend_from_slice(&person[offset + y * side..][..side]);
            }
        }
        offset += side * side;
    }
    Picture::from_i420(
        2 * SIDE,
        SIDE,
        Colorimetry {
            matrix: ColorMatrix::Bt601,
            full_range: false,
        },
        data,
    )
}

impl Person {
    /// The pictures of the longest section without speech.
    fn silence(&self) -> &[Vec<u8>] {
        let runs = self.speaks.chunk_by(|a, b| a == b);
        let mut at = 0;
        let longest = runs
            .map(|run| {
                at += run.len();
                (if run[0] { 0 } else { run.len() }, at)
            })
            .max()
            .unwrap();
        &self.pictures[longest.1 - longest.0..longest.1]
    }
    /// Picture `i` of the person as a listener: the silent section, played forwards and backwards.
    fn listening(&self, i: usize) -> &[u8] {
        let silence = self.silence();
        let period = (2 * silence.len()).saturating_sub(2).max(1);
        let place = i % period;
        &silence[place.min(period - place).min(silence.len() - 1)]
    }
}

/// The left person speaks first, then the right one. Returns the number of correctly attributed
/// clips, the number of clips with a voice, and the mean confidence of the correct ones. Clips that
/// end within 1.2 s after the change are excluded.
fn attribution_accuracy(left: &Person, right: &Person) -> (usize, usize, f32) {
    let runtime = Runtime::load().unwrap();
    let models = project("models/yunet");
    let mut detector = Detector::open(
        &runtime,
        &models,
        Provider::Cpu,
        DetectorSettings::default(),
    )
    .unwrap();
    let mut faces = FaceStage::new(
        FaceSettings::default(),
        None,
        Follower::open(
            &runtime,
            &project("models/mtcnn"),
            &models,
            Provider::Cpu,
            1,
        )
        .unwrap(),
    );
    let mut speech = SpeechStage::new(TurnRule::default(), VoiceDetector::load(&runtime).unwrap());
    let ms = 1_000_000;
    let settings = AlignSettings {
        length_nanos: 2000 * ms,
        hop_nanos: 200 * ms,
        face_rate_hz: 10.0,
        min_speech_nanos: 300 * ms,
        lateness_nanos: None,
        video: true,
        audio: true,
    };
    let mut aligner = Aligner::new(settings);
    let mut places: BTreeMap<SubjectId, f32> = BTreeMap::new();
    let counts = [left.pictures.len(), right.pictures.len()];
    for i in 0..counts[0] + counts[1] {
        let picture = if i < counts[0] {
            side_by_side(&left.pictures[i], right.listening(i))
        } else {
            side_by_side(left.listening(i), &right.pictures[i - counts[0]])
        };
        let time = MediaTime::from_nanos(i as i64 * 1_000_000_000 / FPS);
        let frame = VideoFrame {
            index: i as u64,
            time,
            duration_nanos: None,
            picture: Arc::new(picture),
        };
        if faces.wants_detection(&frame) {
            faces.detected(time, detector.detect(&frame.picture).unwrap());
        }
        let framed: FramedFaces = faces.advance(&frame).unwrap();
        places.extend(framed.faces.iter().map(|f| (f.subject, f.rect.center()[0])));
        aligner.push(AlignInput::Faces(framed));
    }
    aligner.push(AlignInput::FacesEnded);
    let sound = |person: &Person| {
        let mut samples = person.samples.clone();
        samples.resize(person.pictures.len() * 16_000 / FPS as usize, 0.0);
        samples
    };
    let samples = [sound(left), sound(right)].concat();
    aligner.push(AlignInput::VadBlock(
        speech
            .push(AudioBlock {
                time: MediaTime::ZERO,
                samples: samples.into(),
            })
            .unwrap(),
    ));
    aligner.push(AlignInput::AudioEnded);
    let change = MediaTime::from_nanos(counts[0] as i64 * 1_000_000_000 / FPS);
    let (mut correct, mut all, mut confidence) = (0, 0, 0.0);
    while let Some(output) = aligner.pop(MediaTime::ZERO) {
        let Aligned::Clip(clip) = output else {
            continue;
        };
        let Ok(voice) = &clip.voice else { continue };
        let since_change = clip.span.end.nanos_since(change);
        if clip.subject == SubjectId::Voice || (0..1_200_000_000).contains(&since_change) {
            continue;
        }
        let speaks_left = since_change < 0;
        all += 1;
        if (places[&clip.subject] < SIDE as f32) == speaks_left {
            correct += 1;
            confidence += voice.owner_confidence;
        }
    }
    (correct, all, confidence / correct.max(1) as f32)
}

#[test]
fn the_voice_is_attributed_to_the_speaker_of_two_people() {
    // Two recordings with silence before or after the speech.
    let (Some(grid), Some(other)) = (
        material("av/grid_s1"),
        material("av/talking/retalking1_22fps.mp4"),
    ) else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(grid)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "mpg"))
        .collect();
    files.sort();
    let other = person(&other);
    let (mut correct, mut all) = (0, 0);
    for file in files.iter().step_by(13).take(2) {
        let grid = person(file);
        for (first, second) in [(&grid, &other), (&other, &grid)] {
            assert!(
                first.silence().len() >= 8 && second.silence().len() >= 8,
                "a recording without silence has no listener"
            );
            let (c, a, confidence) = attribution_accuracy(first, second);
            println!("{c} of {a} correct, mean confidence {confidence:.2}");
            (correct, all) = (correct + c, all + a);
        }
    }
    assert!(all > 50 && correct * 100 >= all * 95, "{correct} of {all}");
}
