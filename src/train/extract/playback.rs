//! Media through the daemon's own stages, on the calling thread: clips come out, the same as from `expressd replay`.
//!
//! Decoders bring their own threads; everything behind them runs here, so that as many recordings as there are workers advance at once.
//! Detections are made on the frames on which a replay makes them. An interval is played as if it were a recording of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Refusal;
use crate::align::{AlignInput, AlignSettings, Aligned, Aligner, Wanted};
use crate::capture::{CaptureError, Outputs, Pace, Played, Recording};
use crate::clip::{AudioBlock, Clip, FramedFaces, VideoFrame, samples_to_nanos};
use crate::config::{Config, locate};
use crate::encode::{EncodeError, Provider, Runtime};
use crate::face::{Detector, FaceStage, Refiner};
use crate::lane::{LaneReceiver, Received, WhenFull, lane};
use crate::modality::Modality;
use crate::model::manifest::Manifest;
use crate::speech::{SpeechStage, VoiceDetector};
use crate::time::{MediaTime, Span, monotonic_nanos};
use crate::train::data::Media;
use crate::train::encoders::SetFiles;

/// How long the source that is behind is waited for before the other one is looked at.
const STEP: Duration = Duration::from_millis(2);

/// Takes each clip as it is cut.
pub type TakeClip<'a> = &'a mut dyn FnMut(Clip) -> Result<(), EncodeError>;

/// What was played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Where the last frame or sample ends, counted from the start.
    pub seconds: f64,
    /// The file breaks off; what was there was played.
    pub cut: bool,
    /// How long the stages waited for decoders, in nanoseconds.
    pub waited_nanos: i64,
}

/// The stages' graphs of one worker, opened once and lent to the stages of each recording.
#[derive(Debug)]
pub struct Playback {
    runtime: Runtime,
    config: Config,
    rules: Manifest,
    video: bool,
    audio: bool,
    detector: Option<Detector>,
    refiner: Option<Refiner>,
    voice: Option<VoiceDetector>,
}

impl Playback {
    /// Pictures are looked at where `set` has an encoder of faces, sound is listened to where it has one of voices.
    pub fn new(runtime: &Runtime, config: Config, set: &SetFiles) -> Playback {
        let (video, audio) = (set.reads(Modality::Face), set.reads(Modality::Voice));
        Playback { runtime: runtime.clone(), config, rules: set.rules().clone(), video, audio, detector: None, refiner: None, voice: None }
    }

    /// Plays `media` (recordings alone), or the seconds `interval` of it.
    pub fn play(&mut self, media: &Media, interval: Option<[f64; 2]>, take: TakeClip) -> Result<Shown, Refusal> {
        let (video, audio) = match media {
            Media::Recording(path) => (open(path)?, None),
            Media::Apart { video, audio } => (open(video)?, Some(open(audio)?)),
            Media::Picture(_) | Media::None => return Err(Refusal::NothingToEncode),
        };
        let has_video = self.video && video.has_video();
        let has_audio = self.audio && audio.as_ref().unwrap_or(&video).has_audio();
        if !has_video && !has_audio {
            return Err(Refusal::NothingToEncode);
        }
        let (frame_sender, frames) = lane("frames", 4, WhenFull::Block);
        let (audio_sender, blocks) = lane("audio", 64, WhenFull::Block);
        let (frame_sender, audio_sender) = (has_video.then_some(frame_sender), has_audio.then_some(audio_sender));
        let plays = match audio {
            None => vec![(video, Outputs { frames: frame_sender, audio: audio_sender })],
            Some(audio) => vec![(video, Outputs { frames: frame_sender, audio: None }), (audio, Outputs { frames: None, audio: audio_sender })],
        };
        let span = match interval {
            None => Span::new(MediaTime::ZERO, MediaTime::MAX),
            Some([start, end]) if start >= 0.0 && end > start => Span::new(of_seconds(start), of_seconds(end)),
            Some(_) => return Err(Refusal::Unreadable("its interval is empty".into())),
        };
        let settings = self.align_settings(has_video, has_audio);
        std::thread::scope(|scope| {
            let players: Vec<_> = plays
                .into_iter()
                // A recording of which nothing is wanted is not played.
                .filter(|(_, outputs)| outputs.frames.is_some() || outputs.audio.is_some())
                .map(|(recording, outputs)| {
                    let play = move || recording.play(Pace::Offline, outputs, Arc::default(), Arc::new(AtomicBool::new(false)));
                    std::thread::Builder::new().name("play".into()).spawn_scoped(scope, play).expect("the system gives threads")
                })
                .collect();
            // Takes the receivers along: however it ends, no player waits for them.
            let followed = self.follow(Streams { frames, blocks, span }, settings, take);
            let mut cut = false;
            for player in players {
                match player.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                    Ok(Played { .. }) => {}
                    Err(CaptureError::Cut { .. }) => cut = true,
                    Err(error) => return Err(refusal(error)),
                }
            }
            followed.map(|shown| Shown { cut, ..shown })
        })
    }

    fn align_settings(&self, video: bool, audio: bool) -> AlignSettings {
        let of_ms = |ms: u32| i64::from(ms) * 1_000_000;
        AlignSettings {
            length_nanos: of_ms(self.rules.window.length_ms),
            hop_nanos: of_ms(self.rules.window.hop_ms),
            face_rate_hz: self.rules.face.as_ref().map_or(1.0, |f| f.rate_hz),
            min_speech_nanos: of_ms(self.rules.audio.as_ref().map_or(0, |a| a.min_speech_ms)),
            lateness_nanos: None,
            video,
            audio,
        }
    }

    fn follow(&mut self, streams: Streams, settings: AlignSettings, take: TakeClip) -> Result<Shown, Refusal> {
        let folder = locate(&self.config.face.detector);
        let mut faces = None;
        if settings.video {
            let refiner = self.refiner.take().map_or_else(|| Refiner::open(&self.runtime, &folder, Provider::Cpu, 1), Ok)?;
            let looked_for = self.config.detector_settings();
            let detector = self.detector.take().map_or_else(|| Detector::open(&self.runtime, &folder, Provider::Cpu, looked_for), Ok)?;
            let stage = FaceStage::new(self.config.face_settings(), self.rules.face.clone(), refiner);
            faces = Some(Faces { stage, detector, slot: None, end: MediaTime::ZERO });
        }
        let mut speech = None;
        if settings.audio {
            let voice = self.voice.take().map_or_else(|| VoiceDetector::load(&self.runtime), Ok).map_err(|error| Refusal::Stage(one_line(&error)))?;
            speech = Some(SpeechStage::new(self.config.turn_rule(), voice));
        }
        let mut aligner = Aligner::new(settings);
        let shown = run(&streams, &mut faces, &mut speech, &mut aligner, take);
        // Gone with the error where there was one: what failed is opened anew.
        if shown.is_ok() {
            if let Some(faces) = faces {
                (self.refiner, self.detector) = (Some(faces.stage.into_refiner()), Some(faces.detector));
            }
            self.voice = speech.map(SpeechStage::into_detector);
        }
        Ok(shown?)
    }
}

struct Streams {
    frames: LaneReceiver<VideoFrame>,
    blocks: LaneReceiver<AudioBlock>,
    /// The part that counts.
    span: Span,
}

struct Faces {
    stage: FaceStage,
    detector: Detector,
    /// The newest interval of media time of which a frame went to the detector.
    slot: Option<i64>,
    end: MediaTime,
}

impl Faces {
    /// As [`crate::face::FaceStage`] is led offline: a detection on the first frame of every interval, and where the stage asks for one.
    fn see(&mut self, frame: &VideoFrame) -> Result<AlignInput, EncodeError> {
        let interval = i64::try_from(self.stage.detect_interval().as_nanos()).unwrap_or(i64::MAX).max(1);
        let slot = Some(frame.time.nanos().div_euclid(interval));
        if std::mem::replace(&mut self.slot, slot) != slot || self.stage.wants_detection(frame) {
            let detections = self.detector.detect(&frame.picture)?;
            self.stage.detected(frame.time, detections);
        }
        self.end = self.end.max(frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1)));
        Ok(AlignInput::Faces(self.stage.advance(frame)?))
    }

    fn finish(&mut self) -> AlignInput {
        let changes = self.stage.finish(self.end);
        AlignInput::Faces(FramedFaces { time: self.end, picture_size: [0, 0], faces: Vec::new(), changes })
    }
}

fn run(streams: &Streams, faces: &mut Option<Faces>, speech: &mut Option<SpeechStage>, aligner: &mut Aligner, take: TakeClip) -> Result<Shown, EncodeError> {
    let Streams { frames, blocks, span } = streams;
    let (mut waited_nanos, mut end) = (0, MediaTime::ZERO);
    let (mut sees, mut hears) = (faces.is_some(), speech.is_some());
    while sees || hears {
        let started = monotonic_nanos();
        let (frame, block) = next(frames, blocks, aligner.wanted());
        waited_nanos += monotonic_nanos() - started;
        if let Some(faces) = faces.as_mut().filter(|_| sees)
            && let Some(frame) = frame
        {
            match frame {
                Received::Item(frame) if frame.time < span.start => {}
                Received::Item(mut frame) if frame.time < span.end => {
                    frame.time = frame.time.plus_nanos(-span.start.nanos());
                    aligner.push(faces.see(&frame)?);
                    end = end.max(faces.end);
                }
                _ => {
                    let last = faces.finish();
                    if !matches!(&last, AlignInput::Faces(faces) if faces.changes.is_empty()) {
                        aligner.push(last);
                    }
                    aligner.push(AlignInput::FacesEnded);
                    sees = false;
                }
            }
        }
        if let Some(speech) = speech.as_mut().filter(|_| hears)
            && let Some(block) = block
        {
            match block {
                Received::Item(block) if block.time < span.end => {
                    if let Some(block) = within(block, span) {
                        end = end.max(block.span().end);
                        aligner.push(AlignInput::Heard(speech.hear(block)?));
                    }
                }
                _ => {
                    if let Some(heard) = speech.finish()? {
                        aligner.push(AlignInput::Heard(heard));
                    }
                    aligner.push(AlignInput::HeardEnded);
                    hears = false;
                }
            }
        }
        while let Some(aligned) = aligner.pop(MediaTime::ZERO) {
            if let Aligned::Clip(clip) = aligned {
                take(clip)?;
            }
        }
    }
    // The last frame of an interval stands beyond it.
    let seconds = end.secs_f64().min(span.nanos() as f64 * 1e-9);
    Ok(Shown { seconds, cut: false, waited_nanos })
}

/// The next item of the source that is behind, or of the other where that one has nothing: what comes out does not depend on which, and a
/// demuxer that must get rid of the one first never stands still.
fn next(frames: &LaneReceiver<VideoFrame>, blocks: &LaneReceiver<AudioBlock>, wanted: Wanted) -> (Option<Received<VideoFrame>>, Option<Received<AudioBlock>>) {
    let (for_frame, for_block) = if wanted == Wanted::Faces { (STEP, Duration::ZERO) } else { (Duration::ZERO, STEP) };
    loop {
        let frame = || Some(frames.recv(Some(for_frame))).filter(|f| !matches!(f, Received::TimedOut));
        let block = || Some(blocks.recv(Some(for_block))).filter(|b| !matches!(b, Received::TimedOut));
        let found = if wanted == Wanted::Faces {
            match frame() {
                None => (None, block()),
                found => (found, None),
            }
        } else {
            match block() {
                None => (frame(), None),
                found => (None, found),
            }
        };
        // An end is told again and again: only that of the wanted one counts, the other's comes to be asked for.
        match (&found, wanted) {
            ((None, None), _) | ((Some(Received::Ended), None), Wanted::Heard) | ((None, Some(Received::Ended)), Wanted::Faces) => {}
            _ => return found,
        }
    }
}

/// The samples of `block` that lie in `span`, on a timeline that begins with it.
fn within(block: AudioBlock, span: &Span) -> Option<AudioBlock> {
    let one = samples_to_nanos(1);
    let index = |time: MediaTime| (time.nanos_since(block.time).max(0) as u64).div_ceil(one as u64).min(block.samples.len() as u64) as usize;
    let (from, to) = (index(span.start), index(span.end));
    if from >= to {
        return None;
    }
    let samples = if to - from == block.samples.len() { block.samples } else { block.samples[from..to].into() };
    Some(AudioBlock { time: block.time.plus_nanos(samples_to_nanos(from as i64) - span.start.nanos()), samples })
}

fn of_seconds(seconds: f64) -> MediaTime {
    MediaTime::from_nanos((seconds * 1e9).round() as i64)
}

fn open(path: &Path) -> Result<Recording, Refusal> {
    Recording::open(path).map_err(refusal)
}

/// Without paths: equal reasons are counted together.
fn refusal(error: CaptureError) -> Refusal {
    Refusal::Unreadable(match error {
        CaptureError::NoSuchFile(_) => "there is no such file".into(),
        CaptureError::Denied { .. } => "access is denied".into(),
        CaptureError::Unreadable { reason, .. } => reason,
        CaptureError::Unsupported { .. } => "a decoder is missing".into(),
        other => one_line(&other),
    })
}

/// An error and its causes on one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
