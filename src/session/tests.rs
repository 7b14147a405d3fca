//! Tests that a session on one thread gives the same output as the daemon's threads, and tests of
//! the stages without threads.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::align::NextInput;
use crate::assets::locate;
use crate::capture::{Outputs, Pace, Recording, SourceHealth};
use crate::config::Config;
use crate::encode::Runtime;
use crate::event::Form;
use crate::face::Detection;
use crate::lane::{LaneReceiver, Received, WhenFull, lane};
use crate::model::Bundle;
use crate::recognize::Recognizer;
use crate::speech::{SpeechStage, VoiceDetector};
use crate::time::MediaTime;

const DEMONSTRATION: &str = "config/demo/demo.mp4";

/// The JSON lines that a session on one thread gives for the demonstration recording, with
/// `read_ahead` frames read ahead.
fn inline_lines(config: &Config, runtime: &Runtime, read_ahead: usize) -> Vec<String> {
    let bundle = Bundle::open(
        runtime,
        &locate(&config.inference.bundle),
        config.inference.provider,
        config.inference.threads,
    )
    .unwrap();
    let both = Streams {
        video: true,
        audio: true,
    };
    let plan = Plan::new(config, &bundle.manifest, both, Tempo::Replay);
    let mut stages = Stages::open(&plan, runtime).unwrap();
    let policy = DetectionPolicy::EveryInterval { read_ahead };
    stages.vision = stages
        .vision
        .map(|(vision, detector)| (Vision::new(vision.into_stage(), policy), detector));
    let events = EventBuilder::new(config, &bundle);
    let mut session = Session::new(stages).with_recognizer(Recognizer::new(bundle), events);

    let (frames, frame_lane) = lane("frames", 4, WhenFull::Block);
    let (audio, audio_lane) = lane("audio", 64, WhenFull::Block);
    let recording = Recording::open(locate(Path::new(DEMONSTRATION))).unwrap();
    let outputs = Outputs {
        frames: Some(frames),
        audio: Some(audio),
    };
    let player = std::thread::Builder::new().spawn(move || {
        let board = Arc::new(SourceHealth::default());
        let stop = Arc::new(AtomicBool::new(false));
        recording.play(Pace::Offline, outputs, board, stop).unwrap();
    });
    let (mut lines, mut over) = (Vec::new(), [false, false]);
    while over != [true, true] {
        // The demuxer may have to deliver the other track first.
        let input = match session.next_input() {
            NextInput::Faces => frame(&frame_lane, &over).or_else(|| sound(&audio_lane, &over)),
            _ => sound(&audio_lane, &over).or_else(|| frame(&frame_lane, &over)),
        };
        let Some(input) = input else {
            continue;
        };
        match input {
            Input::FramesEnded => over[0] = true,
            Input::SoundEnded => over[1] = true,
            _ => {}
        }
        session.push(input, &mut |_| {}).unwrap();
        while let Some(output) = session.pop(MediaTime::ZERO) {
            let Output::Event(event) = output else {
                panic!("clips are recognized");
            };
            if event.is_offline() {
                lines.push(event.to_json(lines.len() as u64 + 1, Form::Offline));
            }
        }
    }
    player.unwrap().join().unwrap();
    lines
}

/// Longest wait for one track before the other one is tried.
const STEP: Option<Duration> = Some(Duration::from_millis(2));

fn frame(frames: &LaneReceiver<crate::clip::VideoFrame>, over: &[bool; 2]) -> Option<Input> {
    match frames.recv(STEP) {
        _ if over[0] => None,
        Received::Item(frame) => Some(Input::Frame(frame)),
        Received::Ended => Some(Input::FramesEnded),
        Received::TimedOut => None,
    }
}

fn sound(blocks: &LaneReceiver<crate::clip::AudioBlock>, over: &[bool; 2]) -> Option<Input> {
    match blocks.recv(STEP) {
        _ if over[1] => None,
        Received::Item(block) => Some(Input::Sound(block)),
        Received::Ended => Some(Input::SoundEnded),
        Received::TimedOut => None,
    }
}

#[test]
fn a_session_on_one_thread_and_one_on_many_give_the_same_lines() {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (config, runtime) = (Config::default(), Runtime::load().unwrap());
    let written = Written::default();
    let lines = Arc::new(Mutex::new(crate::daemon::Lines::new(Box::new(
        written.clone(),
    ))));
    let demonstration = locate(Path::new(DEMONSTRATION));
    crate::daemon::replay(&config, &demonstration, false, &lines).unwrap();
    let threaded = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let threaded: Vec<_> = threaded.lines().collect();
    assert!(threaded.len() > 20, "{} lines", threaded.len());
    for read_ahead in [1, 7] {
        assert_eq!(inline_lines(&config, &runtime, read_ahead), threaded);
    }
}

/// A grey frame of 64 x 48 pixels without a face, stamped `millis` milliseconds.
fn empty_frame(millis: i64) -> crate::clip::VideoFrame {
    use crate::clip::{ColorMatrix, Colorimetry, Picture, VideoFrame};
    let colorimetry = Colorimetry {
        matrix: ColorMatrix::Bt601,
        full_range: true,
    };
    VideoFrame {
        time: MediaTime::from_millis(millis),
        duration_nanos: None,
        index: 0,
        picture: Picture::from_i420(64, 48, colorimetry, vec![128; 64 * 48 * 3 / 2]).into(),
    }
}

fn vision(runtime: &Runtime, policy: DetectionPolicy) -> Vision {
    let config = Config::default();
    let face = FacePlan {
        settings: config.face_settings(),
        preprocessing: None,
        detector_models: locate(&config.face.detector),
        tracker_models: locate(&config.face.tracker),
        detector: config.detector_settings(),
    };
    Vision::new(face.stage(face.open_follower(runtime).unwrap()), policy)
}

/// Takes all outputs. Returns the times of the frames for the detector, and the number of outputs
/// for the aligner.
fn outputs(vision: &mut Vision) -> (Vec<MediaTime>, usize) {
    let (mut requested, mut tracked) = (Vec::new(), 0);
    while let Some(output) = vision.pop() {
        match output {
            VisionOutput::Detect(frame) => requested.push(frame.time),
            VisionOutput::Align(_) => tracked += 1,
        }
    }
    (requested, tracked)
}

const NO_DETECTIONS: Vec<Detection> = Vec::new();

#[test]
fn live_frames_never_wait_and_at_most_one_is_at_the_detector() {
    let runtime = Runtime::load().unwrap();
    let mut vision = vision(&runtime, DetectionPolicy::WhenIdle);
    let mut requested = Vec::new();
    for i in 0..50 {
        assert!(vision.takes_frames());
        let frame = VisionInput::Frame(empty_frame(40 * i));
        vision.push(frame).unwrap();
        let (asked, tracked) = outputs(&mut vision);
        assert_eq!(tracked, 1, "frame {i}");
        requested.extend(asked);
    }
    assert_eq!(requested, [MediaTime::ZERO], "the first is not answered");
    let answer = VisionInput::Detections(MediaTime::ZERO, NO_DETECTIONS);
    vision.push(answer).unwrap();
    vision.push(VisionInput::Frame(empty_frame(2000))).unwrap();
    let (asked, _) = outputs(&mut vision);
    assert_eq!(asked, [MediaTime::from_millis(2000)]);
}

#[test]
fn a_lost_source_is_reported_once_until_it_delivers_again() {
    let runtime = Runtime::load().unwrap();
    let mut vision = vision(&runtime, DetectionPolicy::WhenIdle);
    for (input, announced) in [
        (VisionInput::Lost, 1),
        (VisionInput::Lost, 0),
        (VisionInput::Frame(empty_frame(0)), 1),
        (VisionInput::Lost, 1),
    ] {
        vision.push(input).unwrap();
        assert_eq!(outputs(&mut vision).1, announced);
    }
    let stage = SpeechStage::new(
        Config::default().turn_rule(),
        VoiceDetector::load(&runtime).unwrap(),
    );
    let mut speech = SpeechDetection::new(stage, true);
    for announced in [2, 0] {
        speech.push(SpeechInput::Lost).unwrap();
        let outputs = std::iter::from_fn(|| speech.pop()).count();
        assert_eq!(outputs, announced, "aligner and transcriber, once");
    }
}

#[test]
fn in_a_replay_a_frame_is_tracked_only_with_its_detections() {
    let runtime = Runtime::load().unwrap();
    let policy = DetectionPolicy::EveryInterval { read_ahead: 4 };
    let mut vision = vision(&runtime, policy);
    let (mut pushed, mut requested, mut tracked) = (0, Vec::new(), 0);
    while vision.takes_frames() {
        let frame = VisionInput::Frame(empty_frame(40 * pushed));
        vision.push(frame).unwrap();
        pushed += 1;
        let (asked, done) = outputs(&mut vision);
        requested.extend(asked);
        tracked += done;
        assert!(pushed <= 4, "the first frame waits for its detections");
    }
    assert_eq!((tracked, requested.len()), (0, 1));
    let answer = VisionInput::Detections(MediaTime::ZERO, NO_DETECTIONS);
    vision.push(answer).unwrap();
    let (asked, done) = outputs(&mut vision);
    assert!(done >= 1 && vision.takes_frames(), "{done} tracked");
    // The end is announced once all requests are answered.
    vision.push(VisionInput::Ended).unwrap();
    let mut waiting: Vec<_> = asked;
    waiting.extend(outputs(&mut vision).0);
    while !vision.has_finished() {
        let time = waiting.remove(0);
        vision
            .push(VisionInput::Detections(time, NO_DETECTIONS))
            .unwrap();
        waiting.extend(outputs(&mut vision).0);
    }
}
