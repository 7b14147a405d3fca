//! Cuts clips from the kept faces, audio and transcripts.

use super::active_speaker::{Attribution, window_before};
use super::{Aligned, Aligner};
use crate::clip::{Absence, Clip, ClipVoice, SubjectId};
use crate::time::{MediaTime, Span};

impl Aligner {
    /// Cuts one clip that ends at `end` for each of `subjects`. The voice is attributed by lip
    /// motion in the window before `time`. `now` is the current time of the clock that drives the
    /// aligner; the clips carry it as `aligned_at`.
    pub(super) fn cut_clips(
        &mut self,
        subjects: &[SubjectId],
        end: MediaTime,
        time: MediaTime,
        now: MediaTime,
    ) {
        if subjects.is_empty() {
            return;
        }
        let attribution = self.active_speaker.attribute(
            self.candidates(),
            &self.sound,
            window_before(time, self.settings.length_nanos),
        );
        self.active_speaker.set_current(attribution);
        for subject in subjects {
            self.cut_clip(*subject, end, attribution, now);
        }
    }

    /// Cuts the clip of one subject: the window before `end`, limited to the subject's presence.
    /// Only the owner of `attribution` gets the sound.
    fn cut_clip(
        &mut self,
        subject: SubjectId,
        end: MediaTime,
        attribution: Option<Attribution>,
        now: MediaTime,
    ) {
        let Some(presence) = self.presences.get_mut(&subject) else {
            return;
        };
        let since = presence
            .since
            .max(end.plus_nanos(-self.settings.length_nanos))
            .min(end);
        let span = Span::new(since, end);
        presence.clipped_until = Some(end);
        let presence = &self.presences[&subject];
        let (faces, faces_missing) = presence.faces_in(span, self.settings.face_rate_hz);
        let face_absence = match (faces.is_empty(), presence.is_seen_in(span)) {
            (false, _) => None,
            (true, true) => Some(Absence::LowQuality),
            (true, false) => Some(Absence::NoFace),
        };
        let voice = self.voice_in(span).and_then(|voice| match attribution {
            Some(attribution) if attribution.owner == subject => Ok(ClipVoice {
                owner_confidence: attribution.confidence,
                ..voice
            }),
            _ => Err(Absence::NotOwner),
        });
        let skew_nanos = voice
            .as_ref()
            .ok()
            .zip(faces.last())
            .map(|(voice, face)| voice.newest.nanos_since(face.time));
        let is_speaking = attribution.is_some_and(|a| {
            a.owner == subject && (a.confidence > 0.5 || self.presences.len() == 1)
        });
        let text = self.transcripts.cut(span, |owner| {
            owner == Some(subject) || owner.is_none() && is_speaking
        });
        self.ready.push_back(Aligned::Clip(Clip {
            subject,
            span,
            faces,
            faces_missing,
            face_absence,
            voice,
            text,
            skew_nanos,
            aligned_at: now,
        }));
    }

    /// The clip of the off-camera voice over `span`, without faces. `now` is the current time of
    /// the clock that drives the aligner, the clip's `aligned_at`.
    pub(super) fn voice_clip(&self, span: Span, now: MediaTime) -> Clip {
        let delivers = self.last_frame.is_some_and(|last| last >= span.start);
        let face_absence = Some(if delivers {
            Absence::NoFace
        } else {
            Absence::NoSource
        });
        let (voice, text) = (self.voice_in(span), self.off_camera_text(span));
        Clip {
            subject: SubjectId::Voice,
            span,
            faces: Vec::new(),
            faces_missing: 0,
            face_absence,
            voice,
            text,
            skew_nanos: None,
            aligned_at: now,
        }
    }

    /// The sound in `span` and its share of speech, not yet attributed (`owner_confidence` is 1).
    /// The error is the reason why a clip of `span` has no voice.
    fn voice_in(&self, span: Span) -> Result<ClipVoice, Absence> {
        if !self.settings.audio || !self.sound.has(span) {
            return Err(Absence::NoSource);
        }
        let speech_nanos = self.sound.speech_nanos(span);
        if speech_nanos < self.settings.min_speech_nanos || speech_nanos == 0 {
            return Err(Absence::NoSpeech);
        }
        let cut = self.sound.cut(span).ok_or(Absence::NoSource)?;
        let speech = (speech_nanos as f64 / span.nanos() as f64).min(1.0) as f32;
        Ok(ClipVoice {
            samples: cut.samples,
            speech,
            missing_nanos: cut.missing_nanos,
            owner_confidence: 1.0,
            newest: cut.newest,
        })
    }
}
