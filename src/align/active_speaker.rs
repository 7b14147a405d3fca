//! Who has the floor: one microphone, several faces. Lip motion against voice activity.
//!
//! For each subject `i` that was seen in the window:
//!
//! ```text
//! talk_i  mean lip motion while there is speech, over the window; a sight that is t seconds old weighs e^-t
//! rest_i  mean lip motion while there is none, over the last ten seconds
//!         (not yet known: the mean of the others'; nobody's known: 0, which cancels out)
//! scale   mean over the subjects of (talk_i + rest_i) / 2
//! score_i (talk_i - rest_i) / scale * n_i / (n_i + 3)        n_i: sights while there is speech
//! P(i)    softmax over the subjects of GAIN * score_i (+ STAY for the one who has the floor in this turn)
//! ```
//!
//! The voice is the subject's with the highest `P`, and `P` is how sure that is. `STAY` is the hysteresis: with equal motion nobody loses
//! the floor inside a turn; a new turn is open to all.
//!
//! A face alone gets the voice always, since a listener would give it to it. How sure depends on its lips:
//! `0.8 + (target - 0.8) * n / (n + 3)`, `target = 0.5 + 0.5 * max(0, (talk - rest) / (talk + rest))`: towards 1 for lips that move when
//! there is speech and rest when there is none, towards 0.5 for still ones.

use crate::clip::SubjectId;
use crate::time::{MediaTime, Span};

use super::presence::Presence;
use super::sound::Sound;

/// How far back silence is looked at to know how a mouth moves at rest.
const REST_NANOS: i64 = 10_000_000_000;
/// How long lips and verdicts on sound are kept: an utterance of the daemon's own transcriber, of up to 18 s, is judged as a whole, and told a
/// while after its end.
pub(super) const KEPT_NANOS: i64 = 20_000_000_000;
const GAIN: f32 = 2.0;
const STAY: f32 = 1.0;
/// Sights before lips are believed by half.
const HALF_BELIEF: f32 = 3.0;
/// Sights in silence before the rest is known.
const REST_SIGHTS: usize = 3;
/// Lip motion so small that it is none, in the unit of `Face::lip_motion` (deviations of the face's luma).
const STILL: f32 = 1e-3;

/// Whose the voice is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub owner: SubjectId,
    /// 0..1.
    pub confidence: f32,
    /// Nobody else was seen.
    pub alone: bool,
}

/// What one subject's lips say.
#[derive(Clone, Copy, Debug)]
struct Motion {
    subject: SubjectId,
    talk: f32,
    talk_sights: usize,
    rest: Option<f32>,
}

/// Remembers who has the floor in the turn that goes on.
#[derive(Debug, Default)]
pub(super) struct ActiveSpeaker {
    holder: Option<SubjectId>,
}

impl ActiveSpeaker {
    /// A new turn: open to all.
    pub fn open(&mut self) {
        self.holder = None;
    }

    /// Gives the floor to whom a clip's voice is judged to be.
    pub fn hold(&mut self, verdict: Option<Verdict>) {
        self.holder = verdict.map(|v| v.owner).or(self.holder);
    }

    /// Whose is the voice in `window`? `None` if nobody was seen in it.
    pub fn judge<'a>(
        &self,
        subjects: impl Iterator<Item = (SubjectId, &'a Presence)>,
        sound: &Sound,
        window: Span,
    ) -> Option<Verdict> {
        let motions: Vec<_> = subjects
            .filter(|(_, p)| p.is_seen_in(window))
            .map(|(subject, p)| motion(subject, p, sound, window))
            .collect();
        match motions.as_slice() {
            [] => None,
            [alone] => Some(Verdict {
                owner: alone.subject,
                confidence: confidence_alone(alone),
                alone: true,
            }),
            several => Some(self.judge_several(several)),
        }
    }

    fn judge_several(&self, motions: &[Motion]) -> Verdict {
        let known: Vec<f32> = motions.iter().filter_map(|m| m.rest).collect();
        let usual_rest = if known.is_empty() {
            0.0
        } else {
            known.iter().sum::<f32>() / known.len() as f32
        };
        let scale = motions
            .iter()
            .map(|m| (m.talk + m.rest.unwrap_or(usual_rest)) / 2.0)
            .sum::<f32>()
            / motions.len() as f32
            + STILL;
        let logits: Vec<f32> = motions
            .iter()
            .map(|m| {
                let score = (m.talk - m.rest.unwrap_or(usual_rest)) / scale * belief(m.talk_sights);
                let score = if m.talk_sights == 0 { 0.0 } else { score };
                GAIN * score
                    + if self.holder == Some(m.subject) {
                        STAY
                    } else {
                        0.0
                    }
            })
            .collect();
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|l| (l - highest).exp()).sum();
        // Of equals the first: who is there before who has left, in the order of their ids.
        let first = logits
            .iter()
            .position(|l| *l == highest)
            .expect("the highest is among them");
        Verdict {
            owner: motions[first].subject,
            confidence: 1.0 / sum,
            alone: false,
        }
    }
}

fn motion(subject: SubjectId, presence: &Presence, sound: &Sound, window: Span) -> Motion {
    let (mut talk, mut weights, mut talk_sights) = (0.0f32, 0.0f32, 0);
    let (mut rest, mut rest_sights) = (0.0f32, 0);
    let rest_from = window.end.plus_nanos(-REST_NANOS);
    let from = rest_from.min(window.start);
    for (time, motion) in presence
        .lips()
        .filter(|(time, _)| from <= *time && *time < window.end)
    {
        match sound.is_speech(time) {
            Some(true) if time >= window.start => {
                let weight = (-(window.end.nanos_since(time) as f32) * 1e-9).exp();
                talk += weight * motion;
                weights += weight;
                talk_sights += 1;
            }
            Some(false) if time >= rest_from => {
                rest += motion;
                rest_sights += 1;
            }
            _ => {}
        }
    }
    Motion {
        subject,
        talk: if talk_sights > 0 { talk / weights } else { 0.0 },
        talk_sights,
        rest: (rest_sights >= REST_SIGHTS).then(|| rest / rest_sights as f32),
    }
}

fn belief(sights: usize) -> f32 {
    sights as f32 / (sights as f32 + HALF_BELIEF)
}

fn confidence_alone(motion: &Motion) -> f32 {
    const WITHOUT_LIPS: f32 = 0.8;
    let rest = motion.rest.unwrap_or(0.0);
    let target = 0.5 + 0.5 * ((motion.talk - rest) / (motion.talk + rest + STILL)).max(0.0);
    WITHOUT_LIPS + (target - WITHOUT_LIPS) * belief(motion.talk_sights)
}

/// The window in which the floor is judged at `time`: a clip's length before it.
pub(super) fn window_before(time: MediaTime, length_nanos: i64) -> Span {
    Span::new(time.plus_nanos(-length_nanos), time)
}
