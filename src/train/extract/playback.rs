//! Media through the daemon's own stages, on the calling thread: clips come out, the same as from `expressd replay`.
//!
//! Decoders bring their own threads; everything behind them runs here, so that as many recordings as there are workers advance at once.
//! Detections are made on the frames on which a replay makes them. An interval is played as if it were a recording of its own; several of
//! one recording share one pass of the decoder, which is cheaper than as many and, unlike a jump into the file, changes no number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::open::{choice, open, refusal};
use super::refusal::{Refusal, Witness};
use crate::align::{AlignInput, AlignSettings, Aligned, Aligner, Wanted};
use crate::capture::{CaptureError, Outputs, Pace, Played};
use crate::causes::one_line;
use crate::clip::{AudioBlock, Clip, Crop, FramedFaces, Picture, VideoFrame, samples_to_nanos};
use crate::config::{Config, locate};
use crate::encode::{EncodeError, Provider, Runtime};
use crate::face::{Detector, FaceStage, Follower};
use crate::lane::{LaneReceiver, Received, WhenFull, lane};
use crate::modality::Modality;
use crate::model::manifest::Manifest;
use crate::preprocess::align;
use crate::speech::{SpeechStage, VoiceDetector};
use crate::time::{MediaTime, Span, monotonic_nanos, thread_cpu_nanos};
use crate::train::data::Media;
use crate::train::encoders::SetFiles;

/// How long the source that is behind is waited for before the other one is looked at.
const STEP: Duration = Duration::from_millis(2);
/// After so many steps without anything, the demuxer may be held up by the source of which this part needs no more.
const STANDSTILL: u32 = 10;

/// Who watches a recording, part by part.
pub trait Audience {
    /// The next part begins. `false`: no more is wanted.
    fn begin(&mut self) -> bool;
    /// Takes each clip as it is cut.
    fn take(&mut self, clip: Clip) -> Result<(), EncodeError>;
    /// The part is over.
    fn end(&mut self, shown: Shown) -> Result<(), EncodeError>;
}

/// What was played of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Where the last frame or sample ends, counted from the part's start.
    pub seconds: f64,
    /// The part reached to the recording's end: whether it breaks off there, [`Playback::play`] knows.
    pub to_the_end: bool,
    pub witness: Witness,
    /// How long the stages waited for decoders, in nanoseconds.
    pub waited_nanos: i64,
}

/// How a recording came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The file breaks off; what was there was played.
    Cut,
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
    follower: Option<Follower>,
    voice: Option<VoiceDetector>,
    opening_cpu_nanos: i64,
}

impl Playback {
    /// Pictures are looked at where `set` has an encoder of faces, sound is listened to where it has one of voices.
    pub fn new(runtime: &Runtime, config: Config, set: &SetFiles) -> Playback {
        let (video, audio) = (set.reads(Modality::Face), set.reads(Modality::Voice));
        Playback {
            runtime: runtime.clone(),
            config,
            rules: set.rules().clone(),
            video,
            audio,
            detector: None,
            follower: None,
            voice: None,
            opening_cpu_nanos: 0,
        }
    }

    /// CPU time of the calling thread that went into setting up decoders.
    pub fn opening_cpu_nanos(&self) -> i64 {
        self.opening_cpu_nanos
    }

    /// Are faces looked for, are voices?
    pub fn looks_for(&self) -> (bool, bool) {
        (self.video, self.audio)
    }

    /// Plays the `parts` of `media` (recordings alone), which follow each other and do not overlap, each as a recording of its own.
    pub fn play(
        &mut self,
        media: &Media,
        parts: &[Span],
        audience: &mut dyn Audience,
    ) -> Result<Ending, Refusal> {
        let choice = choice(&self.config)?;
        let started = thread_cpu_nanos();
        let opened = match media {
            Media::Recording(path) => open(path, choice).map(|both| (both, None)),
            Media::Apart { video, audio } => {
                open(video, choice).and_then(|video| Ok((video, Some(open(audio, choice)?))))
            }
            Media::Picture(_) | Media::None => Err(Refusal::NothingToEncode),
        };
        self.opening_cpu_nanos += thread_cpu_nanos() - started;
        let (mut video, mut audio) = opened?;
        match &mut audio {
            None => video.require(self.video, self.audio),
            Some(audio) => {
                video.require(self.video, false);
                audio.require(false, self.audio);
            }
        }
        let has_video = self.video && video.has_video();
        let has_audio = self.audio && audio.as_ref().unwrap_or(&video).has_audio();
        if !self.video && !self.audio {
            return Err(Refusal::NothingToEncode);
        }
        if !has_video && !has_audio {
            return Err(Refusal::Nobody(
                Witness::default().lacks(self.video, self.audio),
            ));
        }
        let (frame_sender, frames) = lane("frames", 4, WhenFull::Block);
        let (audio_sender, blocks) = lane("audio", 64, WhenFull::Block);
        let (frame_sender, audio_sender) = (
            has_video.then_some(frame_sender),
            has_audio.then_some(audio_sender),
        );
        let plays = match audio {
            None => vec![(
                video,
                Outputs {
                    frames: frame_sender,
                    audio: audio_sender,
                },
            )],
            Some(audio) => vec![
                (
                    video,
                    Outputs {
                        frames: frame_sender,
                        audio: None,
                    },
                ),
                (
                    audio,
                    Outputs {
                        frames: None,
                        audio: audio_sender,
                    },
                ),
            ],
        };
        let settings = self.align_settings(has_video, has_audio);
        std::thread::scope(|scope| {
            let players: Vec<_> = plays
                .into_iter()
                // A recording of which nothing is wanted is not played.
                .filter(|(_, outputs)| outputs.frames.is_some() || outputs.audio.is_some())
                .map(|(recording, outputs)| {
                    let play = move || {
                        recording.play(
                            Pace::Offline,
                            outputs,
                            Arc::default(),
                            Arc::new(AtomicBool::new(false)),
                        )
                    };
                    std::thread::Builder::new()
                        .name("play".into())
                        .spawn_scoped(scope, play)
                        .expect("the system gives threads")
                })
                .collect();
            // Takes the receivers along: however it ends, no player waits for them.
            let followed = self.follow(
                Streams {
                    frames,
                    blocks,
                    held_frames: VecDeque::new(),
                    held_blocks: VecDeque::new(),
                    goes_on: false,
                },
                parts,
                settings,
                audience,
            );
            let mut ending = Ending::Whole;
            for player in players {
                match player
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                {
                    Ok(Played { .. }) => {}
                    Err(CaptureError::Cut { .. } | CaptureError::Appended { .. }) => {
                        ending = Ending::Cut
                    }
                    Err(error) => return Err(refusal(error)),
                }
            }
            followed.map(|()| ending)
        })
    }

    /// The largest face of a still picture, framed as the daemon frames faces. `None`: nobody is in it, or these encoders take no faces.
    pub fn face_of(&mut self, picture: &Picture) -> Result<Option<Crop>, Refusal> {
        let Some(preprocessing) = &self.rules.face else {
            return Ok(None);
        };
        let (folder, looked_for) = (
            locate(&self.config.face.detector),
            self.config.detector_settings(),
        );
        let mut detector = self.detector.take().map_or_else(
            || Detector::open(&self.runtime, &folder, Provider::Cpu, looked_for),
            Ok,
        )?;
        let found = detector.detect(picture)?;
        self.detector = Some(detector);
        let largest = found
            .iter()
            .max_by(|a, b| (a.rect.w * a.rect.h).total_cmp(&(b.rect.w * b.rect.h)));
        Ok(largest.and_then(|face| align(picture, &face.landmarks, preprocessing)))
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

    fn follow(
        &mut self,
        mut streams: Streams,
        parts: &[Span],
        settings: AlignSettings,
        audience: &mut dyn Audience,
    ) -> Result<(), Refusal> {
        for (i, part) in parts.iter().enumerate() {
            if !audience.begin() {
                break;
            }
            streams.goes_on = i + 1 < parts.len();
            self.follow_part(&mut streams, part, settings, audience)?;
        }
        Ok(())
    }

    fn follow_part(
        &mut self,
        streams: &mut Streams,
        part: &Span,
        settings: AlignSettings,
        audience: &mut dyn Audience,
    ) -> Result<(), Refusal> {
        let folder = locate(&self.config.face.detector);
        let mut faces = None;
        if settings.video {
            let tracker = locate(&self.config.face.tracker);
            let follower = self.follower.take().map_or_else(
                || Follower::open(&self.runtime, &tracker, &folder, Provider::Cpu, 1),
                Ok,
            )?;
            let looked_for = self.config.detector_settings();
            let detector = self.detector.take().map_or_else(
                || Detector::open(&self.runtime, &folder, Provider::Cpu, looked_for),
                Ok,
            )?;
            let stage = FaceStage::new(
                self.config.face_settings(),
                self.rules.face.clone(),
                follower,
            );
            faces = Some(Faces {
                stage,
                detector,
                slot: None,
                end: MediaTime::ZERO,
            });
        }
        let mut speech = None;
        if settings.audio {
            let voice = self
                .voice
                .take()
                .map_or_else(|| VoiceDetector::load(&self.runtime), Ok)
                .map_err(|error| Refusal::Stage(one_line(&error)))?;
            speech = Some(SpeechStage::new(self.config.turn_rule(), voice));
        }
        let mut aligner = Aligner::new(settings);
        let shown = run(
            streams,
            part,
            &mut faces,
            &mut speech,
            &mut aligner,
            audience,
        )?;
        // Gone with the error where there was one: what failed is opened anew.
        if let Some(faces) = faces {
            (self.follower, self.detector) =
                (Some(faces.stage.into_follower()), Some(faces.detector));
        }
        self.voice = speech.map(SpeechStage::into_detector);
        Ok(audience.end(shown)?)
    }
}

/// What the decoders give, and what of it was taken and belongs to the next part.
struct Streams {
    frames: LaneReceiver<VideoFrame>,
    blocks: LaneReceiver<AudioBlock>,
    held_frames: VecDeque<VideoFrame>,
    held_blocks: VecDeque<AudioBlock>,
    /// Another part follows the one that is played.
    goes_on: bool,
}

impl Streams {
    fn frame(&mut self, patience: Duration) -> Option<Received<VideoFrame>> {
        let received = self
            .held_frames
            .pop_front()
            .map_or_else(|| self.frames.recv(Some(patience)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    fn block(&mut self, patience: Duration) -> Option<Received<AudioBlock>> {
        let received = self
            .held_blocks
            .pop_front()
            .map_or_else(|| self.blocks.recv(Some(patience)), Received::Item);
        Some(received).filter(|received| !matches!(received, Received::TimedOut))
    }

    /// Takes one thing out of the way of a demuxer that stands still because of it, though this part needs no more of its kind.
    fn clear(&mut self, frames: bool) {
        if frames {
            if let Received::Item(frame) = self.frames.recv(Some(Duration::ZERO)) {
                self.held_frames.extend(self.goes_on.then_some(frame));
            }
        } else if let Received::Item(block) = self.blocks.recv(Some(Duration::ZERO)) {
            self.held_blocks.extend(self.goes_on.then_some(block));
        }
    }
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
    fn see(&mut self, frame: &VideoFrame) -> Result<FramedFaces, EncodeError> {
        let interval = i64::try_from(self.stage.detect_interval().as_nanos())
            .unwrap_or(i64::MAX)
            .max(1);
        let slot = Some(frame.time.nanos().div_euclid(interval));
        if std::mem::replace(&mut self.slot, slot) != slot || self.stage.wants_detection(frame) {
            let detections = self.detector.detect(&frame.picture)?;
            self.stage.detected(frame.time, detections);
        }
        self.end = self
            .end
            .max(frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1)));
        self.stage.advance(frame)
    }

    fn finish(&mut self) -> AlignInput {
        let changes = self.stage.finish(self.end);
        AlignInput::Faces(FramedFaces {
            time: self.end,
            picture_size: [0, 0],
            faces: Vec::new(),
            changes,
        })
    }
}

fn run(
    streams: &mut Streams,
    part: &Span,
    faces: &mut Option<Faces>,
    speech: &mut Option<SpeechStage>,
    aligner: &mut Aligner,
    audience: &mut dyn Audience,
) -> Result<Shown, EncodeError> {
    let (mut shown, mut end) = (Shown::default(), MediaTime::ZERO);
    let (mut sees, mut hears) = (faces.is_some(), speech.is_some());
    while sees || hears {
        let started = monotonic_nanos();
        let (frame, block) = next(streams, aligner.wanted(), sees, hears);
        shown.waited_nanos += monotonic_nanos() - started;
        if let Some(faces) = faces.as_mut().filter(|_| sees)
            && let Some(frame) = frame
        {
            match frame {
                Received::Item(frame) if frame.time < part.start => {}
                Received::Item(mut frame) if frame.time < part.end => {
                    frame.time = frame.time.plus_nanos(-part.start.nanos());
                    let seen = faces.see(&frame)?;
                    shown.witness.see(&seen);
                    aligner.push(AlignInput::Faces(seen));
                    end = end.max(faces.end);
                }
                beyond => {
                    match beyond {
                        Received::Item(frame) => streams.held_frames.push_front(frame),
                        _ => shown.to_the_end = true,
                    }
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
            // What reaches beyond the part is the next one's, too.
            let over = match block {
                Received::Item(block) => {
                    let over = block.span().end >= part.end;
                    if over {
                        streams.held_blocks.push_front(block.clone());
                    }
                    if let Some(block) = within(block, part) {
                        end = end.max(block.span().end);
                        let heard = speech.hear(block)?;
                        shown.witness.hear(&heard);
                        aligner.push(AlignInput::Heard(heard));
                    }
                    over
                }
                _ => {
                    shown.to_the_end = true;
                    true
                }
            };
            if over {
                if let Some(heard) = speech.finish()? {
                    aligner.push(AlignInput::Heard(heard));
                }
                aligner.push(AlignInput::HeardEnded);
                hears = false;
            }
        }
        while let Some(aligned) = aligner.pop(MediaTime::ZERO) {
            if let Aligned::Clip(clip) = aligned {
                audience.take(clip)?;
            }
        }
    }
    // The last frame of an interval stands beyond it.
    shown.seconds = end.secs_f64().min(part.nanos() as f64 * 1e-9);
    Ok(shown)
}

/// The next item of the source that is behind, or of the other where that one has nothing: what comes out does not depend on which, and a
/// demuxer that must get rid of the one first never stands still.
fn next(
    streams: &mut Streams,
    wanted: Wanted,
    sees: bool,
    hears: bool,
) -> (Option<Received<VideoFrame>>, Option<Received<AudioBlock>>) {
    let mut tries = 0;
    loop {
        let found = if wanted == Wanted::Faces {
            match streams.frame(STEP) {
                None if hears => (None, streams.block(Duration::ZERO)),
                found => (found, None),
            }
        } else {
            match streams.block(STEP) {
                None if sees => (streams.frame(Duration::ZERO), None),
                found => (None, found),
            }
        };
        // An end is told again and again: only that of the wanted one counts, the other's comes to be asked for.
        match (&found, wanted) {
            ((None, None), _)
            | ((Some(Received::Ended), None), Wanted::Heard)
            | ((None, Some(Received::Ended)), Wanted::Faces) => {}
            _ => return found,
        }
        tries += 1;
        if !(sees && hears) && (tries >= STANDSTILL || !streams.goes_on) {
            streams.clear(!sees);
        }
    }
}

/// The samples of `block` that lie in `span`, on a timeline that begins with it.
fn within(block: AudioBlock, span: &Span) -> Option<AudioBlock> {
    let one = samples_to_nanos(1);
    let index = |time: MediaTime| {
        (time.nanos_since(block.time).max(0) as u64)
            .div_ceil(one as u64)
            .min(block.samples.len() as u64) as usize
    };
    let (from, to) = (index(span.start), index(span.end));
    if from >= to {
        return None;
    }
    let samples = if to - from == block.samples.len() {
        block.samples
    } else {
        block.samples[from..to].into()
    };
    Some(AudioBlock {
        time: block
            .time
            .plus_nanos(samples_to_nanos(from as i64) - span.start.nanos()),
        samples,
    })
}

/// The part of a recording that an item is. `None`: no part at all.
pub fn part_of(interval: Option<[f64; 2]>) -> Option<Span> {
    match interval {
        None => Some(Span::new(MediaTime::ZERO, MediaTime::MAX)),
        Some([start, end]) if start >= 0.0 && end > start => {
            Some(Span::new(of_seconds(start), of_seconds(end)))
        }
        Some(_) => None,
    }
}

fn of_seconds(seconds: f64) -> MediaTime {
    MediaTime::from_nanos((seconds * 1e9).round() as i64)
}
