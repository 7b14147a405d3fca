//! All stages on the calling thread: for extraction, and for tests without threads.

use std::collections::VecDeque;

use super::events::{ClipTimestamps, EventBuilder};
use super::hearing::{Hearing, HearingInput, HearingOutput};
use super::stages::Stages;
use super::transcription::Transcription;
use super::vision::{Vision, VisionInput, VisionOutput};
use crate::align::{AlignInput, Aligned, Aligner, Wanted};
use crate::clip::{AudioBlock, Clip, VideoFrame};
use crate::encode::EncodeError;
use crate::event::Event;
use crate::face::Detector;
use crate::recognize::Recognizer;
use crate::speech::TranscribeError;
use crate::time::MediaTime;

/// What a session takes. Frames and samples are shared, not copied.
#[derive(Clone, Debug)]
pub enum Input {
    Frame(VideoFrame),
    /// The source delivers nothing for now.
    FramesLost,
    FramesEnded,
    Sound(AudioBlock),
    SoundLost,
    SoundEnded,
}

/// What a session gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// Of a session without a recognizer.
    Clip(Box<Clip>),
    Event(Event),
}

/// A stage that failed. The session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
}

/// The stages, driven on the calling thread.
pub struct Session {
    vision: Option<(Vision, Detector)>,
    hearing: Option<Hearing>,
    transcription: Option<Transcription>,
    aligner: Aligner,
    recognition: Option<(Recognizer, EventBuilder)>,
    aligned: VecDeque<AlignInput>,
}

impl Session {
    /// A session that gives clips, and changes of subjects, speech and words as events.
    pub fn new(stages: Stages) -> Session {
        Session {
            vision: stages.vision,
            hearing: stages.hearing,
            transcription: stages.transcription,
            aligner: stages.aligner,
            recognition: None,
            aligned: VecDeque::new(),
        }
    }

    /// Clips are recognized: the session gives events alone.
    pub fn with_recognizer(mut self, recognizer: Recognizer, events: EventBuilder) -> Session {
        self.recognition = Some((recognizer, events));
        self
    }

    /// The source whose input is needed next, so that neither runs ahead of the other.
    pub fn wanted(&self) -> Wanted {
        self.aligner.wanted()
    }

    /// Runs the stages over `input`. `observe` sees what the aligner gets of it.
    ///
    /// # Errors
    /// A graph or the transcriber failed.
    pub fn push(
        &mut self,
        input: Input,
        observe: &mut dyn FnMut(&AlignInput),
    ) -> Result<(), SessionError> {
        match input {
            Input::Frame(frame) => self.see(VisionInput::Frame(frame))?,
            Input::FramesLost => self.see(VisionInput::Lost)?,
            Input::FramesEnded => self.see(VisionInput::Ended)?,
            Input::Sound(block) => self.hear(HearingInput::Sound(block))?,
            Input::SoundLost => self.hear(HearingInput::Lost)?,
            Input::SoundEnded => {
                self.hear(HearingInput::Ended)?;
                if let Some(transcription) = &mut self.transcription {
                    let last = transcription.finish()?;
                    self.aligned.extend(last.into_iter().map(AlignInput::Words));
                    self.aligned.push_back(AlignInput::WordsEnded);
                }
            }
        }
        while let Some(input) = self.aligned.pop_front() {
            observe(&input);
            self.aligner.push(input);
        }
        Ok(())
    }

    /// The next output. `now`: the time on the clock that stamps frames and sound; any time in a
    /// replay, where nothing is late.
    pub fn pop(&mut self, now: MediaTime) -> Option<Output> {
        let event = match self.aligner.pop(now)? {
            Aligned::Subject(change) => change.into(),
            Aligned::Speech(turn) => turn.into(),
            Aligned::Words(words) => words.into(),
            Aligned::Clip(clip) => match &mut self.recognition {
                None => return Some(Output::Clip(Box::new(clip))),
                Some((recognizer, events)) => {
                    let recognition = recognizer.recognize(&clip);
                    let timestamps = ClipTimestamps {
                        taken: now,
                        recognized: now,
                        emitted: now,
                    };
                    events.expression(&clip, &recognition, timestamps)
                }
            },
        };
        Some(Output::Event(event))
    }

    /// The graphs back, for the next session: opening them takes longer than a short recording.
    pub fn into_stages(self) -> (Option<(Vision, Detector)>, Option<Hearing>) {
        (self.vision, self.hearing)
    }

    fn see(&mut self, input: VisionInput) -> Result<(), EncodeError> {
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

    fn hear(&mut self, input: HearingInput) -> Result<(), SessionError> {
        let Some(hearing) = &mut self.hearing else {
            return Ok(());
        };
        hearing.push(input)?;
        while let Some(output) = hearing.pop() {
            match (output, &mut self.transcription) {
                (HearingOutput::Align(input), _) => self.aligned.push_back(input),
                (HearingOutput::Transcribe(input), Some(transcription)) => {
                    let transcripts = transcription.push(input)?;
                    let inputs = transcripts.into_iter().map(AlignInput::Words);
                    self.aligned.extend(inputs);
                    if let Some(until) = transcription.known_until() {
                        self.aligned.push_back(AlignInput::WordsUntil(until));
                    }
                }
                (HearingOutput::Transcribe(_), None) => {}
            }
        }
        Ok(())
    }
}
