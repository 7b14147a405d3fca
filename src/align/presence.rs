//! Appearance and loss of subjects, and their kept observations.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Aligner;
use crate::clip::{Face, SubjectId, face_slot};
use crate::time::{MediaTime, Span};

/// The presence of a subject from its appearance to its loss, with its kept observations.
#[derive(Debug)]
pub(super) struct Presence {
    /// Time of the appearance.
    pub since: MediaTime,
    /// End of the newest clip of this presence; `None` before the first clip.
    pub clipped_until: Option<MediaTime>,
    /// Time of the newest observation (a face in a frame), with or without a crop.
    pub seen: Option<MediaTime>,
    /// Time of the newest usable observation: one with a crop.
    usable: Option<MediaTime>,
    /// The first usable face in each slot of the face rate, with the number of the slot. Clips that
    /// share a slot share its face and its embedding.
    faces: VecDeque<(i64, Arc<Face>)>,
    /// Time and `Face::lip_motion` of every kept observation, oldest first.
    lips: VecDeque<(MediaTime, f32)>,
}

impl Presence {
    /// Starts a presence at `since`, without observations.
    pub fn new(since: MediaTime) -> Self {
        Presence {
            since,
            clipped_until: None,
            seen: None,
            usable: None,
            faces: VecDeque::new(),
            lips: VecDeque::new(),
        }
    }

    /// Adds the subject's face in one frame. `rate_hz`: slots per second.
    pub fn observe(&mut self, face: Arc<Face>, rate_hz: f64) {
        self.seen = self.seen.max(Some(face.time));
        self.lips.push_back((face.time, face.lip_motion));
        if face.crop.is_none() {
            return;
        }
        self.usable = self.usable.max(Some(face.time));
        let slot = face_slot(face.time, rate_hz);
        if self.faces.back().is_none_or(|(last, _)| slot > *last) {
            self.faces.push_back((slot, face));
        }
    }

    /// Drops faces before `faces_from`, and lip motion before `lips_from`.
    pub fn forget(&mut self, faces_from: MediaTime, lips_from: MediaTime) {
        while self.faces.front().is_some_and(|(_, f)| f.time < faces_from) {
            self.faces.pop_front();
        }
        while self.lips.front().is_some_and(|(time, _)| *time < lips_from) {
            self.lips.pop_front();
        }
    }

    /// Time and lip motion of the kept observations, oldest first.
    pub fn lips(&self) -> impl Iterator<Item = (MediaTime, f32)> {
        self.lips.iter().copied()
    }

    /// Whether there is an observation in `span`, with or without a crop.
    pub fn is_seen_in(&self, span: Span) -> bool {
        self.lips.iter().rev().any(|(time, _)| span.contains(*time))
    }

    /// Duration of the presence within `span`, in nanoseconds. The presence lasts until
    /// `frame_nanos` after the newest observation.
    fn present_nanos(&self, span: Span, frame_nanos: i64) -> i64 {
        let until = self
            .seen
            .unwrap_or(self.since)
            .plus_nanos(frame_nanos)
            .min(span.end);
        until.nanos_since(self.since.max(span.start)).max(0)
    }

    /// Adds the lip motion of `other`, a merged track or an earlier presence of the same person.
    fn inherit(&mut self, other: Presence) {
        self.lips.extend(other.lips);
        self.lips.make_contiguous().sort_by_key(|(time, _)| *time);
    }

    /// The faces in `span`, oldest first, and the number of its slots without a face. `rate_hz`:
    /// slots per second.
    pub fn faces_in(&self, span: Span, rate_hz: f64) -> (Vec<Arc<Face>>, u32) {
        let slots = span.nanos() as f64 * 1e-9 * rate_hz;
        let mut faces: Vec<_> = self
            .faces
            .iter()
            .filter(|(_, f)| span.contains(f.time))
            .map(|(_, f)| f.clone())
            .collect();
        // A span that begins inside a slot touches one slot more than its length holds.
        let surplus = faces
            .len()
            .saturating_sub(((slots - 1e-6).ceil() as usize).max(1));
        faces.drain(..surplus);
        let missing = ((slots + 1e-6).floor() as usize).saturating_sub(faces.len());
        (faces, u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// Time from the end of the newest clip (or the appearance) to the newest usable observation,
    /// in nanoseconds. That observation lasts for `frame_nanos`.
    pub fn unclipped_nanos(&self, frame_nanos: i64) -> i64 {
        let clipped_until = self.clipped_until.unwrap_or(self.since).max(self.since);
        self.usable.map_or(0, |usable| {
            usable
                .plus_nanos(frame_nanos)
                .nanos_since(clipped_until)
                .max(0)
        })
    }

    /// Number of kept faces and of kept lip motions, summed.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.faces.len() + self.lips.len()
    }
}

impl Aligner {
    /// Adds a face to its subject's presence; ignored if the subject is not present.
    pub(super) fn observe(&mut self, face: Arc<Face>) {
        let rate_hz = self.settings.face_rate_hz;
        if let Some(presence) = self.presences.get_mut(&face.subject) {
            presence.observe(face, rate_hz);
        }
    }

    /// Starts the presence of `subject` at `time` if it is not present, and ends the presence of
    /// the off-camera voice.
    pub(super) fn appear(&mut self, subject: SubjectId, time: MediaTime, now: MediaTime) {
        if self.presences.contains_key(&subject) {
            return;
        }
        if let Some(voice) = self.voice.take() {
            self.flush_voice(&voice, time, false, now);
        }
        let mut presence = Presence::new(time.max(MediaTime::ZERO));
        if let Some(before) = self.departed.remove(&subject) {
            presence.inherit(before);
        }
        self.presences.insert(subject, presence);
    }

    /// Ends the presence of `subject` at `end`. `time`: time of the frame that reports the loss.
    pub(super) fn lose(
        &mut self,
        subject: SubjectId,
        end: MediaTime,
        time: MediaTime,
        now: MediaTime,
    ) {
        let Some(presence) = self.presences.get(&subject) else {
            return;
        };
        let clipped_until = presence.clipped_until.unwrap_or(presence.since);
        if end > clipped_until && self.is_worth_a_last_clip(presence) {
            self.cut_clips(&[subject], end, time, now);
        }
        if let Some(presence) = self.presences.remove(&subject) {
            self.depart(subject, presence);
        }
        self.note_absence(time);
    }

    /// Moves the transcripts and the lip motion of `from` to `into`, the surviving track of a
    /// merge.
    pub(super) fn merge(&mut self, from: SubjectId, into: SubjectId) {
        self.transcripts.merge(from, into);
        let before = self.departed.remove(&from);
        if let (Some(presence), Some(before)) = (self.presences.get_mut(&into), before) {
            presence.inherit(before);
        }
    }

    /// Whether a subject that leaves gets a last clip. At least half a hop of its usable
    /// observations must be in no clip; without an earlier clip, a single observation is enough.
    fn is_worth_a_last_clip(&self, presence: &Presence) -> bool {
        let first = presence.clipped_until.is_none() && presence.seen.is_some();
        first
            || 2 * presence.unclipped_nanos(self.frame_nanos.unwrap_or(0))
                >= self.settings.hop_nanos
    }

    /// Starts the presence of the off-camera voice at `time` if no subject is present.
    pub(super) fn note_absence(&mut self, time: MediaTime) {
        if self.presences.is_empty() && self.voice.is_none() {
            self.voice = Some(Presence::new(time.max(MediaTime::ZERO)));
        }
    }

    /// Ends every presence at the end of the video, with last clips for the subjects that are worth
    /// one.
    pub(super) fn end_video(&mut self, end: MediaTime, now: MediaTime) {
        let due: Vec<_> = self
            .presences
            .iter()
            .filter(|(_, presence)| self.is_worth_a_last_clip(presence))
            .map(|(subject, _)| *subject)
            .collect();
        self.cut_clips(&due, end, end, now);
        self.all_depart();
        self.note_absence(end);
    }

    /// Ends every presence without a clip.
    pub(super) fn all_depart(&mut self) {
        for (subject, presence) in std::mem::take(&mut self.presences) {
            self.depart(subject, presence);
        }
    }

    /// Moves the subject to `departed`, where late transcripts find its lip motion.
    fn depart(&mut self, subject: SubjectId, mut presence: Presence) {
        // No later clip contains its faces.
        presence.faces.clear();
        self.departed.insert(subject, presence);
    }

    /// The subjects that are no longer present, and their past presences.
    pub(super) fn departed(&self) -> impl Iterator<Item = (SubjectId, &Presence)> {
        self.departed
            .iter()
            .map(|(subject, presence)| (*subject, presence))
    }

    /// Whether the subject was present for at least half of `span`.
    pub(super) fn is_present_for_half(&self, subject: SubjectId, span: Span) -> bool {
        let presence = self
            .presences
            .get(&subject)
            .or_else(|| self.departed.get(&subject));
        presence.is_some_and(|presence| {
            2 * presence.present_nanos(span, self.frame_nanos.unwrap_or(0)) >= span.nanos()
        })
    }
}
