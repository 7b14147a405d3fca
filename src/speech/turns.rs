//! Speech turns from the windows' probabilities of speech, without thread, channel or clock.

use crate::time::{MediaTime, Span};

/// Thresholds and minimum durations that define speech turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnRule {
    /// Outside turns, a window is speech if its probability, 0 to 1, is at least this.
    pub start_probability: f32,
    /// After an onset, a window is speech if its probability, 0 to 1, is at least this lower value.
    pub end_probability: f32,
    /// Duration of speech that confirms a turn, in nanoseconds.
    pub min_speech_nanos: i64,
    /// Duration of silence that ends a turn, in nanoseconds.
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

/// Duration of silence that discards an unconfirmed onset, in nanoseconds. Silero's probability may
/// dip for one window inside a word.
const ONSET_PAUSE_NANOS: i64 = 50_000_000;

/// State machine that finds speech turns. It does not attribute them to speakers.
#[derive(Clone, Debug)]
pub struct Turns {
    rule: TurnRule,
    state: State,
}

/// State of the turn detection. `start`: start of the first speech window; `last_speech`: end of
/// the newest speech window.
#[derive(Clone, Copy, Debug)]
enum State {
    Silence,
    /// Speech that is not confirmed as a turn yet.
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
    /// Starts in silence, before the first window.
    pub fn new(rule: TurnRule) -> Self {
        Turns {
            rule,
            state: State::Silence,
        }
    }

    /// Adds the next window with its probability of speech, 0 to 1. Returns whether the window is
    /// speech, and the start of the turn that is open at its end, if there is one. Spans must be in
    /// order; gaps between them count as silence.
    pub fn update(&mut self, span: Span, probability: f32) -> (bool, Option<MediaTime>) {
        // A gap before this window may end the turn.
        self.note_silence(span.start);
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
            self.note_silence(span.end);
        }
        let turn = match self.state {
            State::Turn { start, .. } => Some(start),
            State::Silence | State::Onset { .. } => None,
        };
        (speech, turn)
    }

    /// Ends an onset or turn if the silence up to `time` is long enough.
    fn note_silence(&mut self, time: MediaTime) {
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

    fn decide_all(probabilities: &[f32]) -> Vec<(bool, Option<i64>)> {
        let mut turns = Turns::new(TurnRule::default());
        probabilities
            .iter()
            .enumerate()
            .map(|(i, p)| turns.update(window(i as i64), *p))
            .map(|(s, t)| (s, t.map(|t| t.nanos() / 32_000_000)))
            .collect()
    }

    #[test]
    fn a_turn_starts_at_its_first_speech_once_it_is_confirmed() {
        let decisions = decide_all(&[0.1, 0.6, 0.9, 0.4, 0.9, 0.9]);
        assert_eq!(
            decisions.iter().map(|v| v.0).collect::<Vec<_>>(),
            [false, true, true, true, true, true],
            "0.4 is speech inside speech"
        );
        assert_eq!(
            decisions.iter().map(|v| v.1).collect::<Vec<_>>(),
            [None, None, None, None, Some(1), Some(1)],
            "the fourth window of 32 ms exceeds 100 ms"
        );
    }

    #[test]
    fn short_bursts_are_no_turn_and_a_dip_of_one_window_keeps_the_onset() {
        assert!(
            decide_all(&[0.9, 0.9, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0])
                .iter()
                .all(|v| v.1.is_none())
        );
        assert_eq!(
            decide_all(&[0.9, 0.9, 0.2, 0.9, 0.9]).last().unwrap().1,
            Some(0)
        );
    }

    #[test]
    fn a_turn_survives_a_pause_and_ends_after_a_silence() {
        let mut probabilities = vec![0.9; 5];
        probabilities.extend([0.1; 9]); // 288 ms
        probabilities.extend([0.4; 1]);
        probabilities.extend([0.1; 10]); // 320 ms
        let decisions = decide_all(&probabilities);
        assert_eq!(decisions[23].1, Some(0), "288 ms after the last speech");
        assert_eq!(decisions[24].1, None, "320 ms after it");
    }

    #[test]
    fn a_gap_counts_as_silence() {
        let mut turns = Turns::new(TurnRule::default());
        (0..5).for_each(|i| {
            turns.update(window(i), 0.9);
        });
        assert_eq!(
            turns.clone().update(window(12), 0.9),
            (true, Some(MediaTime::ZERO)),
            "a gap of 224 ms is a pause"
        );
        assert_eq!(
            turns.update(window(15), 0.9),
            (true, None),
            "one of 320 ms ends the turn, and a new one begins to form"
        );
    }

    proptest! {
        /// Every turn starts at speech, has the minimum speech, and does not continue through a
        /// silence.
        #[test]
        fn turns_follow_the_rule(probabilities in prop::collection::vec(0.0f32..1.0, 1..200)) {
            let decisions = decide_all(&probabilities);
            for (i, (_, turn)) in decisions.iter().enumerate() {
                let Some(start) = turn else { continue };
                let start = *start as usize;
                prop_assert!(probabilities[start] >= 0.5);
                prop_assert!(decisions[start..=i].iter().filter(|v| v.0).count() >= 4);
                prop_assert!(i < 10 || decisions[i - 9..=i].iter().any(|v| v.0));
            }
            for (decision, probability) in decisions.iter().zip(&probabilities) {
                prop_assert!(decision.0 || *probability < 0.5, "0.5 is always speech");
                prop_assert!(!decision.0 || *probability >= 0.35);
            }
        }
    }
}
