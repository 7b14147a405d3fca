//! What tellers outside may still say: words of the present, each stretch of time once.

use crate::clip::{SubjectId, Transcript, TranscriptSource};
use crate::time::{MediaTime, Span};

/// How far ahead of the daemon's clock a client's may run: it was set by a message over a socket.
pub const AHEAD_NANOS: i64 = 500_000_000;
/// Stretches that are remembered; older ones are outside the window long before.
const MOST: usize = 4096;

/// Why words are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// They ended before the window that clips look back on.
    Past,
    /// They end later than now.
    Future,
    /// Words of that time, of that subject or of nobody in particular, were told already.
    Overlapping,
}

/// A stretch of time of which somebody tells words, and whose they are said to be.
#[derive(Clone, Copy, Debug)]
pub struct TranscriptSpan {
    pub source: TranscriptSource,
    pub subject: Option<SubjectId>,
    pub span: Span,
}

impl TranscriptSpan {
    pub fn of(transcript: &Transcript) -> Self {
        TranscriptSpan {
            source: transcript.source,
            subject: transcript.subject,
            span: transcript.span,
        }
    }

    /// Does what is told of this take the place of what was told of `old` and was not final? So it does if its source says it of the same
    /// subject, or of the same time: who spoke is often known only in the end.
    pub fn replaces(&self, old: &TranscriptSpan) -> bool {
        self.source == old.source && (self.subject == old.subject || self.overlaps(old))
    }

    fn overlaps(&self, other: &TranscriptSpan) -> bool {
        self.span.intersection(&other.span).is_some()
    }

    /// Nobody in particular may be anybody.
    fn may_be_of_the_same(&self, other: &TranscriptSpan) -> bool {
        self.subject.is_none() || other.subject.is_none() || self.subject == other.subject
    }
}

/// One stretch that was told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    stretch: TranscriptSpan,
    is_final: bool,
}

/// Keeps account of the stretches of time of which words were told.
#[derive(Debug)]
pub struct TranscriptAdmission {
    window_nanos: i64,
    entries: Vec<Entry>,
}

impl TranscriptAdmission {
    /// `window_nanos`: how far clips look back.
    pub fn new(window_nanos: i64) -> Self {
        TranscriptAdmission {
            window_nanos,
            entries: Vec::new(),
        }
    }

    /// Takes down that `source` tells words of `span` at `now`; see [`TranscriptSpan::replaces`] for what is taken out for it.
    pub fn admit(
        &mut self,
        source: TranscriptSource,
        subject: Option<SubjectId>,
        span: Span,
        is_final: bool,
        now: MediaTime,
    ) -> Result<(), Refused> {
        let since = now.plus_nanos(-self.window_nanos);
        self.entries.retain(|entry| entry.stretch.span.end > since);
        if span.end <= since {
            return Err(Refused::Past);
        }
        if span.end > now.plus_nanos(AHEAD_NANOS) {
            return Err(Refused::Future);
        }
        let stretch = TranscriptSpan {
            source,
            subject,
            span,
        };
        let replaced = |entry: &Entry| !entry.is_final && stretch.replaces(&entry.stretch);
        if self.entries.iter().any(|entry| {
            !replaced(entry)
                && stretch.may_be_of_the_same(&entry.stretch)
                && stretch.overlaps(&entry.stretch)
        }) {
            return Err(Refused::Overlapping);
        }
        self.entries.retain(|entry| !replaced(entry));
        if self.entries.len() == MOST {
            self.entries.remove(0);
        }
        self.entries.push(Entry { stretch, is_final });
        Ok(())
    }

    /// What was told of `from` was told of `into`: they are one.
    pub fn merge(&mut self, from: SubjectId, into: SubjectId) {
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.stretch.subject == Some(from))
        {
            entry.stretch.subject = Some(into);
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
    fn words_are_of_the_present() {
        let mut admission = TranscriptAdmission::new(2_000_000_000);
        let now = ms(10_000);
        assert_eq!(
            admission.admit(A, None, span(1000, 8000), true, now),
            Err(Refused::Past)
        );
        assert_eq!(
            admission.admit(A, None, span(9000, 10_501), true, now),
            Err(Refused::Future)
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
    fn a_stretch_is_told_once_and_what_was_not_final_is_told_anew() {
        let (mut admission, now) = (TranscriptAdmission::new(2_000_000_000), ms(10_000));
        let mut admit = |source, subject, start, end, is_final| {
            admission.admit(source, subject, span(start, end), is_final, now)
        };
        assert_eq!(admit(A, None, 9000, 9400, false), Ok(()));
        assert_eq!(
            admit(B, None, 9300, 9500, false),
            Err(Refused::Overlapping),
            "another's"
        );
        assert_eq!(admit(A, None, 9000, 9500, false), Ok(()));
        assert_eq!(admit(A, None, 9000, 9600, true), Ok(()));
        assert_eq!(
            admit(A, None, 9000, 9600, true),
            Err(Refused::Overlapping),
            "final is final"
        );
        assert_eq!(admit(A, None, 9599, 9700, false), Err(Refused::Overlapping));
        assert_eq!(admit(A, None, 9600, 9700, false), Ok(()), "right behind it");
        assert_eq!(admit(A, Some(SubjectId::Face(1)), 8500, 8900, true), Ok(()));
        assert_eq!(
            admit(B, Some(SubjectId::Face(2)), 8500, 8900, true),
            Ok(()),
            "two people may speak at once"
        );
        assert_eq!(
            admit(B, None, 8500, 8900, true),
            Err(Refused::Overlapping),
            "nobody in particular may be either"
        );
    }

    #[test]
    fn who_spoke_may_be_known_only_in_the_end() {
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
            Err(Refused::Overlapping),
            "one source may follow two people, one after the other"
        );
    }

    #[test]
    fn a_merged_subjects_stretches_are_those_of_whom_it_was_merged_into() {
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
            Err(Refused::Overlapping),
            "told already"
        );
        assert_eq!(
            admission.admit(A, Some(s1), span(9500, 9900), true, now),
            Ok(())
        );
        assert_eq!(
            admission.admit(B, Some(s1), span(9000, 9500), true, now),
            Ok(()),
            "the partial was told anew"
        );
    }

    proptest! {
        /// What is admitted as final never overlaps for one subject, and what is refused leaves no trace.
        #[test]
        fn final_words_never_overlap(told in prop::collection::vec((0u64..3, 0u32..3, 0i64..3000, 1i64..800, any::<bool>()), 1..60)) {
            let mut admission = TranscriptAdmission::new(1_500_000_000);
            let mut finals: Vec<(Option<SubjectId>, Span)> = Vec::new();
            for (i, (client, subject, start, length, is_final)) in told.into_iter().enumerate() {
                let now = ms(2000 + 20 * i as i64);
                let (subject, span) = ((subject > 0).then_some(SubjectId::Face(subject)), span(start, start + length));
                if admission.admit(TranscriptSource::Client(client), subject, span, is_final, now).is_ok() {
                    prop_assert!(span.end > now.plus_nanos(-1_500_000_000) && span.end <= now.plus_nanos(AHEAD_NANOS));
                    for (other, theirs) in &finals {
                        let same = other.is_none() || subject.is_none() || *other == subject;
                        prop_assert!(!same || theirs.end <= now.plus_nanos(-1_500_000_000) || theirs.intersection(&span).is_none());
                    }
                    if is_final {
                        finals.push((subject, span));
                    }
                }
            }
        }
    }
}
