//! The stages' threads: from frames and blocks to events. The one place that gives stages their threads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::express::{Constants, Passage};
use crate::align::{AlignInput, Aligned, Aligner};
use crate::clip::{AudioBlock, Clip, FramedFaces, Recognition, VideoFrame};
use crate::event::Event;
use crate::face::{Detection, Detector, FaceStage};
use crate::lane::{LaneReceiver, LaneSender, Received, WhenFull, lane};
use crate::notify::{Beat, Progress};
use crate::recognize::Recognizer;
use crate::schedule::{Schedule, ScheduleCounters};
use crate::speech::SpeechStage;
use crate::time::{Clock, MediaTime};

/// How often a waiting stage looks up to say that it lives.
const TICK: Duration = Duration::from_millis(100);

/// Frames that are read ahead of the tracker offline: what a detection takes, at full speed.
const READ_AHEAD: usize = 12;

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
        Losses { video: Box::new(|| false), audio: Box::new(|| false) }
    }
}

type Work = Box<dyn FnOnce(&Beat) -> Result<(), String> + Send>;

/// The running stages.
pub struct Pipeline {
    threads: Vec<(&'static str, JoinHandle<()>)>,
    failure: Arc<Failure>,
    desk: Arc<Desk>,
}

/// The first stage that failed, and why.
#[derive(Debug, Default)]
pub struct Failure {
    first: Mutex<Option<String>>,
    changed: Condvar,
}

impl Failure {
    fn report(&self, stage: &str, what: &str) {
        tracing::error!(stage, what, "stage failed");
        self.first.lock().expect("failure lock").get_or_insert_with(|| format!("stage {stage}: {what}"));
        self.changed.notify_all();
    }
    pub fn get(&self) -> Option<String> {
        self.first.lock().expect("failure lock").clone()
    }
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
    pub fn spawn(stages: Stages, tempo: Tempo, clock: Arc<dyn Clock>, losses: Losses, progress: &mut Progress, emit: Emit) -> Pipeline {
        let desk = Arc::new(Desk { state: Mutex::new(DeskState { schedule: stages.schedule, ended: false, abandoned: false }), changed: Condvar::new() });
        let mut pipeline = Pipeline { threads: Vec::new(), failure: Arc::default(), desk: desk.clone() };
        let now = clock.now();
        let mut thread = |stage, work: Work| pipeline.thread(stage, progress.add(stage, now), work);
        let (inbox, inputs) = lane("align", 256, tempo.when_full());
        if let Some((stage, detector, frames)) = stages.faces {
            let interval = stage.detect_interval();
            let work = FacesThread { stage, frames, inbox: inbox.clone(), is_lost: losses.video, end: MediaTime::ZERO };
            let (requests, answers) = match tempo {
                Tempo::Live => (lane("detect", 1, WhenFull::DropNewest), lane("detections", 2, WhenFull::DropOldest)),
                // Room for one request and one answer per frame that is read ahead, and one in between: none of both ever waits for the other.
                Tempo::Replay => (lane("detect", READ_AHEAD + 1, WhenFull::Block), lane("detections", READ_AHEAD + 1, WhenFull::Block)),
            };
            let ((requests, asked), (answers, answered)) = (requests, answers);
            let busy = Arc::new(AtomicBool::new(false));
            let idle = busy.clone();
            thread("detect", Box::new(move |beat| detect(detector, &asked, &answers, &idle, beat)));
            thread(
                "faces",
                Box::new(move |beat| match tempo {
                    Tempo::Replay => work.replay(interval, &requests, &answered, beat),
                    Tempo::Live => work.live(&requests, &answered, &busy, beat),
                }),
            );
        }
        if let Some((stage, blocks)) = stages.speech {
            let inbox = inbox.clone();
            thread("speech", Box::new(move |beat| hear(stage, &blocks, &inbox, &losses.audio, tempo, beat)));
        }
        drop(inbox);
        let (aligner, filling, now) = (stages.aligner, desk.clone(), clock.clone());
        thread(
            "align",
            Box::new(move |beat| {
                let result = align(aligner, &inputs, &filling, &*now, tempo, beat);
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
        pipeline
    }

    fn thread(&mut self, stage: &'static str, beat: Beat, work: Work) {
        let failure = self.failure.clone();
        let body = move || match catch_unwind(AssertUnwindSafe(|| work(&beat))) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => failure.report(stage, &what),
            Err(_) => failure.report(stage, "panicked"),
        };
        self.threads.push((stage, std::thread::Builder::new().name(stage.into()).spawn(body).expect("the system gives threads")));
    }

    pub fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.get()
    }

    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// Stages that have done their work and need beat no more.
    pub fn ended(&self) -> impl Iterator<Item = &'static str> {
        self.threads.iter().filter(|(_, thread)| thread.is_finished()).map(|(stage, _)| *stage)
    }

    /// Waits for every stage; the first failure, if there was one.
    pub fn join(self) -> Option<String> {
        for (_, thread) in self.threads {
            let _ = thread.join();
        }
        self.failure.get()
    }
}

struct FacesThread {
    stage: FaceStage,
    frames: LaneReceiver<VideoFrame>,
    inbox: LaneSender<AlignInput>,
    is_lost: IsLost,
    /// End of the newest frame.
    end: MediaTime,
}

impl FacesThread {
    /// Offline, every detection is used on the frame that it was made on: the same faces at the same frames on every run and at every
    /// pace. So that the tracker does not stand still meanwhile, frames are read ahead and the first of each interval of media time goes
    /// to the detector as it arrives; only where the stage looks for somebody in between does a frame wait.
    fn replay(
        mut self,
        interval: Duration,
        requests: &LaneSender<VideoFrame>,
        answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
        beat: &Beat,
    ) -> Result<(), String> {
        let interval = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        let (mut ahead, mut early, mut ended, mut newest_slot) = (VecDeque::new(), VecDeque::new(), false, None);
        loop {
            beat.beat();
            while !ended && ahead.len() < READ_AHEAD {
                match self.frames.recv(Some(TICK)) {
                    Received::TimedOut => beat.beat(),
                    Received::Ended => ended = true,
                    Received::Item(frame) => {
                        let slot = Some(frame.time.nanos().div_euclid(interval));
                        let asked = slot != newest_slot;
                        newest_slot = slot;
                        if asked {
                            requests.send(frame.clone()).map_err(|_| "the detector is gone")?;
                        }
                        ahead.push_back((frame, asked));
                    }
                }
            }
            let Some((frame, asked)) = ahead.pop_front() else { return self.finish(true) };
            if !asked && self.stage.wants_detection(&frame) {
                requests.send(frame.clone()).map_err(|_| "the detector is gone")?;
                let detections = answer_for(frame.time, answers, &mut early)?;
                self.stage.detected(frame.time, detections);
            } else if asked {
                let detections = answer_for(frame.time, answers, &mut early)?;
                self.stage.detected(frame.time, detections);
            }
            self.advance(&frame)?;
        }
    }

    /// Live, the detector has a thread of its own and delays no frame; what it found comes some frames later.
    fn live(
        mut self,
        requests: &LaneSender<VideoFrame>,
        answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
        busy: &AtomicBool,
        beat: &Beat,
    ) -> Result<(), String> {
        let mut lost = false;
        loop {
            beat.beat();
            match self.frames.recv(Some(TICK)) {
                Received::TimedOut => {
                    if !lost && (self.is_lost)() {
                        lost = true;
                        self.finish(false)?;
                    }
                }
                Received::Ended => return self.finish(true),
                Received::Item(frame) => {
                    lost = false;
                    while let Received::Item((at, detections)) = answers.recv(Some(Duration::ZERO)) {
                        self.stage.detected(at, detections);
                    }
                    if !busy.load(Ordering::Acquire) && self.stage.wants_detection(&frame) {
                        busy.store(true, Ordering::Release);
                        let _ = requests.send(frame.clone());
                    }
                    self.advance(&frame)?;
                }
            }
        }
    }

    fn advance(&mut self, frame: &VideoFrame) -> Result<(), String> {
        self.end = self.end.max(frame.time.plus_nanos(frame.duration_nanos.unwrap_or(1)));
        let faces = self.stage.advance(frame).map_err(chain)?;
        self.send(AlignInput::Faces(faces))
    }

    /// The subjects that are still there are lost now.
    fn finish(&mut self, ended: bool) -> Result<(), String> {
        let changes = self.stage.finish(self.end);
        if !changes.is_empty() {
            self.send(AlignInput::Faces(FramedFaces { time: self.end, picture_size: [0, 0], faces: Vec::new(), changes }))?;
        }
        self.send(if ended { AlignInput::FacesEnded } else { AlignInput::FacesLost })
    }

    fn send(&self, input: AlignInput) -> Result<(), String> {
        self.inbox.send(input).map(|_| ()).map_err(|_| "the aligner is gone".to_owned())
    }
}

/// The answer to the request for the frame of this time; earlier requests' answers, for frames that are still ahead, are kept in `early`.
fn answer_for(
    time: MediaTime,
    answers: &LaneReceiver<(MediaTime, Vec<Detection>)>,
    early: &mut VecDeque<(MediaTime, Vec<Detection>)>,
) -> Result<Vec<Detection>, String> {
    if let Some(index) = early.iter().position(|(at, _)| *at == time) {
        return Ok(early.remove(index).expect("just found").1);
    }
    loop {
        match answers.recv(None) {
            Received::Item((at, detections)) if at == time => return Ok(detections),
            Received::Item(other) => early.push_back(other),
            Received::Ended | Received::TimedOut => return Err("the detector is gone".into()),
        }
    }
}

fn detect(
    mut detector: Detector,
    requests: &LaneReceiver<VideoFrame>,
    answers: &LaneSender<(MediaTime, Vec<Detection>)>,
    busy: &AtomicBool,
    beat: &Beat,
) -> Result<(), String> {
    loop {
        beat.beat();
        match requests.recv(Some(TICK)) {
            Received::TimedOut => {}
            Received::Ended => return Ok(()),
            Received::Item(frame) => {
                let detections = detector.detect(&frame.picture).map_err(chain)?;
                busy.store(false, Ordering::Release);
                if answers.send((frame.time, detections)).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn hear(
    mut stage: SpeechStage,
    blocks: &LaneReceiver<AudioBlock>,
    inbox: &LaneSender<AlignInput>,
    is_lost: &IsLost,
    tempo: Tempo,
    beat: &Beat,
) -> Result<(), String> {
    let send = |input| inbox.send(input).map(|_| ()).map_err(|_| "the aligner is gone".to_owned());
    let mut lost = false;
    loop {
        beat.beat();
        match blocks.recv(Some(TICK)) {
            Received::TimedOut => {
                if tempo == Tempo::Live && !lost && is_lost() {
                    lost = true;
                    send(AlignInput::HeardLost)?;
                }
            }
            Received::Ended => {
                if let Some(heard) = stage.finish().map_err(chain)? {
                    send(AlignInput::Heard(heard))?;
                }
                return send(AlignInput::HeardEnded);
            }
            Received::Item(block) => {
                lost = false;
                send(AlignInput::Heard(stage.hear(block).map_err(chain)?))?;
            }
        }
    }
}

fn align(mut aligner: Aligner, inputs: &LaneReceiver<AlignInput>, desk: &Desk, clock: &dyn Clock, tempo: Tempo, beat: &Beat) -> Result<(), String> {
    loop {
        beat.beat();
        let wait = match (tempo, aligner.next_deadline()) {
            (Tempo::Live, Some(deadline)) => Duration::from_nanos(deadline.nanos_since(clock.now()).max(0) as u64).min(TICK),
            _ => TICK,
        };
        let ended = match inputs.recv(Some(wait)) {
            Received::Item(input) => {
                aligner.push(input);
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
                return Err("the encoders' thread is gone".into());
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

fn infer(mut recognizer: Recognizer, constants: &Constants, desk: &Desk, clock: &dyn Clock, mut emit: Emit, beat: &Beat) {
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
            Aligned::Clip(clip) => {
                let taken = clock.now();
                let recognition = recognizer.recognize(&clip);
                let recognized = clock.now();
                let event = constants.expression(&clip, &recognition, Passage { taken, recognized, emitted: clock.now() });
                emit(event, Some((&clip, &recognition)));
            }
        }
    }
}

/// An error and its sources on one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
