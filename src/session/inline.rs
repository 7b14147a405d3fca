//! A session that runs all stages on the calling thread: for the extraction of embeddings, and for
//! tests without threads.

use std::collections::VecDeque;

use super::events::{ClipTimestamps, EventBuilder, events_of};
use super::speech_detection::{SpeechDetection, SpeechInput, SpeechOutput};
use super::stages::Stages;
use super::transcription::Transcription;
use super::vision::{Vision, VisionInput, VisionOutput};
use crate::align::{AlignInput, Aligner, NextInput};
use crate::clip::{AudioBlock, Clip, VideoFrame};
use crate::encode::EncodeError;
use crate::event::Event;
use crate::face::Detector;
use crate::recognize::Recognizer;
use crate::speech::TranscribeError;
use crate::time::MediaTime;

/// An input of a [`Session`]. Frames and samples are shared, not copied.
#[derive(Clone, Debug)]
pub enum Input {
    Frame(VideoFrame),
    /// The video source currently delivers nothing.
    FramesLost,
    /// No frame follows.
    FramesEnded,
    Sound(AudioBlock),
    /// The audio source currently delivers nothing.
    SoundLost,
    /// No sound follows.
    SoundEnded,
}

/// An output of a [`Session`].
#[derive(Clone, Debug)]
pub enum Output {
    /// A clip; only from a session without a recognizer.
    Clip(Box<Clip>),
    /// A published event, which has no `seq` yet.
    Event(Event),
}

/// The failure of a stage. The session cannot continue after it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
}

/// The pipeline from frames and sound to clips or events, run on the calling thread.
pub struct Session {
    vision: Option<(Vision, Detector)>,
    speech: Option<SpeechDetection>,
    transcription: Option<Transcription>,
    aligner: Aligner,
    recognition: Option<(Recognizer, EventBuilder)>,
    /// Outputs of the other stages that the aligner has not received yet.
    aligned: VecDeque<AlignInput>,
    /// Events of the aligner's newest output that [`Session::pop`] has not returned yet.
    events: VecDeque<Event>,
}

impl Session {
    /// A session without a recognizer. Its outputs are clips, and `subject` and `speech` events.
    pub fn new(stages: Stages) -> Session {
        Session {
            vision: stages.vision,
            speech: stages.speech,
            transcription: stages.transcription,
            aligner: stages.aligner,
            recognition: None,
            aligned: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Adds a recognizer, which turns each clip into an `expression` event. All outputs are then
    /// events.
    pub fn with_recognizer(mut self, recognizer: Recognizer, events: EventBuilder) -> Session {
        self.recognition = Some((recognizer, events));
        self
    }

    /// The source to read next, so that neither video nor audio runs ahead of the other.
    pub fn next_input(&self) -> NextInput {
        self.aligner.next_input()
    }

    /// Runs the stages on `input`; then [`Self::pop`] returns the results. `observe` is called with
    /// each input of the aligner.
    ///
    /// # Errors
    /// A graph or the transcriber fails.
    pub fn push(
        &mut self,
        input: Input,
        observe: &mut dyn FnMut(&AlignInput),
    ) -> Result<(), SessionError> {
        match input {
            Input::Frame(frame) => self.push_video(VisionInput::Frame(frame))?,
            Input::FramesLost => self.push_video(VisionInput::Lost)?,
            Input::FramesEnded => self.push_video(VisionInput::Ended)?,
            Input::Sound(block) => self.push_sound(SpeechInput::Sound(block))?,
            Input::SoundLost => self.push_sound(SpeechInput::Lost)?,
            Input::SoundEnded => {
                self.push_sound(SpeechInput::Ended)?;
                if let Some(transcription) = &mut self.transcription {
                    let last = transcription.finish()?;
                    self.aligned
                        .extend(last.into_iter().map(AlignInput::Transcript));
                    self.aligned.push_back(AlignInput::TranscriptsEnded);
                }
            }
        }
        while let Some(input) = self.aligned.pop_front() {
            observe(&input);
            self.aligner.push(input);
        }
        Ok(())
    }

    /// The next output; `None` if more input is needed. `now` is the time on the clock that stamps
    /// frames and sound. In a replay any value will do, because nothing is late.
    pub fn pop(&mut self, now: MediaTime) -> Option<Output> {
        while self.events.is_empty() {
            match (events_of(self.aligner.pop(now)?), &mut self.recognition) {
                (Ok(events), _) => self.events.extend(events),
                (Err(clip), None) => return Some(Output::Clip(clip)),
                (Err(clip), Some((recognizer, events))) => {
                    let recognition = recognizer.recognize(&clip);
                    let timestamps = ClipTimestamps {
                        taken: now,
                        recognized: now,
                        emitted: now,
                    };
                    let event = events.expression(&clip, &recognition, timestamps);
                    self.events.push_back(event);
                }
            }
        }
        self.events.pop_front().map(Output::Event)
    }

    /// Returns the stages with open graphs, for the session of the next recording. Opening the
    /// graphs takes longer than a short recording.
    pub fn into_stages(self) -> (Option<(Vision, Detector)>, Option<SpeechDetection>) {
        (self.vision, self.speech)
    }

    /// Runs face tracking and detection, and queues the results for the aligner.
    fn push_video(&mut self, input: VisionInput) -> Result<(), EncodeError> {
        let Some((vision, detector)) = &mut self.vision else {
            return Ok(());
        };
        vision.push(input)?;
        while let Some(output) = vision.pop() {
            match output {
                VisionOutput::Align(input) => self.aligned.push_back(input),
                VisionOutput::Detect(frame) => {
                    let found = detector.detect(&frame.picture)?;
                    vision.push(VisionInput::Detections(frame.time, found))?;
                }
            }
        }
        Ok(())
    }

    /// Runs voice-activity detection and transcription, and queues the results for the aligner.
    fn push_sound(&mut self, input: SpeechInput) -> Result<(), SessionError> {
        let Some(speech) = &mut self.speech else {
            return Ok(());
        };
        speech.push(input)?;
        while let Some(output) = speech.pop() {
            match (output, &mut self.transcription) {
                (SpeechOutput::Align(input), _) => self.aligned.push_back(input),
                (SpeechOutput::Transcribe(input), Some(transcription)) => {
                    let transcripts = transcription.push(input)?;
                    let inputs = transcripts.into_iter().map(AlignInput::Transcript);
                    self.aligned.extend(inputs);
                    if let Some(until) = transcription.known_until() {
                        self.aligned.push_back(AlignInput::TranscriptsUntil(until));
                    }
                }
                (SpeechOutput::Transcribe(_), None) => {}
            }
        }
        Ok(())
    }
}
