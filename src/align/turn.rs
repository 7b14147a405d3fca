//! Turns of speech, whose they are, and the voice that no face has.

use super::active_speaker::{KEPT_NANOS, Verdict};
use super::presence::Presence;
use super::{Aligned, Aligner};
use crate::clip::{SpeechTurn, SubjectId, VoiceActivity};
use crate::time::{MediaTime, Span};

/// A turn that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub start: MediaTime,
    pub last_speech: MediaTime,
}

impl Aligner {
    pub(super) fn take_verdict(&mut self, activity: VoiceActivity, time: MediaTime) {
        self.sound.judge(activity);
        if self
            .turn
            .is_some_and(|turn| activity.turn != Some(turn.start))
        {
            self.end_turn(time);
        }
        if activity.speech {
            self.last_speech = activity.span.end;
        }
        match (&mut self.turn, activity.turn) {
            (Some(turn), _) if activity.speech => turn.last_speech = activity.span.end,
            (None, Some(start)) if self.cut_turn != Some(start) => {
                self.cut_turn = None;
                self.turn = Some(Turn {
                    start,
                    last_speech: activity.span.end,
                });
                self.active_speaker.open();
                let owner = self.turn_owner(start, time);
                self.ready.push_back(Aligned::Speech(SpeechTurn {
                    start,
                    end: None,
                    owner,
                }));
            }
            _ => {}
        }
    }

    fn end_turn(&mut self, time: MediaTime) {
        if let Some(turn) = self.turn.take() {
            let owner = self.turn_owner(turn.start, time);
            self.ready.push_back(Aligned::Speech(SpeechTurn {
                start: turn.start,
                end: Some(turn.last_speech),
                owner,
            }));
        }
    }

    /// Whose the turn or the words of `start` to `time` are: a subject that is more likely than all others together, who may have left
    /// meanwhile; one that nobody was seen beside, if it was seen for at least half of that time. Else the voice's if no face is there, else
    /// nobody's yet. Of a long turn its newest part decides, of which all is known.
    pub(super) fn turn_owner(&self, start: MediaTime, time: MediaTime) -> Option<SubjectId> {
        let span = Span::new(start.min(time).max(time.plus_nanos(-KEPT_NANOS)), time);
        let verdict =
            self.active_speaker
                .judge(self.candidates().chain(self.departed()), &self.sound, span);
        let is_sure = |verdict: &Verdict| {
            if verdict.alone {
                self.is_seen_for_half(verdict.owner, span)
            } else {
                verdict.confidence > 0.5
            }
        };
        let owner = verdict.filter(is_sure).map(|verdict| verdict.owner);
        owner.or_else(|| self.presences.is_empty().then_some(SubjectId::Voice))
    }

    pub(super) fn candidates(&self) -> impl Iterator<Item = (SubjectId, &Presence)> {
        self.presences
            .iter()
            .map(|(subject, presence)| (*subject, presence))
    }

    pub(super) fn end_audio(&mut self, end: MediaTime, now: MediaTime) {
        self.cut_turn = self.turn.map(|turn| turn.start).or(self.cut_turn);
        self.end_turn(end);
        if let Some(mut voice) = self.voice.take() {
            self.flush_voice(&voice, end, true, now);
            // Too little to be worth a clip is not waited with: nothing will be added to it.
            voice.clipped_until = voice.clipped_until.max(Some(end));
            self.voice = Some(voice);
        }
    }

    pub(super) fn has_new_speech(&self, voice: &Presence) -> bool {
        self.last_speech > voice.clipped_until.unwrap_or(voice.since).max(voice.since)
    }

    /// What is waiting of a voice without a face, at its end.
    pub(super) fn flush_voice(
        &mut self,
        voice: &Presence,
        end: MediaTime,
        source_ended: bool,
        now: MediaTime,
    ) {
        let shown = voice.clipped_until.unwrap_or(voice.since).max(voice.since);
        let first = source_ended && voice.clipped_until.is_none();
        let worth = first || 2 * self.last_speech.nanos_since(shown) >= self.settings.hop_nanos;
        let span = Span::new(
            voice
                .since
                .max(end.plus_nanos(-self.settings.length_nanos))
                .min(end),
            end,
        );
        if self.has_new_speech(voice)
            && end > shown
            && worth
            && self.sound.speech_nanos(span) >= self.settings.min_speech_nanos
        {
            let clip = self.voice_clip(span, now);
            self.ready.push_back(Aligned::Clip(clip));
        }
    }
}
