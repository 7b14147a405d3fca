//! The threads "speech" and "transcribe": sound in; voice activity, and where they are wanted words, out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::failure::StageError;
use super::pipeline::{IsLost, TICK, Tempo};
use crate::align::AlignInput;
use crate::clip::{AudioBlock, Heard, Transcript};
use crate::lane::{LaneReceiver, LaneSender, Received};
use crate::notify::Beat;
use crate::speech::{SpeechStage, TranscribeError, TranscribeStage};
use crate::time::Clock;

/// So many items that wait are heard out when the daemon stops; with more, the transcriber is behind, and would hold it up.
const HEARD_OUT: u64 = 16;

/// What the speech stage passes on to the transcriber.
#[derive(Clone, Debug)]
pub struct ToTranscriber {
    /// Counts what was passed on, from 0: what the lane dropped leaves a gap. A block or two would not be missed by their stamps.
    pub number: u64,
    /// `None`: the sound is lost, and nothing comes for now.
    pub heard: Option<Heard>,
}

/// What goes on from the speech stage, and where to.
struct Onward<'a> {
    inbox: &'a LaneSender<AlignInput>,
    transcriber: Option<&'a LaneSender<ToTranscriber>>,
    next: u64,
}

impl Onward<'_> {
    fn heard(&mut self, heard: Heard) -> Result<(), StageError> {
        if self.transcriber.is_some() {
            self.tell_transcriber(Some(heard.clone()))?;
        }
        self.tell_aligner(AlignInput::Heard(heard))
    }

    fn lost(&mut self) -> Result<(), StageError> {
        self.tell_transcriber(None)?;
        self.tell_aligner(AlignInput::HeardLost)
    }

    fn tell_transcriber(&mut self, heard: Option<Heard>) -> Result<(), StageError> {
        let Some(transcriber) = self.transcriber else {
            return Ok(());
        };
        let number = self.next;
        self.next += 1;
        transcriber
            .send(ToTranscriber { number, heard })
            .map(|_| ())
            .map_err(|_| StageError::Gone("transcriber"))
    }

    fn tell_aligner(&self, input: AlignInput) -> Result<(), StageError> {
        self.inbox
            .send(input)
            .map(|_| ())
            .map_err(|_| StageError::Gone("aligner"))
    }
}

pub(super) fn hear(
    mut stage: SpeechStage,
    blocks: &LaneReceiver<AudioBlock>,
    inbox: &LaneSender<AlignInput>,
    transcriber: Option<&LaneSender<ToTranscriber>>,
    is_lost: &IsLost,
    (tempo, refused): (Tempo, &AtomicU64),
    beat: &Beat,
) -> Result<(), StageError> {
    let mut onward = Onward {
        inbox,
        transcriber,
        next: 0,
    };
    let mut lost = false;
    loop {
        beat.beat();
        match blocks.recv(Some(TICK)) {
            Received::TimedOut => {
                if tempo == Tempo::Live && !lost && is_lost() {
                    lost = true;
                    onward.lost()?;
                }
            }
            Received::Ended => {
                if let Some(heard) = stage.finish()? {
                    onward.heard(heard)?;
                }
                return onward.tell_aligner(AlignInput::HeardEnded);
            }
            Received::Item(block) => {
                lost = false;
                let heard = stage.hear(block)?;
                refused.store(stage.refused(), Ordering::Relaxed);
                onward.heard(heard)?;
            }
        }
    }
}

/// The transcribe stage behind its lane: what is missing there is no gap in the sound, and must not be spliced over.
struct Scribe {
    stage: TranscribeStage,
    /// The number of the item that comes next if none was lost.
    next: u64,
}

impl Scribe {
    fn take(&mut self, item: ToTranscriber) -> Result<Vec<Transcript>, TranscribeError> {
        let ToTranscriber { number, heard } = item;
        let mut told = Vec::new();
        if number != self.next || heard.is_none() {
            told = self.stage.interrupt()?;
        }
        self.next = number + 1;
        if let Some(heard) = heard {
            told.extend(self.stage.hear(&heard)?);
        }
        Ok(told)
    }
}

/// Beside everything: live, what it cannot follow is dropped and counted by its lane, with the rest of that turn, and nobody waits for it.
/// `hurry`: the daemon stops; a backlog is dropped.
pub(super) fn transcribe(
    stage: TranscribeStage,
    hears: &LaneReceiver<ToTranscriber>,
    inbox: &LaneSender<AlignInput>,
    clock: &dyn Clock,
    tempo: Tempo,
    hurry: &AtomicBool,
    beat: &Beat,
) -> Result<(), StageError> {
    let send = |input| {
        inbox
            .send(input)
            .map(|_| ())
            .map_err(|_| StageError::Gone("aligner"))
    };
    let counters = hears.counters();
    let (mut scribe, mut abandoned) = (Scribe { stage, next: 0 }, false);
    loop {
        beat.beat();
        let received = hears.recv(Some(TICK));
        abandoned |=
            hurry.load(Ordering::Acquire) && counters.depth.load(Ordering::Relaxed) > HEARD_OUT;
        let (transcripts, ended) = match received {
            Received::TimedOut => continue,
            // Taken all the same until the lane ends: whoever fills it must find it open.
            Received::Item(_) if abandoned => {
                hears.count_lost(1);
                continue;
            }
            Received::Item(item) => (scribe.take(item), false),
            Received::Ended if abandoned => (Ok(Vec::new()), true),
            Received::Ended => (scribe.stage.finish(), true),
        };
        if !ended && scribe.stage.is_skipping() {
            hears.count_lost(1);
        }
        for mut transcript in transcripts? {
            if tempo == Tempo::Live {
                transcript.told_at = transcript.told_at.max(clock.now());
            }
            send(AlignInput::Words(transcript))?;
        }
        if ended {
            return send(AlignInput::WordsEnded);
        }
        if let (Tempo::Replay, Some(until)) = (tempo, scribe.stage.known_until()) {
            send(AlignInput::WordsUntil(until))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::clip::{VoiceActivity, samples_to_nanos};
    use crate::encode::Runtime;
    use crate::lane::{WhenFull, lane};
    use crate::notify::Progress;
    use crate::speech::{Guess, Transcriber, TurnRule, VoiceDetector, WINDOW_SAMPLES, WordRule};
    use crate::time::{ManualClock, MediaTime, Span};

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
    const WINDOW_NANOS: i64 = samples_to_nanos(WINDOW_SAMPLES as i64);
    /// Turns of three seconds, with half a second between; in windows.
    const PERIOD: i64 = 110;
    const TURN: i64 = 94;

    /// A window of sound whose samples count on, so that each says where it is from.
    fn window(i: i64) -> Heard {
        let at = |i: i64| MediaTime::from_nanos(i * WINDOW_NANOS);
        let first = i * WINDOW_SAMPLES as i64;
        let samples = (first..first + WINDOW_SAMPLES as i64)
            .map(|sample| sample as f32)
            .collect();
        let turn = (i % PERIOD < TURN).then(|| at(i - i % PERIOD));
        let activity = VoiceActivity {
            span: Span::new(at(i), at(i + 1)),
            probability: 0.95,
            speech: turn.is_some(),
            turn,
        };
        Heard {
            block: AudioBlock {
                time: at(i),
                samples,
            },
            activity: vec![activity],
        }
    }

    /// Sound that comes in its own time, whether anybody listens or not.
    struct Live {
        now_nanos: i64,
        coming: VecDeque<Heard>,
        number: u64,
        lane: LaneSender<ToTranscriber>,
    }

    impl Live {
        fn pass(&mut self, nanos: i64) {
            self.now_nanos += nanos;
            while self
                .coming
                .front()
                .is_some_and(|heard| heard.block.span().end.nanos() <= self.now_nanos)
            {
                let item = ToTranscriber {
                    number: self.number,
                    heard: self.coming.pop_front(),
                };
                self.number += 1;
                assert!(self.lane.send(item).is_ok());
            }
        }
    }

    /// Takes `pace` seconds for one of sound, and for hearing an utterance out. Whatever it hears is one word.
    struct Slow {
        live: Arc<Mutex<Live>>,
        pace: f64,
        heard: usize,
        next: Option<f32>,
    }

    impl Transcriber for Slow {
        fn begin(&mut self) -> Result<(), TranscribeError> {
            (self.heard, self.next) = (0, None);
            Ok(())
        }
        fn hear(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
            let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
                return Ok(());
            };
            assert!(
                self.next.is_none_or(|next| next == *first),
                "sound is missing inside an utterance"
            );
            let mut live = self.live.lock().unwrap();
            let lag_nanos = live.now_nanos - samples_to_nanos(*last as i64);
            assert!(lag_nanos < 6_000_000_000, "{lag_nanos} ns behind");
            live.pass((self.pace * samples_to_nanos(samples.len() as i64) as f64) as i64);
            self.heard += samples.len();
            self.next = Some(last + 1.0);
            Ok(())
        }
        fn partial(&mut self) -> Result<Vec<Guess>, TranscribeError> {
            Ok(Vec::new())
        }
        fn finish(&mut self) -> Result<Vec<Guess>, TranscribeError> {
            self.live.lock().unwrap().pass((self.pace * 1e9) as i64);
            Ok(vec![Guess {
                text: "word".into(),
                samples: 0..self.heard,
                confidence: Some(0.9),
            }])
        }
    }

    /// A stage with such a transcriber, while `windows` windows of sound come into `lane`.
    fn slow_stage(
        pace: f64,
        windows: i64,
        lane: LaneSender<ToTranscriber>,
    ) -> (TranscribeStage, Arc<Mutex<Live>>) {
        let live = Arc::new(Mutex::new(Live {
            now_nanos: 0,
            coming: (0..windows).map(window).collect(),
            number: 0,
            lane,
        }));
        let transcriber = Slow {
            live: live.clone(),
            pace,
            heard: 0,
            next: None,
        };
        (
            TranscribeStage::new(Box::new(transcriber), WordRule::default()),
            live,
        )
    }

    /// Seventeen turns in a minute, live: in which of them words were told, and how many items were lost or skipped.
    fn turns_told(pace: f64) -> (Vec<i64>, u64) {
        let (sender, hears) = lane("transcribe", 64, WhenFull::DropOldest);
        let (stage, live) = slow_stage(pace, 17 * PERIOD, sender);
        let (mut scribe, mut told) = (Scribe { stage, next: 0 }, Vec::new());
        loop {
            if let Received::Item(item) = hears.recv(Some(Duration::ZERO)) {
                told.extend(scribe.take(item).unwrap());
                hears.count_lost(u64::from(scribe.stage.is_skipping()));
                continue;
            }
            let mut live = live.lock().unwrap();
            if live.coming.is_empty() {
                break;
            }
            live.pass(WINDOW_NANOS);
        }
        told.extend(scribe.stage.finish().unwrap());
        assert!(
            told.iter()
                .all(|transcript| transcript.is_final && transcript.words.len() == 1)
        );
        let turns = told
            .iter()
            .map(|transcript| (transcript.span.end.nanos() / WINDOW_NANOS - 1) / PERIOD);
        (
            turns.collect(),
            hears.counters().lost.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn a_transcriber_that_is_too_slow_hears_fewer_turns_and_never_splices() {
        assert_eq!(
            turns_told(0.5),
            ((0..17).collect::<Vec<i64>>(), 0),
            "one that is fast enough hears all"
        );
        for pace in [1.2, 1.5, 2.0, 3.0] {
            let (turns, lost) = turns_told(pace);
            assert!(
                turns.is_sorted_by(|a, b| a < b),
                "{pace}: an utterance is ended once: {turns:?}"
            );
            assert!(
                turns.len() >= 8 && lost > 0,
                "{pace}: {turns:?}, {lost} lost"
            );
        }
    }

    #[test]
    fn a_stop_does_not_wait_for_a_backlog() {
        // What waits, whether the daemon stops, and what is told.
        for (waiting, stops, finals) in [(80, true, 0), (80, false, 1), (8, true, 1)] {
            let (sender, hears) = lane("transcribe", 256, WhenFull::DropOldest);
            let (inbox, inputs) = lane("align", 16, WhenFull::DropOldest);
            let (elsewhere, _hears) = lane("elsewhere", 1, WhenFull::DropOldest);
            let (stage, _) = slow_stage(1.0, 0, elsewhere);
            for i in 0..waiting {
                assert!(
                    sender
                        .send(ToTranscriber {
                            number: i as u64,
                            heard: Some(window(i))
                        })
                        .is_ok()
                );
            }
            drop(sender);
            let beat =
                Progress::new(Duration::MAX, MediaTime::ZERO).add("transcribe", MediaTime::ZERO);
            transcribe(
                stage,
                &hears,
                &inbox,
                &ManualClock::default(),
                Tempo::Live,
                &AtomicBool::new(stops),
                &beat,
            )
            .unwrap();
            for _ in 0..finals {
                assert!(
                    matches!(inputs.recv(Some(Duration::ZERO)), Received::Item(AlignInput::Words(words)) if words.is_final),
                    "{waiting} {stops}"
                );
            }
            assert!(
                matches!(
                    inputs.recv(Some(Duration::ZERO)),
                    Received::Item(AlignInput::WordsEnded)
                ),
                "{waiting} {stops}"
            );
        }
    }

    #[test]
    fn aligner_and_transcriber_learn_that_the_sound_is_lost() {
        let stage = SpeechStage::new(
            TurnRule::default(),
            VoiceDetector::load(&Runtime::load().unwrap()).unwrap(),
        );
        let (sender, blocks) = lane("audio", 4, WhenFull::DropOldest);
        let (inbox, inputs) = lane("align", 16, WhenFull::DropOldest);
        let (passing, passed) = lane("transcribe", 16, WhenFull::DropOldest);
        let beat = Progress::new(Duration::MAX, MediaTime::ZERO).add("speech", MediaTime::ZERO);
        let block = |seconds: i64| AudioBlock {
            time: MediaTime::from_millis(1000 * seconds),
            samples: vec![0.0; WINDOW_SAMPLES].into(),
        };
        // There before anybody waits for it in vain.
        assert!(sender.send(block(0)).is_ok());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let is_lost: IsLost = Box::new(|| true);
                hear(
                    stage,
                    &blocks,
                    &inbox,
                    Some(&passing),
                    &is_lost,
                    (Tempo::Live, &AtomicU64::new(0)),
                    &beat,
                )
                .unwrap();
            });
            for number in [0, 2] {
                if number > 0 {
                    assert!(sender.send(block(60)).is_ok());
                }
                assert!(
                    matches!(passed.recv(PATIENCE), Received::Item(item) if item.number == number && item.heard.is_some())
                );
                assert!(
                    matches!(passed.recv(PATIENCE), Received::Item(item) if item.number == number + 1 && item.heard.is_none())
                );
            }
            drop(sender);
        });
        for _ in 0..2 {
            assert!(matches!(
                inputs.recv(Some(Duration::ZERO)),
                Received::Item(AlignInput::Heard(_))
            ));
            assert!(matches!(
                inputs.recv(Some(Duration::ZERO)),
                Received::Item(AlignInput::HeardLost)
            ));
        }
        assert!(matches!(
            inputs.recv(Some(Duration::ZERO)),
            Received::Item(AlignInput::HeardEnded)
        ));
    }
}
