//! Active-speaker detection for one microphone and several faces: lip motion against voice
//! activity.
//!
//! For each subject `i` that was seen in the window:
//!
//! ```text
//! talk_i  mean lip motion during speech, over the window; an observation t s old has weight e^-t
//! rest_i  mean lip motion outside speech, over the last ten seconds
//!          (if unknown: mean of the other subjects' rest; if unknown for all: 0)
//! scale   mean over the subjects of (talk_i + rest_i) / 2
//! score_i (talk_i - rest_i) / scale * n_i / (n_i + 3)        n_i: observations during speech
//! P(i)    softmax over the subjects of GAIN * score_i (+ STAY for the turn's current speaker)
//! ```
//!
//! The voice is attributed to the subject with the highest `P`, which is also the confidence.
//! `STAY` is the hysteresis: with equal motion the speaker does not change inside a turn. A new
//! turn has no current speaker.
//!
//! If only one face is present, the voice is always attributed to it, as a listener would do. The
//! confidence then depends on the lips: `0.8 + (target - 0.8) * n / (n + 3)`, with
//! `target = 0.5 + 0.5 * max(0, (talk - rest) / (talk + rest))`. It tends towards 1 for lips that
//! move during speech and rest outside it, and towards 0.5 for still lips.

use crate::clip::SubjectId;
use crate::time::{MediaTime, Span};

use super::presence::Presence;
use super::sound::AudioHistory;

/// Window of the lip motion at rest, in nanoseconds.
const REST_NANOS: i64 = 10_000_000_000;
/// Duration for which lip motion and voice activity are kept, in nanoseconds. An utterance of the
/// daemon's own transcriber is attributed as a whole: it lasts up to 18 s, and its transcript comes
/// some time after its end.
pub(super) const KEPT_NANOS: i64 = 20_000_000_000;
/// Factor of a subject's score in its logit.
const GAIN: f32 = 2.0;
/// Addition to the logit of the turn's current speaker: the hysteresis inside a turn.
const STAY: f32 = 1.0;
/// Number of observations during speech at which lip motion has half of its weight.
const HALF_WEIGHT: f32 = 3.0;
/// Least number of observations outside speech from which the lip motion at rest is computed.
const MIN_REST_OBSERVATIONS: usize = 3;
/// Negligible lip motion, in the unit of `Face::lip_motion` (standard deviations of the face's
/// luma). It is added to denominators so that none is 0.
const NEGLIGIBLE_MOTION: f32 = 1e-3;

/// The attribution of a voice to a subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Attribution {
    /// The subject with the highest probability.
    pub owner: SubjectId,
    /// Probability that `owner` is speaking, 0 to 1.
    pub confidence: f32,
    /// Whether `owner` is the only subject that was seen in the attribution window.
    pub alone: bool,
}

/// Lip motion of one subject in an attribution window, in the unit of `Face::lip_motion`.
#[derive(Clone, Copy, Debug)]
struct Motion {
    subject: SubjectId,
    /// Mean lip motion during speech, recent observations weighted higher; 0 without observations.
    talk: f32,
    /// Number of observations during speech in the window.
    talk_observations: usize,
    /// Mean lip motion outside speech; `None` below [`MIN_REST_OBSERVATIONS`].
    rest: Option<f32>,
}

/// Attributes voices to subjects, and keeps the current speaker of the open turn.
#[derive(Debug, Default)]
pub(super) struct ActiveSpeaker {
    /// Speaker of the open turn; `None` until the first attribution in the turn.
    current: Option<SubjectId>,
}

impl ActiveSpeaker {
    /// Starts a new turn, without a current speaker.
    pub fn start_turn(&mut self) {
        self.current = None;
    }

    /// Sets the current speaker from a clip's attribution; `None` changes nothing.
    pub fn set_current(&mut self, attribution: Option<Attribution>) {
        self.current = attribution.map(|a| a.owner).or(self.current);
    }

    /// Attributes the voice in `window` to one of `subjects` by lip motion; `None` if no subject
    /// was seen in `window`.
    pub fn attribute<'a>(
        &self,
        subjects: impl Iterator<Item = (SubjectId, &'a Presence)>,
        sound: &AudioHistory,
        window: Span,
    ) -> Option<Attribution> {
        let motions: Vec<_> = subjects
            .filter(|(_, p)| p.is_seen_in(window))
            .map(|(subject, p)| motion(subject, p, sound, window))
            .collect();
        match motions.as_slice() {
            [] => None,
            [alone] => Some(Attribution {
                owner: alone.subject,
                confidence: confidence_alone(alone),
                alone: true,
            }),
            several => Some(self.attribute_to_one_of(several)),
        }
    }

    /// Attributes the voice to one of at least two subjects, by the softmax of the module's
    /// documentation.
    fn attribute_to_one_of(&self, motions: &[Motion]) -> Attribution {
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
            + NEGLIGIBLE_MOTION;
        let logits: Vec<f32> = motions
            .iter()
            .map(|m| {
                let score = (m.talk - m.rest.unwrap_or(usual_rest)) / scale
                    * weight_of(m.talk_observations);
                let score = if m.talk_observations == 0 { 0.0 } else { score };
                GAIN * score
                    + if self.current == Some(m.subject) {
                        STAY
                    } else {
                        0.0
                    }
            })
            .collect();
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|l| (l - highest).exp()).sum();
        // On a tie the first subject is taken. Present subjects precede departed ones, each ordered
        // by id.
        let first = logits
            .iter()
            .position(|l| *l == highest)
            .expect("the highest is among them");
        Attribution {
            owner: motions[first].subject,
            confidence: 1.0 / sum,
            alone: false,
        }
    }
}

/// Measures a subject's lip motion: during speech in `window`, and outside speech in the last ten
/// seconds before the end of `window`.
fn motion(subject: SubjectId, presence: &Presence, sound: &AudioHistory, window: Span) -> Motion {
    let (mut talk, mut weights, mut talk_observations) = (0.0f32, 0.0f32, 0);
    let (mut rest, mut rest_observations) = (0.0f32, 0);
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
                talk_observations += 1;
            }
            Some(false) if time >= rest_from => {
                rest += motion;
                rest_observations += 1;
            }
            _ => {}
        }
    }
    Motion {
        subject,
        talk: if talk_observations > 0 {
            talk / weights
        } else {
            0.0
        },
        talk_observations,
        rest: (rest_observations >= MIN_REST_OBSERVATIONS).then(|| rest / rest_observations as f32),
    }
}

/// Weight of lip motion from 0 to below 1, growing with the number of observations during speech.
fn weight_of(observations: usize) -> f32 {
    observations as f32 / (observations as f32 + HALF_WEIGHT)
}

/// Confidence of the attribution to the only visible subject, by the formula of the module's
/// documentation.
fn confidence_alone(motion: &Motion) -> f32 {
    const WITHOUT_LIPS: f32 = 0.8;
    let rest = motion.rest.unwrap_or(0.0);
    let target =
        0.5 + 0.5 * ((motion.talk - rest) / (motion.talk + rest + NEGLIGIBLE_MOTION)).max(0.0);
    WITHOUT_LIPS + (target - WITHOUT_LIPS) * weight_of(motion.talk_observations)
}

/// The attribution window at `time`: the span of `length_nanos` (the length of a clip) that ends at
/// `time`.
pub(super) fn window_before(time: MediaTime, length_nanos: i64) -> Span {
    Span::new(time.plus_nanos(-length_nanos), time)
}
