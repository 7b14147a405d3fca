//! The stages' threads: from frames and blocks to events. The one place that gives stages their threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::express::{Constants, Passage};
use super::faces::{FacesThread, READ_AHEAD, detect};
use super::failure::{FirstFailure, StageError, StageFailure};
use super::found::FoundCounts;
use super::hearing::{ToTranscriber, hear, transcribe};
use super::panics;
use crate::align::{AlignInput, Aligned, Aligner};
use crate::clip::{AudioBlock, Clip, Recognition, VideoFrame};
use crate::event::Event;
use crate::face::{Detector, FaceStage};
use crate::lane::{
    LaneCounters, LaneGuest, LaneReceiver, LaneSender, Received, WhenFull, lane, lane_with_control,
};
use crate::notify::{Beat, Progress};
use crate::recognize::Recognizer;
use crate::schedule::{Schedule, ScheduleCounters, deadline};
use crate::speech::{SpeechStage, TranscribeStage};
use crate::time::{Clock, MediaTime};

/// How often a waiting stage looks up to say that it lives.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Live: the freshest counts. Replay: everything counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tempo {
    Live,
    Replay,
}

impl Tempo {
    pub fn when_full(self) -> WhenFull {
        match self {
            Tempo::Live => WhenFull::DropOldest,
            Tempo::Replay => WhenFull::Block,
        }
    }
}

/// The stages, built and not yet running.
pub struct Stages {
    pub faces: Option<(FaceStage, Detector, LaneReceiver<VideoFrame>)>,
    pub speech: Option<(SpeechStage, LaneReceiver<AudioBlock>)>,
    /// Where words are wanted: the stage, and the lane from the speech stage to it.
    pub transcriber: Option<(
        TranscribeStage,
        LaneSender<ToTranscriber>,
        LaneReceiver<ToTranscriber>,
    )>,
    pub aligner: Aligner,
    pub schedule: Schedule,
    pub recognizer: Recognizer,
    pub constants: Constants,
}

/// What comes out: called on the thread "infer", in the order of the wire. The passage is there for expressions.
pub type Emit = Box<dyn FnMut(Event, Option<(&Clip, &Recognition)>) + Send>;

/// Is a source known to be lost just now? Asked by the stage that waits for it.
pub type IsLost = Box<dyn Fn() -> bool + Send>;

/// Asked of both sources.
pub struct Losses {
    pub video: IsLost,
    pub audio: IsLost,
}

impl Losses {
    /// A recording is never lost: it ends.
    pub fn never() -> Losses {
        Losses {
            video: Box::new(|| false),
            audio: Box::new(|| false),
        }
    }
}

type Work = Box<dyn FnOnce(&Beat) -> Result<(), StageError> + Send>;

/// The running stages.
pub struct Pipeline {
    threads: Vec<(&'static str, JoinHandle<()>)>,
    failure: Arc<FirstFailure>,
    lanes: Vec<Arc<LaneCounters>>,
    refused: Arc<RefusedCounts>,
    desk: Arc<Desk>,
    words: LaneGuest<AlignInput>,
    /// The daemon stops: a transcriber that is behind is not waited for.
    hurry: Arc<AtomicBool>,
    found: Arc<FoundCounts>,
}

/// Items that the stages refused because their stamps went back.
#[derive(Debug, Default)]
pub struct RefusedCounts {
    /// Pictures and pieces of sound, by the aligner.
    pub align: AtomicU64,
    /// Pieces of sound, by the speech stage.
    pub speech: AtomicU64,
}

/// The schedule, shared by the thread that fills it, the one that empties it, and who reports.
pub struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

struct DeskState {
    schedule: Schedule,
    /// The aligner has said its last.
    ended: bool,
    /// The encoders' thread is gone.
    abandoned: bool,
}

impl Desk {
    pub fn counters(&self) -> ScheduleCounters {
        self.state.lock().expect("desk lock").schedule.counters()
    }
}

impl Pipeline {
    /// Gives every stage its thread. They end by themselves when the lanes into them do.
    /// Each stage beats in `progress`, also when it finds nothing to do, so that only a stage that hangs stands still.
    pub fn spawn(
        stages: Stages,
        tempo: Tempo,
        clock: Arc<dyn Clock>,
        losses: Losses,
        progress: &mut Progress,
        emit: Emit,
    ) -> Pipeline {
        let desk = Arc::new(Desk {
            state: Mutex::new(DeskState {
                schedule: stages.schedule,
                ended: false,
                abandoned: false,
            }),
            changed: Condvar::new(),
        });
        let (inbox, inputs) =
            lane_with_control("align", 256, tempo.when_full(), AlignInput::is_control);
        let mut lanes = vec![inbox.counters()];
        let hurry = Arc::new(AtomicBool::new(false));
        let mut pipeline = Pipeline {
            threads: Vec::new(),
            failure: Arc::default(),
            lanes: Vec::new(),
            refused: Arc::default(),
            desk: desk.clone(),
            words: inbox.guest(),
            hurry: hurry.clone(),
            found: Arc::default(),
        };
        let (found, refused) = (pipeline.found.clone(), pipeline.refused.clone());
        let now = clock.now();
        let mut thread = |stage, work: Work| pipeline.thread(stage, progress.add(stage, now), work);
        if let Some((stage, detector, frames)) = stages.faces {
            let interval = stage.detect_interval();
            let work = FacesThread {
                stage,
                frames,
                inbox: inbox.clone(),
                is_lost: losses.video,
                end: MediaTime::ZERO,
            };
            let (requests, answers) = match tempo {
                Tempo::Live => (
                    lane("detect", 1, WhenFull::DropNewest),
                    lane("detections", 2, WhenFull::DropOldest),
                ),
                // Room for one request and one answer per frame that is read ahead, and one in between: none of both ever waits for the other.
                Tempo::Replay => (
                    lane("detect", READ_AHEAD + 1, WhenFull::Block),
                    lane("detections", READ_AHEAD + 1, WhenFull::Block),
                ),
            };
            let ((requests, asked), (answers, answered)) = (requests, answers);
            lanes.extend([requests.counters(), answers.counters()]);
            let busy = Arc::new(AtomicBool::new(false));
            let idle = busy.clone();
            thread(
                "detect",
                Box::new(move |beat| detect(detector, &asked, &answers, &idle, beat)),
            );
            thread(
                "faces",
                Box::new(move |beat| match tempo {
                    Tempo::Replay => work.replay(interval, &requests, &answered, beat),
                    Tempo::Live => work.live(&requests, &answered, &busy, beat),
                }),
            );
        }
        if let Some((stage, blocks)) = stages.speech {
            let (heard, transcriber) = stages
                .transcriber
                .map_or((None, None), |(stage, heard, hears)| {
                    (Some(heard), Some((stage, hears)))
                });
            if let Some((stage, hears)) = transcriber {
                let (inbox, clock) = (inbox.clone(), clock.clone());
                thread(
                    "transcribe",
                    Box::new(move |beat| {
                        transcribe(stage, &hears, &inbox, &*clock, tempo, &hurry, beat)
                    }),
                );
            }
            let (inbox, refused) = (inbox.clone(), refused.clone());
            thread(
                "speech",
                Box::new(move |beat| {
                    hear(
                        stage,
                        &blocks,
                        &inbox,
                        heard.as_ref(),
                        &losses.audio,
                        (tempo, &refused.speech),
                        beat,
                    )
                }),
            );
        }
        drop(inbox);
        let (aligner, filling, now) = (stages.aligner, desk.clone(), clock.clone());
        thread(
            "align",
            Box::new(move |beat| {
                let result = align(
                    aligner,
                    &inputs,
                    &filling,
                    &*now,
                    (tempo, &found, &refused.align),
                    beat,
                );
                filling.state.lock().expect("desk lock").ended = true;
                filling.changed.notify_all();
                result
            }),
        );
        let (recognizer, constants) = (stages.recognizer, stages.constants);
        thread(
            "infer",
            Box::new(move |beat| {
                infer(recognizer, &constants, &desk, &*clock, emit, beat);
                desk.state.lock().expect("desk lock").abandoned = true;
                desk.changed.notify_all();
                Ok(())
            }),
        );
        pipeline.lanes = lanes;
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
        self.threads.push((
            stage,
            std::thread::Builder::new()
                .name(stage.into())
                .spawn(body)
                .expect("the system gives threads"),
        ));
    }

    pub fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    /// Where words from outside go in.
    pub fn words(&self) -> LaneGuest<AlignInput> {
        self.words.clone()
    }

    /// What the stages have seen so far.
    pub fn found(&self) -> Arc<FoundCounts> {
        self.found.clone()
    }

    /// The lanes between the stages.
    pub fn lanes(&self) -> &[Arc<LaneCounters>] {
        &self.lanes
    }

    pub fn refused(&self) -> Arc<RefusedCounts> {
        self.refused.clone()
    }

    pub fn has_failed(&self) -> bool {
        self.failure.is_there()
    }

    /// The daemon stops: words of sound that still waits for the transcriber are given up.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
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

    /// The first failure so far, where a stage does not end.
    pub fn take_failure(&self) -> Option<StageFailure> {
        self.failure.take()
    }

    /// The stages that have not ended.
    pub fn running(&self) -> impl Iterator<Item = &'static str> {
        self.threads
            .iter()
            .filter(|(_, thread)| !thread.is_finished())
            .map(|(stage, _)| *stage)
    }

    /// Waits for every stage; the first failure, if there was one.
    pub fn join(self) -> Option<StageFailure> {
        for (_, thread) in self.threads {
            let _ = thread.join();
        }
        self.failure.take()
    }
}

fn align(
    mut aligner: Aligner,
    inputs: &LaneReceiver<AlignInput>,
    desk: &Desk,
    clock: &dyn Clock,
    (tempo, found, refused): (Tempo, &FoundCounts, &AtomicU64),
    beat: &Beat,
) -> Result<(), StageError> {
    loop {
        beat.beat();
        let wait = match (tempo, aligner.next_deadline()) {
            (Tempo::Live, Some(deadline)) => {
                Duration::from_nanos(deadline.nanos_since(clock.now()).max(0) as u64).min(TICK)
            }
            _ => TICK,
        };
        let ended = match inputs.recv(Some(wait)) {
            Received::Item(input) => {
                found.see(&input);
                aligner.push(input);
                refused.store(aligner.refused(), Ordering::Relaxed);
                false
            }
            Received::TimedOut => false,
            Received::Ended => true,
        };
        while let Some(aligned) = aligner.pop(clock.now()) {
            let mut state = desk.state.lock().expect("desk lock");
            while state.schedule.is_full() && !state.abandoned {
                beat.beat();
                state = desk.changed.wait_timeout(state, TICK).expect("desk lock").0;
            }
            if state.abandoned {
                return Err(StageError::Gone("encoders' thread"));
            }
            state.schedule.push(aligned);
            drop(state);
            desk.changed.notify_all();
        }
        if ended {
            return Ok(());
        }
    }
}

fn infer(
    mut recognizer: Recognizer,
    constants: &Constants,
    desk: &Desk,
    clock: &dyn Clock,
    mut emit: Emit,
    beat: &Beat,
) {
    loop {
        beat.beat();
        let mut state = desk.state.lock().expect("desk lock");
        let Some(aligned) = state.schedule.pop(clock.now()) else {
            if state.ended {
                return;
            }
            drop(desk.changed.wait_timeout(state, TICK).expect("desk lock"));
            continue;
        };
        drop(state);
        desk.changed.notify_all();
        match aligned {
            Aligned::Subject(change) => emit(change.into(), None),
            Aligned::Speech(turn) => emit(turn.into(), None),
            Aligned::Words(told) => emit(told.into(), None),
            Aligned::Clip(clip) => {
                let taken = clock.now();
                let budget_nanos = i64::from(constants.budget_ms) * 1_000_000;
                let left_nanos = deadline(&clip, budget_nanos).nanos_since(taken);
                let recognition = recognizer.recognize_within(&clip, left_nanos);
                let recognized = clock.now();
                let event = constants.expression(
                    &clip,
                    &recognition,
                    Passage {
                        taken,
                        recognized,
                        emitted: clock.now(),
                    },
                );
                emit(event, Some((&clip, &recognition)));
            }
        }
    }
}
