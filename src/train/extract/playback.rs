//! Plays recordings through the daemon's own stages on the calling thread. The clips are the same
//! as those of `expressd replay`.
//!
//! Decoders have their own threads. All later stages run on the calling thread, so each worker
//! plays one recording at a time. Faces are detected in the same frames as in a replay. An interval
//! is played as if it were a recording of its own. Several intervals of one recording share one
//! pass of the decoder, which is faster than a seek for each. Unlike a seek, it also leaves the
//! decoded values unchanged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::open::{choice, open, refusal};
use super::refusal::{InputCounts, Refusal};
use super::streams::{Streams, next, within};
use crate::align::Aligner;
use crate::assets::locate;
use crate::capture::{CaptureError, Outputs, Pace, Played};
use crate::causes::one_line;
use crate::clip::{Clip, Crop, Picture};
use crate::config::Config;
use crate::encode::{EncodeError, Provider, Runtime};
use crate::face::{Detector, Follower};
use crate::lane::{Received, WhenFull, lane};
use crate::manifest::Manifest;
use crate::modality::Modality;
use crate::preprocess::align;
use crate::session::{
    self, DetectionPolicy, Input, Output, Plan, Session, SpeechDetection, Stages, Tempo, Vision,
};
use crate::speech::{SpeechStage, VoiceDetector};
use crate::time::{MediaTime, Span, monotonic_nanos, thread_cpu_nanos};
use crate::train::data::Media;
use crate::train::encoders::EncoderSetFiles;

/// Receives the clips of a recording. A part is an interval of the recording, or the whole
/// recording; the parts are played one after another.
pub trait ClipSink {
    /// Begins the next part. Returns false if no further part is to be played.
    fn begin(&mut self) -> bool;
    /// Receives a clip of the current part. An error ends the playback.
    fn take(&mut self, clip: Clip) -> Result<(), EncodeError>;
    /// Ends the current part. An error ends the playback.
    fn end(&mut self, stats: PlaybackStats) -> Result<(), EncodeError>;
}

/// Statistics of one played part of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlaybackStats {
    /// End of the last frame or sample in the part, in seconds from the part's start.
    pub seconds: f64,
    /// Whether the part reached the end of the recording. If so, the recording may be truncated,
    /// which is known when [`Playback::play`] returns.
    pub to_the_end: bool,
    /// The usable input in the part.
    pub inputs: InputCounts,
    /// Time that the stages waited for decoders, in nanoseconds.
    pub waited_nanos: i64,
}

/// How the playback of a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of the recording was played, or all wanted parts.
    Whole,
    /// The file is truncated; its readable part was played.
    Cut,
}

/// Plays recordings one after another, and keeps the graphs of the stages open in between.
#[derive(Debug)]
pub struct Playback {
    runtime: Runtime,
    config: Config,
    rules: Manifest,
    /// Whether frames are decoded.
    video: bool,
    /// Whether sound is decoded.
    audio: bool,
    detector: Option<Detector>,
    follower: Option<Follower>,
    voice: Option<VoiceDetector>,
    opening_cpu_nanos: i64,
}

impl Playback {
    /// A playback for the encoders in `set`: frames are decoded if it has a face encoder, sound if
    /// it has a voice encoder. No graph is opened yet.
    pub fn new(runtime: &Runtime, config: Config, set: &EncoderSetFiles) -> Playback {
        let (video, audio) = (
            set.has_encoder_of(Modality::Face),
            set.has_encoder_of(Modality::Voice),
        );
        Playback {
            runtime: runtime.clone(),
            config,
            rules: set.manifest().clone(),
            video,
            audio,
            detector: None,
            follower: None,
            voice: None,
            opening_cpu_nanos: 0,
        }
    }

    /// CPU time of the calling thread that was spent on opening decoders, in nanoseconds.
    pub fn opening_cpu_nanos(&self) -> i64 {
        self.opening_cpu_nanos
    }

    /// Whether faces are detected, and whether speech is detected.
    pub fn detects(&self) -> (bool, bool) {
        (self.video, self.audio)
    }

    /// Plays the `parts` of `media`, sorted by time and without overlap, each as if it were a
    /// recording of its own. `media` must have a recording.
    ///
    /// # Errors
    /// The media cannot be read, have no track that the encoders use, or a stage fails.
    pub fn play(
        &mut self,
        media: &Media,
        parts: &[Span],
        sink: &mut dyn ClipSink,
    ) -> Result<Ending, Refusal> {
        let choice = choice(&self.config)?;
        let started = thread_cpu_nanos();
        let opened = match media {
            Media::Recording(path) => open(path, choice).map(|both| (both, None)),
            Media::Separate { video, audio } => {
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
            return Err(Refusal::NoSubject(
                InputCounts::default().missing_inputs(self.video, self.audio),
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
        let streams = session::Streams {
            video: has_video,
            audio: has_audio,
        };
        let plan = Plan::new(&self.config, &self.rules, streams, Tempo::Replay);
        std::thread::scope(|scope| {
            let players: Vec<_> = plays
                .into_iter()
                // A file whose tracks are not needed is not played.
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
            // `follow` owns the receivers: when it returns, no player is blocked by a full lane.
            let followed = self.follow(
                Streams {
                    frames,
                    blocks,
                    held_frames: VecDeque::new(),
                    held_blocks: VecDeque::new(),
                    goes_on: false,
                },
                parts,
                &plan,
                sink,
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

    /// The crop of the largest face in a still picture, aligned as in the daemon. `None` if no face
    /// is detected or there is no face encoder.
    ///
    /// # Errors
    /// The face detector cannot be opened, or fails.
    pub fn largest_face(&mut self, picture: &Picture) -> Result<Option<Crop>, Refusal> {
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

    /// Runs the stages on the decoded streams, part by part, until the last part or until `sink`
    /// wants no further part.
    fn follow(
        &mut self,
        mut streams: Streams,
        parts: &[Span],
        plan: &Plan,
        sink: &mut dyn ClipSink,
    ) -> Result<(), Refusal> {
        for (i, part) in parts.iter().enumerate() {
            if !sink.begin() {
                break;
            }
            streams.goes_on = i + 1 < parts.len();
            self.follow_part(&mut streams, part, plan, sink)?;
        }
        Ok(())
    }

    /// Runs the stages on one part, in a new session.
    fn follow_part(
        &mut self,
        streams: &mut Streams,
        part: &Span,
        plan: &Plan,
        sink: &mut dyn ClipSink,
    ) -> Result<(), Refusal> {
        let mut session = Session::new(self.lend(plan)?);
        let stats = run(streams, part, plan, &mut session, sink)?;
        self.take_back(session);
        Ok(sink.end(stats)?)
    }

    /// The stages for one part, with the open graphs; graphs that are not open are opened. If the
    /// part fails, its graphs are dropped.
    fn lend(&mut self, plan: &Plan) -> Result<Stages, Refusal> {
        let vision = match &plan.face {
            None => None,
            Some(face) => {
                let follower = match self.follower.take() {
                    Some(follower) => follower,
                    None => face.open_follower(&self.runtime)?,
                };
                let detector = match self.detector.take() {
                    Some(detector) => detector,
                    None => face.open_detector(&self.runtime)?,
                };
                let policy = DetectionPolicy::EveryInterval { read_ahead: 1 };
                Some((Vision::new(face.stage(follower), policy), detector))
            }
        };
        let speech = match plan.turns {
            None => None,
            Some(rule) => {
                let voice = match self.voice.take() {
                    Some(voice) => voice,
                    None => VoiceDetector::load(&self.runtime)
                        .map_err(|error| Refusal::Stage(one_line(&error)))?,
                };
                Some(SpeechDetection::new(SpeechStage::new(rule, voice), false))
            }
        };
        Ok(Stages {
            vision,
            speech,
            transcription: None,
            aligner: Aligner::new(plan.align),
        })
    }

    /// Keeps the graphs of a finished session for the next part.
    fn take_back(&mut self, session: Session) {
        let (vision, speech) = session.into_stages();
        if let Some((vision, detector)) = vision {
            self.follower = Some(vision.into_stage().into_follower());
            self.detector = Some(detector);
        }
        self.voice = speech.map(|speech| speech.into_stage().into_detector());
    }
}

/// Passes the frames and samples of `part` to the session, with times from the part's start, and
/// the resulting clips to `sink`. Items after the part are held for the next part.
fn run(
    streams: &mut Streams,
    part: &Span,
    plan: &Plan,
    session: &mut Session,
    sink: &mut dyn ClipSink,
) -> Result<PlaybackStats, Refusal> {
    let (mut stats, mut end) = (PlaybackStats::default(), MediaTime::ZERO);
    let (mut needs_video, mut needs_audio) = (plan.face.is_some(), plan.turns.is_some());
    while needs_video || needs_audio {
        let started = monotonic_nanos();
        let (frame, block) = next(streams, session.next_input(), needs_video, needs_audio);
        stats.waited_nanos += monotonic_nanos() - started;
        let inputs = &mut stats.inputs;
        match frame.filter(|_| needs_video) {
            None => {}
            Some(Received::Item(frame)) if frame.time < part.start => {}
            Some(Received::Item(mut frame)) if frame.time < part.end => {
                frame.time = frame.time.plus_nanos(-part.start.nanos());
                end = end.max(frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1)));
                session.push(Input::Frame(frame), &mut |observed| {
                    inputs.observe(observed)
                })?;
            }
            Some(beyond) => {
                match beyond {
                    Received::Item(frame) => streams.held_frames.push_front(frame),
                    _ => stats.to_the_end = true,
                }
                session.push(Input::FramesEnded, &mut |_| {})?;
                needs_video = false;
            }
        }
        if let Some(block) = block.filter(|_| needs_audio) {
            // The block that contains the part's end may also contain the start of the next part.
            let is_past_end = match block {
                Received::Item(block) => {
                    let is_past_end = block.span().end >= part.end;
                    if is_past_end {
                        streams.held_blocks.push_front(block.clone());
                    }
                    if let Some(block) = within(block, part) {
                        end = end.max(block.span().end);
                        session.push(Input::Sound(block), &mut |observed| {
                            inputs.observe(observed)
                        })?;
                    }
                    is_past_end
                }
                _ => {
                    stats.to_the_end = true;
                    true
                }
            };
            if is_past_end {
                session.push(Input::SoundEnded, &mut |_| {})?;
                needs_audio = false;
            }
        }
        while let Some(output) = session.pop(MediaTime::ZERO) {
            if let Output::Clip(clip) = output {
                sink.take(*clip)?;
            }
        }
    }
    // The last frame of an interval may end after the interval.
    stats.seconds = end.secs_f64().min(part.nanos() as f64 * 1e-9);
    Ok(stats)
}

/// The span of a recording that an item covers. `interval`: start and end in seconds; `None`: the
/// whole recording. Returns `None` for an empty or invalid interval.
pub fn part_of(interval: Option<[f64; 2]>) -> Option<Span> {
    match interval {
        None => Some(Span::new(MediaTime::ZERO, MediaTime::MAX)),
        Some([start, end]) if start >= 0.0 && end > start => {
            Some(Span::new(of_seconds(start), of_seconds(end)))
        }
        Some(_) => None,
    }
}

/// The time `seconds` after the start of the recording.
fn of_seconds(seconds: f64) -> MediaTime {
    MediaTime::from_nanos((seconds * 1e9).round() as i64)
}
