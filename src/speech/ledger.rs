//! What tellers outside may still say: words of the present, each stretch of time once.

use crate::clip::{SubjectId, Teller};
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

/// One stretch that was told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    teller: Teller,
    subject: Option<SubjectId>,
    span: Span,
    is_final: bool,
}

/// Keeps account of the stretches of time of which words were told.
#[derive(Debug)]
pub struct Ledger {
    window_nanos: i64,
    entries: Vec<Entry>,
}

impl Ledger {
    /// `window_nanos`: how far clips look back.
    pub fn new(window_nanos: i64) -> Self {
        Ledger { window_nanos, entries: Vec::new() }
    }

    /// Takes down that `teller` tells words of `span` at `now`. What it told before of the same subject and was not final, this replaces.
    pub fn admit(&mut self, teller: Teller, subject: Option<SubjectId>, span: Span, is_final: bool, now: MediaTime) -> Result<(), Refused> {
        let since = now.plus_nanos(-self.window_nanos);
        self.entries.retain(|entry| entry.span.end > since);
        if span.end <= since {
            return Err(Refused::Past);
        }
        if span.end > now.plus_nanos(AHEAD_NANOS) {
            return Err(Refused::Future);
        }
        let replaced = |entry: &Entry| !entry.is_final && (entry.teller, entry.subject) == (teller, subject);
        let same = |entry: &Entry| entry.subject.is_none() || subject.is_none() || entry.subject == subject;
        if self.entries.iter().any(|entry| !replaced(entry) && same(entry) && entry.span.intersection(&span).is_some()) {
            return Err(Refused::Overlapping);
        }
        self.entries.retain(|entry| !replaced(entry));
        if self.entries.len() == MOST {
            self.entries.remove(0);
        }
        self.entries.push(Entry { teller, subject, span, is_final });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Teller = Teller::Client(1);
    const B: Teller = Teller::Client(2);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }
    fn span(start: i64, end: i64) -> Span {
        Span::new(ms(start), ms(end))
    }

    #[test]
    fn words_are_of_the_present() {
        let mut ledger = Ledger::new(2_000_000_000);
        let now = ms(10_000);
        assert_eq!(ledger.admit(A, None, span(1000, 8000), true, now), Err(Refused::Past));
        assert_eq!(ledger.admit(A, None, span(9000, 10_501), true, now), Err(Refused::Future));
        assert_eq!(ledger.admit(A, None, span(0, 8001), true, now), Ok(()), "the end of it is inside");
        assert_eq!(ledger.admit(A, None, span(9000, 10_500), true, now), Ok(()));
    }

    #[test]
    fn a_stretch_is_told_once_and_what_was_not_final_is_told_anew() {
        let (mut ledger, now) = (Ledger::new(2_000_000_000), ms(10_000));
        let mut admit = |teller, subject, start, end, is_final| ledger.admit(teller, subject, span(start, end), is_final, now);
        assert_eq!(admit(A, None, 9000, 9400, false), Ok(()));
        assert_eq!(admit(B, None, 9300, 9500, false), Err(Refused::Overlapping), "another's");
        assert_eq!(admit(A, None, 9000, 9500, false), Ok(()));
        assert_eq!(admit(A, None, 9000, 9600, true), Ok(()));
        assert_eq!(admit(A, None, 9000, 9600, true), Err(Refused::Overlapping), "final is final");
        assert_eq!(admit(A, None, 9599, 9700, false), Err(Refused::Overlapping));
        assert_eq!(admit(A, None, 9600, 9700, false), Ok(()), "right behind it");
        assert_eq!(admit(A, Some(SubjectId::Face(1)), 8500, 8900, true), Ok(()));
        assert_eq!(admit(B, Some(SubjectId::Face(2)), 8500, 8900, true), Ok(()), "two people may speak at once");
        assert_eq!(admit(B, None, 8500, 8900, true), Err(Refused::Overlapping), "nobody in particular may be either");
    }

    proptest! {
        /// What is admitted as final never overlaps for one subject, and what is refused leaves no trace.
        #[test]
        fn final_words_never_overlap(told in prop::collection::vec((0u64..3, 0u32..3, 0i64..3000, 1i64..800, any::<bool>()), 1..60)) {
            let mut ledger = Ledger::new(1_500_000_000);
            let mut finals: Vec<(Option<SubjectId>, Span)> = Vec::new();
            for (i, (client, subject, start, length, is_final)) in told.into_iter().enumerate() {
                let now = ms(2000 + 20 * i as i64);
                let (subject, span) = ((subject > 0).then_some(SubjectId::Face(subject)), span(start, start + length));
                if ledger.admit(Teller::Client(client), subject, span, is_final, now).is_ok() {
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
