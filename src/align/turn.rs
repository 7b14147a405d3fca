//! Speech turns, speaker attribution and off-camera speech.

use super::active_speaker::{Attribution, KEPT_NANOS};
use super::presence::Presence;
use super::{Aligned, Aligner};
use crate::clip::{SpeechTurn, SubjectId, VoiceActivity};
use crate::time::{MediaTime, Span};

/// The open speech turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Start of the turn's first window with speech.
    pub start: MediaTime,
    /// End of the newest window with speech in the turn.
    pub last_speech: MediaTime,
}

impl Aligner {
    /// Adds a voice-activity window that is due at `time`. It starts, continues or ends the turn.
    pub(super) fn take_activity(&mut self, activity: VoiceActivity, time: MediaTime) {
        self.sound.push_activity(activity);
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
            (None, Some(start)) if self.interrupted_turn != Some(start) => {
                self.interrupted_turn = None;
                self.turn = Some(Turn {
                    start,
                    last_speech: activity.span.end,
                });
                self.active_speaker.start_turn();
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

    /// Closes the open turn, if there is one, and outputs its end with its owner at `time`.
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

    /// The owner of a turn or transcript from `start` to `time`; `None` if it is unknown.
    ///
    /// A subject owns the turn if its probability exceeds 0.5; it may have left meanwhile. A
    /// subject that was the only one seen owns it if it was present for at least half of the time.
    /// Otherwise the off-camera voice owns it if no face is present. Of a long turn only the newest
    /// [`KEPT_NANOS`] count, for which all data is kept.
    pub(super) fn turn_owner(&self, start: MediaTime, time: MediaTime) -> Option<SubjectId> {
        let span = Span::new(start.min(time).max(time.plus_nanos(-KEPT_NANOS)), time);
        let candidates = self.candidates().chain(self.departed());
        let attribution = self.active_speaker.attribute(candidates, &self.sound, span);
        let is_certain = |attribution: &Attribution| {
            if attribution.alone {
                self.is_present_for_half(attribution.owner, span)
            } else {
                attribution.confidence > 0.5
            }
        };
        let owner = attribution
            .filter(is_certain)
            .map(|attribution| attribution.owner);
        owner.or_else(|| self.presences.is_empty().then_some(SubjectId::Voice))
    }

    /// The subjects that are present: the candidates for the attribution of a voice.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (SubjectId, &Presence)> {
        self.presences
            .iter()
            .map(|(subject, presence)| (*subject, presence))
    }

    /// Ends the turn and the off-camera voice's clips at the end of the audio.
    pub(super) fn end_audio(&mut self, end: MediaTime, now: MediaTime) {
        self.interrupted_turn = self.turn.map(|turn| turn.start).or(self.interrupted_turn);
        self.end_turn(end);
        if let Some(mut voice) = self.voice.take() {
            self.flush_voice(&voice, end, true, now);
            // Speech that is too short for a clip does not stay pending, because no more will
            // follow.
            voice.clipped_until = voice.clipped_until.max(Some(end));
            self.voice = Some(voice);
        }
    }

    /// Whether there was speech since the last clip of the off-camera voice.
    pub(super) fn has_new_speech(&self, voice: &Presence) -> bool {
        self.last_speech > voice.clipped_until.unwrap_or(voice.since).max(voice.since)
    }

    /// Cuts a last clip of the off-camera voice at `end` if there is enough new speech since its
    /// previous clip. `source_ended`: whether the audio has ended, so that any first speech is
    /// enough.
    pub(super) fn flush_voice(
        &mut self,
        voice: &Presence,
        end: MediaTime,
        source_ended: bool,
        now: MediaTime,
    ) {
        let clipped_until = voice.clipped_until.unwrap_or(voice.since).max(voice.since);
        let first = source_ended && voice.clipped_until.is_none();
        let worth =
            first || 2 * self.last_speech.nanos_since(clipped_until) >= self.settings.hop_nanos;
        let span = Span::new(
            voice
                .since
                .max(end.plus_nanos(-self.settings.length_nanos))
                .min(end),
            end,
        );
        if self.has_new_speech(voice)
            && end > clipped_until
            && worth
            && self.sound.speech_nanos(span) >= self.settings.min_speech_nanos
        {
            let clip = self.voice_clip(span, now);
            self.ready.push_back(Aligned::Clip(clip));
        }
    }
}
