//! What is kept of a subject while it is there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clip::{Face, face_slot};
use crate::time::{MediaTime, Span};

/// A subject from its appearance to its loss.
#[derive(Debug)]
pub(super) struct Presence {
    pub since: MediaTime,
    /// End of the last clip that was cut.
    pub clipped_until: Option<MediaTime>,
    /// Newest sight of it, usable or not.
    pub seen: Option<MediaTime>,
    /// Newest usable sight of it.
    usable: Option<MediaTime>,
    /// The first usable face of each slot, so that the clips that share a slot share the face, and its encoding.
    faces: VecDeque<(i64, Arc<Face>)>,
    /// `lip_motion` of every sight.
    lips: VecDeque<(MediaTime, f32)>,
}

impl Presence {
    pub fn new(since: MediaTime) -> Self {
        Presence { since, clipped_until: None, seen: None, usable: None, faces: VecDeque::new(), lips: VecDeque::new() }
    }

    pub fn see(&mut self, face: Arc<Face>, rate_hz: f64) {
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

    pub fn forget(&mut self, faces_from: MediaTime, lips_from: MediaTime) {
        while self.faces.front().is_some_and(|(_, f)| f.time < faces_from) {
            self.faces.pop_front();
        }
        while self.lips.front().is_some_and(|(time, _)| *time < lips_from) {
            self.lips.pop_front();
        }
    }

    pub fn lips(&self) -> impl Iterator<Item = (MediaTime, f32)> {
        self.lips.iter().copied()
    }

    /// Was it seen in `span`, usable or not?
    pub fn is_seen_in(&self, span: Span) -> bool {
        self.lips.iter().rev().any(|(time, _)| span.contains(*time))
    }

    /// The faces of `span`, oldest first, and how many slots have none.
    pub fn faces_in(&self, span: Span, rate_hz: f64) -> (Vec<Arc<Face>>, u32) {
        let slots = span.nanos() as f64 * 1e-9 * rate_hz;
        let mut faces: Vec<_> = self.faces.iter().filter(|(_, f)| span.contains(f.time)).map(|(_, f)| f.clone()).collect();
        // A span that begins inside a slot touches one slot more than it has room for.
        let surplus = faces.len().saturating_sub(((slots - 1e-6).ceil() as usize).max(1));
        faces.drain(..surplus);
        let missing = ((slots + 1e-6).floor() as usize).saturating_sub(faces.len());
        (faces, u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// How much of it no clip has shown yet, in nanoseconds, if each usable sight stands for `frame_nanos`.
    pub fn unshown_nanos(&self, frame_nanos: i64) -> i64 {
        let shown = self.clipped_until.unwrap_or(self.since).max(self.since);
        self.usable.map_or(0, |usable| usable.plus_nanos(frame_nanos).nanos_since(shown).max(0))
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.faces.len() + self.lips.len()
    }
}
