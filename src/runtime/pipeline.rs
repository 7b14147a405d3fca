//! Starts the threads of a session's stages, and waits for their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::align::align;
use super::callbacks::{Emit, Losses};
use super::failure::{FirstFailure, StageError, StageFailure};
use super::infer::infer;
use super::lanes::Lanes;
use super::panics;
use super::queue::InferenceQueue;
use super::replay_counts::SharedReplayCounts;
use super::speech_detection::SpeechThread;
use super::transcription::transcribe;
use super::vision::{VisionThread, detect};
use crate::notify::{Heartbeat, Progress};
use crate::recognize::Recognizer;
use crate::schedule::Schedule;
use crate::session::{EventBuilder, Stages, Tempo};
use crate::time::Clock;

/// The parts of a session from which [`Pipeline::spawn`] starts the threads.
pub struct Assembly {
    pub stages: Stages,
    pub lanes: Lanes,
    pub schedule: Schedule,
    pub recognizer: Recognizer,
    pub events: EventBuilder,
}

/// The function that a stage's thread runs; it sends heartbeats.
type Work = Box<dyn FnOnce(&Heartbeat) -> Result<(), StageError> + Send>;

/// Numbers of frames and audio blocks that were dropped because their stamps went back.
#[derive(Debug, Default)]
pub struct RefusedCounts {
    /// Frames and audio blocks that the aligner dropped.
    pub align: AtomicU64,
    /// Audio blocks that the speech stage dropped.
    pub speech: AtomicU64,
}

/// The running threads of a session, one for each stage.
pub struct Pipeline {
    /// The stages' names and threads.
    threads: Vec<(&'static str, JoinHandle<()>)>,
    failure: Arc<FirstFailure>,
    refused: Arc<RefusedCounts>,
    queue: Arc<InferenceQueue>,
    stopping: Arc<AtomicBool>,
    counts: Arc<SharedReplayCounts>,
}

impl Pipeline {
    /// Starts a thread for every stage. The threads end once the capture lanes have ended. Each
    /// thread sends heartbeats to `progress`, also while it has no work, so that only a hanging
    /// thread makes no progress. `emit` receives the events.
    pub fn spawn(
        assembly: Assembly,
        tempo: Tempo,
        clock: Arc<dyn Clock>,
        losses: Losses,
        progress: &mut Progress,
        emit: Emit,
    ) -> Pipeline {
        let Assembly {
            stages,
            lanes,
            schedule,
            recognizer,
            events,
        } = assembly;
        let mut pipeline = Pipeline {
            threads: Vec::new(),
            failure: Arc::default(),
            refused: Arc::default(),
            queue: Arc::new(InferenceQueue::new(schedule)),
            stopping: Arc::default(),
            counts: Arc::default(),
        };
        let (counts, refused) = (pipeline.counts.clone(), pipeline.refused.clone());
        let (queue, stopping) = (pipeline.queue.clone(), pipeline.stopping.clone());
        let (inbox, inputs) = lanes.align;
        let now = clock.now();
        let mut thread = |stage, work: Work| pipeline.thread(stage, progress.add(stage, now), work);
        if let (Some((vision, detector)), Some(frames)) = (stages.vision, lanes.frames) {
            let (requests, requested) = lanes.detect;
            let (results, detections) = lanes.detections;
            thread(
                "detect",
                Box::new(move |heartbeat| detect(detector, &requested, &results, heartbeat)),
            );
            let work = VisionThread {
                vision,
                frames,
                requests,
                detections,
                inbox: inbox.clone(),
                is_lost: losses.video,
            };
            thread("faces", Box::new(move |heartbeat| work.run(heartbeat)));
        }
        let (transcriber, transcribed) = lanes.transcribe.unzip();
        if let (Some(transcription), Some(inputs)) = (stages.transcription, transcribed) {
            let (inbox, clock) = (inbox.clone(), clock.clone());
            thread(
                "transcribe",
                Box::new(move |heartbeat| {
                    let clock = &*clock;
                    transcribe(
                        transcription,
                        &inputs,
                        &inbox,
                        clock,
                        tempo,
                        &stopping,
                        heartbeat,
                    )
                }),
            );
        }
        if let (Some(speech), Some(blocks)) = (stages.speech, lanes.sound) {
            let (inbox, refused) = (inbox.clone(), refused.clone());
            thread(
                "speech",
                Box::new(move |heartbeat| {
                    let thread = SpeechThread {
                        speech,
                        blocks,
                        inbox,
                        transcriber,
                        is_lost: (tempo == Tempo::Live).then_some(losses.audio),
                        refused: &refused.speech,
                    };
                    thread.run(heartbeat)
                }),
            );
        }
        drop(inbox);
        let (aligner, filled, now) = (stages.aligner, queue.clone(), clock.clone());
        thread(
            "align",
            Box::new(move |heartbeat| {
                let counts = (&*counts, &refused.align);
                let result = align(aligner, &inputs, &filled, &*now, counts, heartbeat);
                filled.end();
                result
            }),
        );
        thread(
            "infer",
            Box::new(move |heartbeat| {
                infer(recognizer, &events, &queue, &*clock, emit, heartbeat);
                queue.abandon();
                Ok(())
            }),
        );
        pipeline
    }

    /// Starts the thread of `stage`. An error or a panic of `work` is recorded as the stage's
    /// failure.
    fn thread(&mut self, stage: &'static str, heartbeat: Heartbeat, work: Work) {
        let failure = self.failure.clone();
        let body = move || {
            let ended = panics::catch(|| work(&heartbeat));
            if let Err(error) = ended.unwrap_or_else(|panic| Err(StageError::Panicked(panic))) {
                failure.report(StageFailure::new(stage, error));
            }
        };
        let thread = std::thread::Builder::new().name(stage.into()).spawn(body);
        self.threads
            .push((stage, thread.expect("the system gives threads")));
    }

    /// The queue in front of the recognizer, for its counters.
    pub fn queue(&self) -> Arc<InferenceQueue> {
        self.queue.clone()
    }

    /// The counts of processed frames and sound, which the threads keep updating.
    pub fn counts(&self) -> Arc<SharedReplayCounts> {
        self.counts.clone()
    }

    /// The numbers of frames and blocks that were dropped because their stamps went back, which the
    /// threads keep updating.
    pub fn refused(&self) -> Arc<RefusedCounts> {
        self.refused.clone()
    }

    /// Whether a stage has failed.
    pub fn has_failed(&self) -> bool {
        self.failure.has_failed()
    }

    /// Drops sound that waits for the transcriber, if it would delay a stop.
    pub fn drop_backlog(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the threads of all stages have ended.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// The names of the stages whose threads have ended; they send no more heartbeats.
    pub fn ended(&self) -> impl Iterator<Item = &'static str> {
        self.threads
            .iter()
            .filter(|(_, thread)| thread.is_finished())
            .map(|(stage, _)| *stage)
    }

    /// The names of the stages whose threads have not ended.
    pub fn running(&self) -> impl Iterator<Item = &'static str> {
        self.threads
            .iter()
            .filter(|(_, thread)| !thread.is_finished())
            .map(|(stage, _)| *stage)
    }

    /// Returns the first failure so far and forgets it; `None` if no stage has failed. Other stages
    /// keep running.
    pub fn take_failure(&self) -> Option<StageFailure> {
        self.failure.take()
    }

    /// Waits until the threads of all stages have ended. Returns the first failure; `None` if no
    /// stage failed.
    pub fn join(self) -> Option<StageFailure> {
        for (_, thread) in self.threads {
            let _ = thread.join();
        }
        self.failure.take()
    }
}
