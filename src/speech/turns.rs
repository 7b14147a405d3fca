//! Probabilities of speech, window by window, become turns of speech. Pure.

use crate::time::{MediaTime, Span};

/// When a turn begins and when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnRule {
    /// A window from this probability on may begin a turn, 0..1.
    pub start_probability: f32,
    /// Once one has begun, a window is speech down to this probability, 0..1.
    pub end_probability: f32,
    /// So much speech makes a turn; less is a blip.
    pub min_speech_nanos: i64,
    /// So much without speech ends it; less is a pause.
    pub min_silence_nanos: i64,
}

impl Default for TurnRule {
    fn default() -> Self {
        TurnRule {
            start_probability: 0.5,
            end_probability: 0.35,
            min_speech_nanos: 100_000_000,
            min_silence_nanos: 300_000_000,
        }
    }
}

/// A beginning that has not lasted long enough is given up after this long without speech. Silero dips for a window inside words.
const ONSET_PAUSE_NANOS: i64 = 50_000_000;

/// The floor: who has it is not known here, only whether somebody does.
#[derive(Clone, Debug)]
pub struct Turns {
    rule: TurnRule,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Silence,
    /// Speech that is not yet a turn.
    Onset {
        start: MediaTime,
        speech_nanos: i64,
        last_speech: MediaTime,
    },
    Turn {
        start: MediaTime,
        last_speech: MediaTime,
    },
}

impl Turns {
    pub fn new(rule: TurnRule) -> Self {
        Turns {
            rule,
            state: State::Silence,
        }
    }

    /// What the next window says: whether it is speech, and the start of the turn that goes on at its end. Spans rise; between them may be gaps,
    /// which count as silence.
    pub fn judge(&mut self, span: Span, probability: f32) -> (bool, Option<MediaTime>) {
        // What a gap before this window ends, it ends before this window is looked at.
        self.pass(span.start);
        let speech = match self.state {
            State::Silence => probability >= self.rule.start_probability,
            State::Onset { .. } | State::Turn { .. } => probability >= self.rule.end_probability,
        };
        if speech {
            self.state = match self.state {
                State::Silence => State::Onset {
                    start: span.start,
                    speech_nanos: span.nanos(),
                    last_speech: span.end,
                },
                State::Onset {
                    start,
                    speech_nanos,
                    ..
                } => State::Onset {
                    start,
                    speech_nanos: speech_nanos + span.nanos(),
                    last_speech: span.end,
                },
                State::Turn { start, .. } => State::Turn {
                    start,
                    last_speech: span.end,
                },
            };
            if let State::Onset {
                start,
                speech_nanos,
                last_speech,
            } = self.state
                && speech_nanos >= self.rule.min_speech_nanos
            {
                self.state = State::Turn { start, last_speech };
            }
        } else {
            self.pass(span.end);
        }
        let turn = match self.state {
            State::Turn { start, .. } => Some(start),
            State::Silence | State::Onset { .. } => None,
        };
        (speech, turn)
    }

    /// There was no speech up to `time`.
    fn pass(&mut self, time: MediaTime) {
        let over = match self.state {
            State::Silence => false,
            State::Onset { last_speech, .. } => time.nanos_since(last_speech) >= ONSET_PAUSE_NANOS,
            State::Turn { last_speech, .. } => {
                time.nanos_since(last_speech) >= self.rule.min_silence_nanos
            }
        };
        if over {
            self.state = State::Silence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(i: i64) -> Span {
        Span::new(
            MediaTime::from_millis(32 * i),
            MediaTime::from_millis(32 * (i + 1)),
        )
    }

    fn judge_all(probabilities: &[f32]) -> Vec<(bool, Option<i64>)> {
        let mut turns = Turns::new(TurnRule::default());
        probabilities
            .iter()
            .enumerate()
            .map(|(i, p)| turns.judge(window(i as i64), *p))
            .map(|(s, t)| (s, t.map(|t| t.nanos() / 32_000_000)))
            .collect()
    }

    #[test]
    fn a_turn_begins_where_its_first_speech_was_and_only_when_it_has_lasted() {
        let verdicts = judge_all(&[0.1, 0.6, 0.9, 0.4, 0.9, 0.9]);
        assert_eq!(
            verdicts.iter().map(|v| v.0).collect::<Vec<_>>(),
            [false, true, true, true, true, true],
            "0.4 is speech inside speech"
        );
        assert_eq!(
            verdicts.iter().map(|v| v.1).collect::<Vec<_>>(),
            [None, None, None, None, Some(1), Some(1)],
            "128 ms are the first 100"
        );
    }

    #[test]
    fn blips_are_no_turn_and_a_dip_of_one_window_does_not_break_an_onset() {
        assert!(
            judge_all(&[0.9, 0.9, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0])
                .iter()
                .all(|v| v.1.is_none())
        );
        assert_eq!(
            judge_all(&[0.9, 0.9, 0.2, 0.9, 0.9]).last().unwrap().1,
            Some(0)
        );
    }

    #[test]
    fn a_turn_survives_a_pause_and_ends_after_a_silence() {
        let mut probabilities = vec![0.9; 5];
        probabilities.extend([0.1; 9]); // 288 ms
        probabilities.extend([0.4; 1]);
        probabilities.extend([0.1; 10]); // 320 ms
        let verdicts = judge_all(&probabilities);
        assert_eq!(verdicts[23].1, Some(0), "288 ms after the last speech");
        assert_eq!(verdicts[24].1, None, "320 ms after it");
    }

    #[test]
    fn a_gap_counts_as_silence() {
        let mut turns = Turns::new(TurnRule::default());
        (0..5).for_each(|i| {
            turns.judge(window(i), 0.9);
        });
        assert_eq!(
            turns.clone().judge(window(12), 0.9),
            (true, Some(MediaTime::ZERO)),
            "a gap of 224 ms is a pause"
        );
        assert_eq!(
            turns.judge(window(15), 0.9),
            (true, None),
            "one of 320 ms ends the turn, and a new one begins to form"
        );
    }

    proptest! {
        /// No turn without enough speech, none that begins where there is none, and none that goes on through a silence.
        #[test]
        fn turns_keep_their_rule(probabilities in prop::collection::vec(0.0f32..1.0, 1..200)) {
            let verdicts = judge_all(&probabilities);
            for (i, (_, turn)) in verdicts.iter().enumerate() {
                let Some(start) = turn else { continue };
                let start = *start as usize;
                prop_assert!(probabilities[start] >= 0.5);
                prop_assert!(verdicts[start..=i].iter().filter(|v| v.0).count() >= 4);
                prop_assert!(i < 10 || verdicts[i - 9..=i].iter().any(|v| v.0));
            }
            for (verdict, probability) in verdicts.iter().zip(&probabilities) {
                prop_assert!(verdict.0 || *probability < 0.5, "0.5 is always speech");
                prop_assert!(!verdict.0 || *probability >= 0.35);
            }
        }
    }
}
