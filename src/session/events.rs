//! Builds events from the results of the stages.

use crate::align::Aligned;
use crate::clip::{Clip, OwnedTranscript, Recognition, SpeechTurn, SubjectChange, Word};
use crate::config::Config;
use crate::event::{
    Also, Deadline, Event, ExpressionEvent, FaceEvidence, HeadAnswer, Latency, Modalities,
    Provenance, Scores, SpeechEvent, SpeechPhase, SpokenWord, SubjectEvent, TextEvidence,
    VoiceEvidence,
};
use crate::manifest::{FurtherHead, HeadKind};
use crate::model::Bundle;
use crate::time::MediaTime;

/// Builds `expression` events. Its fields are the same for all events of a session.
#[derive(Clone, Debug)]
pub struct EventBuilder {
    /// The labels, in the order of a recognition's scores.
    pub labels: Vec<String>,
    /// The further heads, in the order of a recognition's `further`.
    pub further: Vec<FurtherHead>,
    pub provenance: Provenance,
    /// The longest permitted time from evidence to event, in milliseconds.
    pub budget_ms: u32,
}

/// When each step of a clip's recognition was done, on the clock that stamps frames and sound. An
/// event's latencies are computed from these times.
#[derive(Clone, Copy, Debug)]
pub struct ClipTimestamps {
    /// When the recognizer took the clip.
    pub taken: MediaTime,
    /// When the recognizer returned the result.
    pub recognized: MediaTime,
    /// When the event was built.
    pub emitted: MediaTime,
}

impl EventBuilder {
    pub fn new(config: &Config, bundle: &Bundle) -> EventBuilder {
        EventBuilder {
            labels: bundle.manifest.labels.clone(),
            further: bundle.manifest.further.clone(),
            provenance: Provenance {
                bundle: bundle.manifest.score_fingerprint(),
                provider: bundle.provider().name(),
                precision: bundle.precision().name(),
                config: config.hash(),
                calibration: None,
            },
            budget_ms: config.inference.budget.as_millis() as u32,
        }
    }

    /// The `expression` event for `clip`, whose recognition is `recognition`.
    pub fn expression(
        &self,
        clip: &Clip,
        recognition: &Recognition,
        timestamps: ClipTimestamps,
    ) -> Event {
        let newest = clip.newest().unwrap_or(clip.span.end);
        let age = |time: MediaTime| Some(timestamps.emitted.millis_since(time));
        let latency = Latency {
            capture: clip.aligned_at.millis_since(newest),
            queue: timestamps.taken.millis_since(clip.aligned_at),
            encode: timestamps.recognized.millis_since(timestamps.taken),
            emit: timestamps.emitted.millis_since(timestamps.recognized),
            total: timestamps.emitted.millis_since(newest),
        };
        let (used, absence) = (recognition.used, recognition.absence);
        let face = FaceEvidence {
            used: used.face,
            reason: absence.face,
            frames: clip.faces.len() as u32,
            missing: clip.faces_missing,
            quality: (!clip.faces.is_empty()).then(|| {
                clip.faces.iter().map(|f| f.quality).sum::<f32>() / clip.faces.len() as f32
            }),
            age_ms: clip.faces.last().and_then(|f| age(f.time)),
        };
        let voice = clip.voice.as_ref().ok();
        let voice = VoiceEvidence {
            used: used.voice,
            reason: absence.voice,
            speech: voice.map(|v| v.speech),
            missing_ms: voice.map(|v| (v.missing_nanos / 1_000_000) as u32),
            owner_confidence: voice.map(|v| v.owner_confidence),
            age_ms: voice.and_then(|v| age(v.newest)),
        };
        let text = clip.text.as_ref().ok();
        let text = TextEvidence {
            used: used.text,
            reason: absence.text,
            age_ms: text.and_then(|t| age(t.newest)),
        };
        Event::Expression(Box::new(ExpressionEvent {
            subject: clip.subject,
            start_ns: clip.span.start,
            end_ns: clip.span.end,
            scores: named(&self.labels, &recognition.scores),
            top: self.labels[recognition.top].clone(),
            confidence: recognition.confidence,
            abstain: recognition.abstain,
            also: self.also(recognition),
            modalities: Modalities { face, voice, text },
            latency_ms: Some(latency),
            deadline: Some(Deadline {
                budget_ms: self.budget_ms,
                met: latency.total <= f64::from(self.budget_ms),
            }),
            degraded: Some("none"),
            skew_ms: clip.skew_nanos.map(|nanos| nanos as f64 * 1e-6),
            provenance: Some(self.provenance.clone()),
        }))
    }

    /// The answers of the further heads; a head without an answer is left out.
    fn also(&self, recognition: &Recognition) -> Also {
        let heads = self.further.iter().zip(&recognition.further);
        let answers = heads.filter_map(|(head, values)| {
            let pairs = named(&head.labels, values.as_ref()?);
            let answer = if head.kind == HeadKind::Regression {
                HeadAnswer::Numbers {
                    values: pairs,
                    derived: head.derived,
                }
            } else {
                HeadAnswer::Labels { scores: pairs }
            };
            Some((head.name.clone(), answer))
        });
        Also(answers.collect())
    }
}

/// The names with their values, in the same order.
fn named(names: &[String], values: &[f32]) -> Scores {
    Scores(names.iter().cloned().zip(values.iter().copied()).collect())
}

/// Converts an output of the aligner to its events, in the order of publication.
///
/// # Errors
/// A clip is returned unchanged, because its event needs a recognition
/// ([`EventBuilder::expression`]).
pub fn events_of(item: Aligned) -> Result<impl Iterator<Item = Event>, Box<Clip>> {
    let event = match item {
        Aligned::Subject(change) => change.into(),
        Aligned::Speech(turn) => turn.into(),
        Aligned::Transcript(transcript) => transcript.into(),
        Aligned::Clip(clip) => return Err(Box::new(clip)),
    };
    Ok(std::iter::once(event))
}

impl From<SubjectChange> for Event {
    fn from(change: SubjectChange) -> Self {
        let SubjectChange {
            subject,
            time,
            phase,
            into,
            rect,
            quality,
        } = change;
        Event::Subject(SubjectEvent {
            subject,
            time_ns: time,
            phase,
            into,
            rect,
            quality,
        })
    }
}

impl From<SpeechTurn> for Event {
    fn from(turn: SpeechTurn) -> Self {
        let phase = if turn.end.is_none() {
            SpeechPhase::Start
        } else {
            SpeechPhase::End
        };
        Event::Speech(SpeechEvent {
            phase,
            start_ns: turn.start,
            end_ns: turn.end,
            text: None,
            words: None,
            owner: turn.owner,
        })
    }
}

impl From<OwnedTranscript> for Event {
    fn from(owned: OwnedTranscript) -> Self {
        let OwnedTranscript { transcript, owner } = owned;
        let spoken = |Word {
                          text,
                          span,
                          confidence,
                      }| SpokenWord {
            text,
            start_ns: span.start,
            end_ns: span.end,
            confidence,
        };
        Event::Speech(SpeechEvent {
            phase: if transcript.is_final {
                SpeechPhase::Final
            } else {
                SpeechPhase::Partial
            },
            start_ns: transcript.span.start,
            end_ns: Some(transcript.span.end),
            text: Some(transcript.text),
            words: Some(transcript.words.into_iter().map(spoken).collect()),
            owner,
        })
    }
}
