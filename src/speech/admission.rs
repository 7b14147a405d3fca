//! Admission rules for transcripts from clients: only recent speech, and each span of time once.

use crate::clip::{SubjectId, Transcript, TranscriptSource};
use crate::time::{MediaTime, Span};

/// Tolerated lead of a client's clock over the daemon's, in nanoseconds. It is not 0, because a
/// client sets its clock by a message over a socket.
pub const AHEAD_NANOS: i64 = 500_000_000;
/// Largest number of remembered transcripts; the oldest is forgotten first. It has left the window
/// long before.
const MAX_ENTRIES: usize = 4096;

/// Reason for which a client's transcript is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionError {
    /// The transcript ended before the window of the current clips.
    Past,
    /// The transcript ends later than the current time plus [`AHEAD_NANOS`].
    Future,
    /// The transcript overlaps an admitted one that may be of the same subject.
    Overlapping,
}

/// The source, subject and time of a transcript.
#[derive(Clone, Copy, Debug)]
pub struct TranscriptSpan {
    pub source: TranscriptSource,
    /// The speaker; `None` if it is unknown.
    pub subject: Option<SubjectId>,
    pub span: Span,
}

impl TranscriptSpan {
    /// The source, subject and span of `transcript`.
    pub fn from_transcript(transcript: &Transcript) -> Self {
        TranscriptSpan {
            source: transcript.source,
            subject: transcript.subject,
            span: transcript.span,
        }
    }

    /// Whether this transcript supersedes the partial transcript `old`. It does if they have the
    /// same source, and the same subject or overlapping spans. The speaker is often known only with
    /// the final transcript.
    pub fn supersedes(&self, old: &TranscriptSpan) -> bool {
        self.source == old.source && (self.subject == old.subject || self.overlaps(old))
    }

    /// Whether the spans of this and `other` overlap.
    fn overlaps(&self, other: &TranscriptSpan) -> bool {
        self.span.intersection(&other.span).is_some()
    }

    /// Whether this and `other` may have the same subject: an unknown subject may be any.
    fn may_share_subject(&self, other: &TranscriptSpan) -> bool {
        self.subject.is_none() || other.subject.is_none() || self.subject == other.subject
    }
}

/// An admitted transcript.
#[derive(Clone, Copy, Debug)]
struct Entry {
    transcript: TranscriptSpan,
    is_final: bool,
}

/// The admitted transcripts whose time is in the current window.
#[derive(Debug)]
pub struct TranscriptAdmission {
    window_nanos: i64,
    entries: Vec<Entry>,
}

impl TranscriptAdmission {
    /// No transcript is admitted yet. `window_nanos`: how far back from the current time clips
    /// reach, in nanoseconds.
    pub fn new(window_nanos: i64) -> Self {
        TranscriptAdmission {
            window_nanos,
            entries: Vec::new(),
        }
    }

    /// Admits a transcript of `span` that arrives at `now`, and forgets the partials that it
    /// supersedes ([`TranscriptSpan::supersedes`]).
    ///
    /// # Errors
    /// [`AdmissionError`] if the transcript is outside the window or overlaps an admitted one. The
    /// admitted transcripts then stay unchanged.
    pub fn admit(
        &mut self,
        source: TranscriptSource,
        subject: Option<SubjectId>,
        span: Span,
        is_final: bool,
        now: MediaTime,
    ) -> Result<(), AdmissionError> {
        let since = now.plus_nanos(-self.window_nanos);
        self.entries
            .retain(|entry| entry.transcript.span.end > since);
        if span.end <= since {
            return Err(AdmissionError::Past);
        }
        if span.end > now.plus_nanos(AHEAD_NANOS) {
            return Err(AdmissionError::Future);
        }
        let candidate = TranscriptSpan {
            source,
            subject,
            span,
        };
        let superseded = |entry: &Entry| !entry.is_final && candidate.supersedes(&entry.transcript);
        if self.entries.iter().any(|entry| {
            !superseded(entry)
                && candidate.may_share_subject(&entry.transcript)
                && candidate.overlaps(&entry.transcript)
        }) {
            return Err(AdmissionError::Overlapping);
        }
        self.entries.retain(|entry| !superseded(entry));
        if self.entries.len() == MAX_ENTRIES {
            self.entries.remove(0);
        }
        self.entries.push(Entry {
            transcript: candidate,
            is_final,
        });
        Ok(())
    }

    /// Reassigns the transcripts of `from` to `into`, the surviving subject of a merge.
    pub fn merge(&mut self, from: SubjectId, into: SubjectId) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.transcript.subject == Some(from))
        {
            entry.transcript.subject = Some(into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: TranscriptSource = TranscriptSource::Client(1);
    const B: TranscriptSource = TranscriptSource::Client(2);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }
    fn span(start: i64, end: i64) -> Span {
        Span::new(ms(start), ms(end))
    }

    #[test]
    fn transcripts_outside_the_window_are_refused() {
        let mut admission = TranscriptAdmission::new(2_000_000_000);
        let now = ms(10_000);
        assert_eq!(
            admission.admit(A, None, span(1000, 8000), true, now),
            Err(AdmissionError::Past)
        );
        assert_eq!(
            admission.admit(A, None, span(9000, 10_501), true, now),
            Err(AdmissionError::Future)
        );
        assert_eq!(
            admission.admit(A, None, span(0, 8001), true, now),
            Ok(()),
            "the end of it is inside"
        );
        assert_eq!(
            admission.admit(A, None, span(9000, 10_500), true, now),
            Ok(())
        );
    }

    #[test]
    fn a_span_is_admitted_once_and_partials_are_superseded() {
        let (mut admission, now) = (TranscriptAdmission::new(2_000_000_000), ms(10_000));
        let mut admit = |source, subject, start, end, is_final| {
            admission.admit(source, subject, span(start, end), is_final, now)
        };
        assert_eq!(admit(A, None, 9000, 9400, false), Ok(()));
        assert_eq!(
            admit(B, None, 9300, 9500, false),
            Err(AdmissionError::Overlapping),
            "of another source"
        );
        assert_eq!(admit(A, None, 9000, 9500, false), Ok(()));
        assert_eq!(admit(A, None, 9000, 9600, true), Ok(()));
        assert_eq!(
            admit(A, None, 9000, 9600, true),
            Err(AdmissionError::Overlapping),
            "final is final"
        );
        assert_eq!(
            admit(A, None, 9599, 9700, false),
            Err(AdmissionError::Overlapping)
        );
        assert_eq!(admit(A, None, 9600, 9700, false), Ok(()), "right behind it");
        assert_eq!(admit(A, Some(SubjectId::Face(1)), 8500, 8900, true), Ok(()));
        assert_eq!(
            admit(B, Some(SubjectId::Face(2)), 8500, 8900, true),
            Ok(()),
            "two subjects may speak at once"
        );
        assert_eq!(
            admit(B, None, 8500, 8900, true),
            Err(AdmissionError::Overlapping),
            "an unknown subject may be either"
        );
    }

    #[test]
    fn a_final_may_name_another_subject_than_its_partial() {
        let (s1, s2) = (Some(SubjectId::Face(1)), Some(SubjectId::Face(2)));
        for (before, after) in [(None, s1), (s1, None), (s1, s2)] {
            let (mut admission, now) = (TranscriptAdmission::new(2_000_000_000), ms(10_000));
            assert_eq!(
                admission.admit(A, before, span(9000, 9500), false, now),
                Ok(())
            );
            assert_eq!(
                admission.admit(A, after, span(9100, 9600), true, now),
                Ok(()),
                "{before:?} {after:?}"
            );
            assert_eq!(
                admission.admit(B, None, span(9000, 9100), true, now),
                Ok(()),
                "the partial is gone: {before:?} {after:?}"
            );
        }
        let (mut admission, now) = (TranscriptAdmission::new(2_000_000_000), ms(10_000));
        assert_eq!(admission.admit(A, s1, span(9000, 9500), false, now), Ok(()));
        assert_eq!(admission.admit(A, s2, span(9500, 9600), false, now), Ok(()));
        assert_eq!(
            admission.admit(B, s1, span(9000, 9500), true, now),
            Err(AdmissionError::Overlapping),
            "partials of two subjects of one source do not supersede each other"
        );
    }

    #[test]
    fn merged_subjects_share_their_transcripts() {
        let (mut admission, now) = (TranscriptAdmission::new(2_000_000_000), ms(10_000));
        let (s1, s2) = (SubjectId::Face(1), SubjectId::Face(2));
        assert_eq!(
            admission.admit(A, Some(s2), span(8500, 9000), true, now),
            Ok(())
        );
        assert_eq!(
            admission.admit(A, Some(s2), span(9000, 9500), false, now),
            Ok(())
        );
        admission.merge(s2, s1);
        assert_eq!(
            admission.admit(A, Some(s1), span(8500, 9000), true, now),
            Err(AdmissionError::Overlapping),
            "admitted already"
        );
        assert_eq!(
            admission.admit(A, Some(s1), span(9500, 9900), true, now),
            Ok(())
        );
        assert_eq!(
            admission.admit(B, Some(s1), span(9000, 9500), true, now),
            Ok(()),
            "the partial was superseded"
        );
    }

    proptest! {
        /// Admitted final transcripts of one subject never overlap; a refused transcript changes
        /// nothing.
        #[test]
        fn final_transcripts_never_overlap(
            requests in prop::collection::vec(
                (0u64..3, 0u32..3, 0i64..3000, 1i64..800, any::<bool>()),
                1..60,
            ),
        ) {
            const WINDOW_NANOS: i64 = 1_500_000_000;
            let mut admission = TranscriptAdmission::new(WINDOW_NANOS);
            let mut finals: Vec<(Option<SubjectId>, Span)> = Vec::new();
            for (i, request) in requests.into_iter().enumerate() {
                let (client, subject, start, length, is_final) = request;
                let now = ms(2000 + 20 * i as i64);
                let since = now.plus_nanos(-WINDOW_NANOS);
                let subject = (subject > 0).then_some(SubjectId::Face(subject));
                let span = span(start, start + length);
                let source = TranscriptSource::Client(client);
                if admission.admit(source, subject, span, is_final, now).is_ok() {
                    prop_assert!(span.end > since && span.end <= now.plus_nanos(AHEAD_NANOS));
                    for (other, theirs) in &finals {
                        let same = other.is_none() || subject.is_none() || *other == subject;
                        let overlap = theirs.intersection(&span).is_some();
                        prop_assert!(!same || theirs.end <= since || !overlap);
                    }
                    if is_final {
                        finals.push((subject, span));
                    }
                }
            }
        }
    }
}
