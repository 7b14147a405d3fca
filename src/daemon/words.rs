//! Words that clients tell, on their way to the aligner.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::align::AlignInput;
use crate::clip::{SubjectId, SubjectPhase, Teller, Transcript};
use crate::event::{ErrorCode, Refusal, Telling};
use crate::lane::LaneGuest;
use crate::speech::{Ledger, Refused};
use crate::time::MediaTime;

/// Called on the socket's threads: checks, and passes on without waiting.
#[derive(Debug)]
pub struct Intake {
    /// The daemon transcribes by itself.
    transcribes: bool,
    state: Mutex<State>,
    inbox: LaneGuest<AlignInput>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    present: BTreeSet<SubjectId>,
}

impl Intake {
    /// `window_nanos`: how far clips look back; `transcribes`: the daemon has its own transcriber.
    pub fn new(window_nanos: i64, transcribes: bool, inbox: LaneGuest<AlignInput>) -> Self {
        Intake {
            transcribes,
            state: Mutex::new(State {
                ledger: Ledger::new(window_nanos),
                present: BTreeSet::new(),
            }),
            inbox,
        }
    }

    pub fn note_subject(&self, subject: SubjectId, phase: SubjectPhase) {
        let present = &mut self.state.lock().expect("intake lock").present;
        match phase {
            SubjectPhase::Appeared | SubjectPhase::Updated => present.insert(subject),
            SubjectPhase::Lost | SubjectPhase::Merged => present.remove(&subject),
        };
    }

    /// `from` turned out to be `into`: what was told of it was told of that one.
    pub fn note_merge(&self, from: SubjectId, into: SubjectId) {
        self.state
            .lock()
            .expect("intake lock")
            .ledger
            .merge(from, into);
    }

    /// Passes words on that came at `now`. Whatever is wrong is said without them.
    pub fn hear(&self, client: u64, telling: Telling, now: MediaTime) -> Result<(), Refusal> {
        if self.transcribes {
            let message = "this daemon transcribes by itself: set [speech] transcriber = \"none\" to have it take yours";
            return Err(refusal(ErrorCode::NotAllowed, message));
        }
        let Telling {
            text,
            span,
            is_final,
            subject,
        } = telling;
        let teller = Teller::Client(client);
        {
            let mut state = self.state.lock().expect("intake lock");
            if let Some(subject) = subject
                .filter(|subject| *subject != SubjectId::Voice && !state.present.contains(subject))
            {
                return Err(refusal(
                    ErrorCode::BadValue,
                    &format!(
                        "`subject`: {subject} is not there; leave it out if you do not know who speaks"
                    ),
                ));
            }
            state
                .ledger
                .admit(teller, subject, span, is_final, now)
                .map_err(|refused| match refused {
                    Refused::Past => refusal(
                        ErrorCode::Stale,
                        "`end_ns` is before the window that events still look back on",
                    ),
                    Refused::Future => refusal(
                        ErrorCode::Stale,
                        "`end_ns` is later than now: is it media time, by the clock of `hello`?",
                    ),
                    Refused::Overlapping => refusal(
                        ErrorCode::BadValue,
                        "`start_ns` to `end_ns` overlaps words that were told already",
                    ),
                })?;
        }
        let words = Transcript::spread(&text, span);
        let transcript = Transcript {
            teller,
            subject,
            text,
            span,
            words,
            is_final,
            told_at: now,
        };
        self.inbox
            .send(AlignInput::Words(transcript))
            .map(|_| ())
            .map_err(|_| Intake::closed())
    }

    /// Before the stages run, and after.
    pub fn closed() -> Refusal {
        refusal(
            ErrorCode::Stale,
            "nothing listens just now: the sources are not open yet, or have ended",
        )
    }
}

fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal::new(code, message, Some("transcript"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Received, WhenFull, lane};
    use crate::time::Span;

    fn telling(subject: Option<SubjectId>, start: i64, end: i64) -> Telling {
        let span = Span::new(MediaTime::from_millis(start), MediaTime::from_millis(end));
        Telling {
            text: "A confidential remark".into(),
            span,
            is_final: true,
            subject,
        }
    }

    #[test]
    fn words_go_in_and_refusals_have_their_codes() {
        let (sender, receiver) = lane("align", 4, WhenFull::DropOldest);
        let intake = Intake::new(2_000_000_000, false, sender.guest());
        let now = MediaTime::from_millis(10_000);
        let s1 = Some(SubjectId::Face(1));
        let code = |telling| {
            intake.hear(7, telling, now).map_err(|refusal| {
                assert!(
                    !refusal.message.contains("remark")
                        && refusal.in_reply_to.as_deref() == Some("transcript")
                );
                refusal.code
            })
        };
        assert_eq!(
            code(telling(s1, 9000, 9500)),
            Err(ErrorCode::BadValue),
            "nobody is there"
        );
        intake.note_subject(SubjectId::Face(1), SubjectPhase::Appeared);
        assert_eq!(code(telling(s1, 9000, 9500)), Ok(()));
        assert_eq!(code(telling(s1, 9400, 9900)), Err(ErrorCode::BadValue));
        assert_eq!(code(telling(Some(SubjectId::Voice), 9000, 9500)), Ok(()));
        assert_eq!(code(telling(None, 0, 8000)), Err(ErrorCode::Stale));
        assert_eq!(code(telling(None, 9900, 11_000)), Err(ErrorCode::Stale));
        intake.note_subject(SubjectId::Face(1), SubjectPhase::Lost);
        assert_eq!(code(telling(s1, 9600, 9700)), Err(ErrorCode::BadValue));
        let Received::Item(AlignInput::Words(transcript)) = receiver.recv(None) else {
            panic!("words")
        };
        assert_eq!(
            (
                transcript.teller,
                transcript.subject,
                transcript.words.len(),
                transcript.told_at
            ),
            (Teller::Client(7), s1, 3, now)
        );
        assert!(!format!("{transcript:?}").contains("remark"));
        drop(sender);
        assert_eq!(
            code(telling(None, 9800, 9900)),
            Err(ErrorCode::Stale),
            "the recording has ended"
        );
        let busy = Intake::new(
            2_000_000_000,
            true,
            lane("align", 1, WhenFull::DropOldest).0.guest(),
        );
        assert_eq!(
            busy.hear(1, telling(None, 9000, 9500), now)
                .unwrap_err()
                .code,
            ErrorCode::NotAllowed
        );
    }

    #[test]
    fn a_partial_is_told_anew_by_one_that_knows_who_spoke_and_of_who_was_merged() {
        let (sender, _receiver) = lane("align", 8, WhenFull::DropOldest);
        let intake = Intake::new(2_000_000_000, false, sender.guest());
        let now = MediaTime::from_millis(10_000);
        let (s1, s2) = (SubjectId::Face(1), SubjectId::Face(2));
        for subject in [s1, s2] {
            intake.note_subject(subject, SubjectPhase::Appeared);
        }
        let code = |telling| intake.hear(7, telling, now).map_err(|refusal| refusal.code);
        assert_eq!(
            code(Telling {
                is_final: false,
                ..telling(None, 8500, 9000)
            }),
            Ok(())
        );
        assert_eq!(code(telling(Some(s2), 8500, 9000)), Ok(()));
        intake.note_merge(s2, s1);
        intake.note_subject(s2, SubjectPhase::Merged);
        assert_eq!(
            code(telling(Some(s1), 8500, 9000)),
            Err(ErrorCode::BadValue),
            "it was told of the same person"
        );
        assert_eq!(code(telling(Some(s1), 9000, 9500)), Ok(()));
    }
}
