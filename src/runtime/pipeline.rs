//! The running threads of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::align::align;
use super::callbacks::{Emit, Losses};
use super::failure::{FirstFailure, StageError, StageFailure};
use super::found::FoundCounts;
use super::hearing::HearingThread;
use super::infer::infer;
use super::lanes::Lanes;
use super::panics;
use super::queue::InferenceQueue;
use super::transcription::transcribe;
use super::vision::{VisionThread, detect};
use crate::notify::{Beat, Progress};
use crate::recognize::Recognizer;
use crate::schedule::Schedule;
use crate::session::{EventBuilder, Stages, Tempo};
use crate::time::Clock;

/// Everything that gets a thread, and the lanes in between.
pub struct Assembly {
    pub stages: Stages,
    pub lanes: Lanes,
    pub schedule: Schedule,
    pub recognizer: Recognizer,
    pub events: EventBuilder,
}

type Work = Box<dyn FnOnce(&Beat) -> Result<(), StageError> + Send>;

/// Items that the stages refused because their stamps went back.
#[derive(Debug, Default)]
pub struct RefusedCounts {
    /// Frames and blocks of sound, by the aligner.
    pub align: AtomicU64,
    /// Blocks of sound, by the speech stage.
    pub speech: AtomicU64,
}

/// The running threads.
pub struct Pipeline {
    threads: Vec<(&'static str, JoinHandle<()>)>,
    failure: Arc<FirstFailure>,
    refused: Arc<RefusedCounts>,
    queue: Arc<InferenceQueue>,
    stopping: Arc<AtomicBool>,
    found: Arc<FoundCounts>,
}

impl Pipeline {
    /// Gives every stage its thread. The threads end by themselves once the lanes that capture
    /// fills have ended. Each beats in `progress`, also when it finds nothing to do, so that only a
    /// thread that hangs stands still.
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
            found: Arc::default(),
        };
        let (found, refused) = (pipeline.found.clone(), pipeline.refused.clone());
        let (queue, stopping) = (pipeline.queue.clone(), pipeline.stopping.clone());
        let (inbox, inputs) = lanes.align;
        let now = clock.now();
        let mut thread = |stage, work: Work| pipeline.thread(stage, progress.add(stage, now), work);
        if let (Some((vision, detector)), Some(frames)) = (stages.vision, lanes.frames) {
            let (requests, requested) = lanes.detect;
            let (found, detections) = lanes.detections;
            thread(
                "detect",
                Box::new(move |beat| detect(detector, &requested, &found, beat)),
            );
            let work = VisionThread {
                vision,
                frames,
                requests,
                detections,
                inbox: inbox.clone(),
                is_lost: losses.video,
            };
            thread("faces", Box::new(move |beat| work.run(beat)));
        }
        let (transcriber, transcribed) = lanes.transcribe.unzip();
        if let (Some(transcription), Some(inputs)) = (stages.transcription, transcribed) {
            let (inbox, clock) = (inbox.clone(), clock.clone());
            thread(
                "transcribe",
                Box::new(move |beat| {
                    let clock = &*clock;
                    transcribe(
                        transcription,
                        &inputs,
                        &inbox,
                        clock,
                        tempo,
                        &stopping,
                        beat,
                    )
                }),
            );
        }
        if let (Some(hearing), Some(blocks)) = (stages.hearing, lanes.sound) {
            let (inbox, refused) = (inbox.clone(), refused.clone());
            thread(
                "speech",
                Box::new(move |beat| {
                    let thread = HearingThread {
                        hearing,
                        blocks,
                        inbox,
                        transcriber,
                        is_lost: (tempo == Tempo::Live).then_some(losses.audio),
                        refused: &refused.speech,
                    };
                    thread.run(beat)
                }),
            );
        }
        drop(inbox);
        let (aligner, filled, now) = (stages.aligner, queue.clone(), clock.clone());
        thread(
            "align",
            Box::new(move |beat| {
                let counts = (&*found, &refused.align);
                let result = align(aligner, &inputs, &filled, &*now, counts, beat);
                filled.end();
                result
            }),
        );
        thread(
            "infer",
            Box::new(move |beat| {
                infer(recognizer, &events, &queue, &*clock, emit, beat);
                queue.abandon();
                Ok(())
            }),
        );
        pipeline
    }

    fn thread(&mut self, stage: &'static str, beat: Beat, work: Work) {
        let failure = self.failure.clone();
        let body = move || {
            let ended = panics::catch(|| work(&beat));
            if let Err(error) = ended.unwrap_or_else(|panic| Err(StageError::Panicked(panic))) {
                failure.report(StageFailure::new(stage, error));
            }
        };
        let thread = std::thread::Builder::new().name(stage.into()).spawn(body);
        self.threads
            .push((stage, thread.expect("the system gives threads")));
    }

    pub fn queue(&self) -> Arc<InferenceQueue> {
        self.queue.clone()
    }

    /// What the stages have seen so far.
    pub fn found(&self) -> Arc<FoundCounts> {
        self.found.clone()
    }

    pub fn refused(&self) -> Arc<RefusedCounts> {
        self.refused.clone()
    }

    pub fn has_failed(&self) -> bool {
        self.failure.is_there()
    }

    /// The daemon stops: sound that still waits for the transcriber is given up.
    pub fn hurry(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// Stages that have done their work and need beat no more.
    pub fn ended(&self) -> impl Iterator<Item = &'static str> {
        self.threads
            .iter()
            .filter(|(_, thread)| thread.is_finished())
            .map(|(stage, _)| *stage)
    }

    /// The stages that have not ended.
    pub fn running(&self) -> impl Iterator<Item = &'static str> {
        self.threads
            .iter()
            .filter(|(_, thread)| !thread.is_finished())
            .map(|(stage, _)| *stage)
    }

    /// The first failure so far, where a stage does not end.
    pub fn take_failure(&self) -> Option<StageFailure> {
        self.failure.take()
    }

    /// Waits for every stage; the first failure, if there was one.
    pub fn join(self) -> Option<StageFailure> {
        for (_, thread) in self.threads {
            let _ = thread.join();
        }
        self.failure.take()
    }
}
