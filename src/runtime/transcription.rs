//! The thread "transcribe": receives sound with voice activity and returns transcripts.

use std::sync::atomic::{AtomicBool, Ordering};

use super::callbacks::TICK;
use super::failure::StageError;
use crate::align::AlignInput;
use crate::lane::{LaneReceiver, LaneSender, Received};
use crate::notify::Heartbeat;
use crate::session::{Tempo, TranscriberInput, Transcription};
use crate::time::Clock;

/// Largest number of waiting audio blocks that are still transcribed when the daemon stops. More
/// would delay the stop.
const FINISHED_AT_STOP: u64 = 16;

/// Transcribes until the lane `inputs` ends. Live, no stage waits for the transcriber: if it lags,
/// the lane drops and counts blocks, and the rest of the turn is skipped. Once `stopping` is true,
/// more than [`FINISHED_AT_STOP`] waiting blocks are dropped.
pub(super) fn transcribe(
    mut transcription: Transcription,
    inputs: &LaneReceiver<TranscriberInput>,
    inbox: &LaneSender<AlignInput>,
    clock: &dyn Clock,
    tempo: Tempo,
    stopping: &AtomicBool,
    heartbeat: &Heartbeat,
) -> Result<(), StageError> {
    let send = |input| {
        let sent = inbox.send(input);
        sent.map(|_| ()).map_err(|_| StageError::Gone("aligner"))
    };
    let counters = inputs.counters();
    let mut abandoned = false;
    loop {
        heartbeat.send();
        let received = inputs.recv(Some(TICK));
        let waiting = counters.depth.load(Ordering::Relaxed);
        abandoned |= stopping.load(Ordering::Acquire) && waiting > FINISHED_AT_STOP;
        let (transcripts, ended) = match received {
            Received::TimedOut => continue,
            // Dropped blocks are received until the lane ends, because a closed lane would be an
            // error for the sender.
            Received::Item(_) if abandoned => {
                inputs.count_lost(1);
                continue;
            }
            Received::Item(input) => (transcription.push(input), false),
            Received::Ended if abandoned => (Ok(Vec::new()), true),
            Received::Ended => (transcription.finish(), true),
        };
        if !ended && transcription.is_skipping() {
            inputs.count_lost(1);
        }
        for mut transcript in transcripts? {
            if tempo == Tempo::Live {
                transcript.known_at = transcript.known_at.max(clock.now());
            }
            send(AlignInput::Transcript(transcript))?;
        }
        if ended {
            return send(AlignInput::TranscriptsEnded);
        }
        if let (Tempo::Replay, Some(until)) = (tempo, transcription.known_until()) {
            send(AlignInput::TranscriptsUntil(until))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::clip::{AudioBlock, VadBlock, VoiceActivity, samples_to_nanos};
    use crate::lane::{WhenFull, lane};
    use crate::notify::Progress;
    use crate::speech::{
        TranscribeError, TranscribeStage, Transcriber, WINDOW_SAMPLES, WordHypothesis, WordRule,
    };
    use crate::time::{ManualClock, MediaTime, Span};

    const WINDOW_NANOS: i64 = samples_to_nanos(WINDOW_SAMPLES as i64);
    /// From the start of a turn to the start of the next one, in windows of 32 ms: 3.5 s.
    const PERIOD: i64 = 110;
    /// Length of a turn, in windows of 32 ms: 3 s.
    const TURN: i64 = 94;

    /// Window number `i` of the sound. The value of each sample is its position in the sound.
    fn window(i: i64) -> VadBlock {
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
        VadBlock {
            block: AudioBlock {
                time: at(i),
                samples,
            },
            activity: vec![activity],
        }
    }

    /// Sound that arrives in the lane in simulated real time, also while the transcriber is busy.
    struct Live {
        now_nanos: i64,
        coming: VecDeque<VadBlock>,
        /// Sequence number of the next input.
        number: u64,
        lane: LaneSender<TranscriberInput>,
    }

    impl Live {
        /// Advances the time by `nanos`, and sends the sound that has arrived by then.
        fn pass(&mut self, nanos: i64) {
            self.now_nanos += nanos;
            while self
                .coming
                .front()
                .is_some_and(|vad| vad.block.span().end.nanos() <= self.now_nanos)
            {
                let item = TranscriberInput {
                    number: self.number,
                    vad: self.coming.pop_front(),
                };
                self.number += 1;
                assert!(self.lane.send(item).is_ok());
            }
        }
    }

    /// A transcriber that needs `pace` seconds for each second of sound, and `pace` seconds more at
    /// the end of an utterance. It returns each utterance as one word.
    struct Slow {
        live: Arc<Mutex<Live>>,
        pace: f64,
        /// Number of samples of the current utterance so far.
        samples: usize,
        /// Position of the next sample, if no sound is missing.
        next: Option<f32>,
    }

    impl Transcriber for Slow {
        fn begin(&mut self) -> Result<(), TranscribeError> {
            (self.samples, self.next) = (0, None);
            Ok(())
        }
        fn feed(&mut self, samples: &[f32]) -> Result<(), TranscribeError> {
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
            self.samples += samples.len();
            self.next = Some(last + 1.0);
            Ok(())
        }
        fn partial(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
            Ok(Vec::new())
        }
        fn finish(&mut self) -> Result<Vec<WordHypothesis>, TranscribeError> {
            self.live.lock().unwrap().pass((self.pace * 1e9) as i64);
            Ok(vec![WordHypothesis {
                text: "word".into(),
                samples: 0..self.samples,
                confidence: Some(0.9),
            }])
        }
    }

    /// A stage with a [`Slow`] transcriber, and `windows` windows of sound that will arrive in
    /// `lane`.
    fn slow_stage(
        pace: f64,
        windows: i64,
        lane: LaneSender<TranscriberInput>,
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
            samples: 0,
            next: None,
        };
        (
            TranscribeStage::new(Box::new(transcriber), WordRule::default()),
            live,
        )
    }

    /// Transcribes 17 turns in a minute of live sound. Returns the numbers of the turns with a
    /// transcript, and the number of lost or skipped blocks.
    fn transcribed_turns(pace: f64) -> (Vec<i64>, u64) {
        let (sender, receiver) = lane("transcribe", 64, WhenFull::DropOldest);
        let (stage, live) = slow_stage(pace, 17 * PERIOD, sender);
        let (mut transcription, mut transcripts) = (Transcription::new(stage), Vec::new());
        loop {
            if let Received::Item(item) = receiver.recv(Some(Duration::ZERO)) {
                transcripts.extend(transcription.push(item).unwrap());
                receiver.count_lost(u64::from(transcription.is_skipping()));
                continue;
            }
            let mut live = live.lock().unwrap();
            if live.coming.is_empty() {
                break;
            }
            live.pass(WINDOW_NANOS);
        }
        transcripts.extend(transcription.finish().unwrap());
        assert!(
            transcripts
                .iter()
                .all(|transcript| transcript.is_final && transcript.words.len() == 1)
        );
        let turns = transcripts
            .iter()
            .map(|transcript| (transcript.span.end.nanos() / WINDOW_NANOS - 1) / PERIOD);
        (
            turns.collect(),
            receiver.counters().lost.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn a_slow_transcriber_skips_turns_and_never_joins_sound_across_a_gap() {
        assert_eq!(
            transcribed_turns(0.5),
            ((0..17).collect::<Vec<i64>>(), 0),
            "a fast transcriber takes all"
        );
        for pace in [1.2, 1.5, 2.0, 3.0] {
            let (turns, lost) = transcribed_turns(pace);
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
    fn at_a_stop_a_long_backlog_is_dropped_and_a_short_one_transcribed() {
        // Number of waiting blocks, whether the daemon stops, number of final transcripts.
        for (waiting, stops, finals) in [(80, true, 0), (80, false, 1), (8, true, 1)] {
            let (sender, receiver) = lane("transcribe", 256, WhenFull::DropOldest);
            let (inbox, inputs) = lane("align", 16, WhenFull::DropOldest);
            let (elsewhere, _receiver) = lane("elsewhere", 1, WhenFull::DropOldest);
            let (stage, _) = slow_stage(1.0, 0, elsewhere);
            for i in 0..waiting {
                assert!(
                    sender
                        .send(TranscriberInput {
                            number: i as u64,
                            vad: Some(window(i))
                        })
                        .is_ok()
                );
            }
            drop(sender);
            let heartbeat =
                Progress::new(Duration::MAX, MediaTime::ZERO).add("transcribe", MediaTime::ZERO);
            transcribe(
                Transcription::new(stage),
                &receiver,
                &inbox,
                &ManualClock::default(),
                Tempo::Live,
                &AtomicBool::new(stops),
                &heartbeat,
            )
            .unwrap();
            for _ in 0..finals {
                let Received::Item(AlignInput::Transcript(transcript)) =
                    inputs.recv(Some(Duration::ZERO))
                else {
                    panic!("{waiting} {stops}");
                };
                assert!(transcript.is_final, "{waiting} {stops}");
            }
            assert!(
                matches!(
                    inputs.recv(Some(Duration::ZERO)),
                    Received::Item(AlignInput::TranscriptsEnded)
                ),
                "{waiting} {stops}"
            );
        }
    }
}
