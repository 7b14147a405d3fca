//! Acceptance or refusal of the transcripts that clients send.

use std::collections::BTreeSet;

use crate::clip::{SubjectId, SubjectPhase, Transcript, TranscriptSource};
use crate::event::{ErrorCode, Refusal, SubjectEvent, TranscriptRequest};
use crate::speech::{AdmissionError, TranscriptAdmission};
use crate::time::MediaTime;

/// Accepts or refuses transcripts that clients send: their subject must be present, and their time
/// must be recent and must not overlap an earlier transcript.
#[derive(Debug)]
pub struct ClientTranscripts {
    /// Whether the daemon has a transcriber of its own; it then refuses transcripts of clients.
    transcribes: bool,
    admission: TranscriptAdmission,
    /// The subjects whose face is tracked now.
    present: BTreeSet<SubjectId>,
}

impl ClientTranscripts {
    /// `window_nanos` is the length of a window in nanoseconds. With `transcribes`, the daemon has
    /// a transcriber of its own, and every transcript of a client is refused.
    pub fn new(window_nanos: i64, transcribes: bool) -> ClientTranscripts {
        ClientTranscripts {
            transcribes,
            admission: TranscriptAdmission::new(window_nanos),
            present: BTreeSet::new(),
        }
    }

    /// Records that a subject appeared, was lost, or was merged. The subject that continues after a
    /// merge takes over the merged subject's transcripts.
    pub fn note(&mut self, change: &SubjectEvent) {
        if let Some(into) = change.into {
            self.admission.merge(change.subject, into);
        }
        match change.phase {
            SubjectPhase::Appeared | SubjectPhase::Updated => self.present.insert(change.subject),
            SubjectPhase::Lost | SubjectPhase::Merged => self.present.remove(&change.subject),
        };
    }

    /// Checks the transcript that client number `client` sent and that arrived at `now`, and
    /// converts it to the aligner's input.
    ///
    /// # Errors
    /// The refusal to send to the client. It does not quote the transcript.
    pub fn admit(
        &mut self,
        client: u64,
        request: TranscriptRequest,
        now: MediaTime,
    ) -> Result<Transcript, Refusal> {
        if self.transcribes {
            let message = "this daemon has its own transcriber: set [speech] transcriber = \
                           \"none\" to send transcripts";
            return Err(refusal(ErrorCode::NotAllowed, message));
        }
        let TranscriptRequest {
            text,
            span,
            is_final,
            subject,
        } = request;
        let absent = subject.filter(|s| *s != SubjectId::Voice && !self.present.contains(s));
        if let Some(subject) = absent {
            let message = format!(
                "`subject`: {subject} is not present; leave it out if the speaker is unknown"
            );
            return Err(refusal(ErrorCode::BadValue, &message));
        }
        let source = TranscriptSource::Client(client);
        self.admission
            .admit(source, subject, span, is_final, now)
            .map_err(|refused| match refused {
                AdmissionError::Past => refusal(
                    ErrorCode::Stale,
                    "`end_ns` is before the window of the next events: the transcript is too old",
                ),
                AdmissionError::Future => refusal(
                    ErrorCode::Stale,
                    "`end_ns` is later than now: is it media time, by the clock of `hello`?",
                ),
                AdmissionError::Overlapping => refusal(
                    ErrorCode::BadValue,
                    "`start_ns` to `end_ns` overlaps an earlier transcript",
                ),
            })?;
        let words = Transcript::spread(&text, span);
        Ok(Transcript {
            source,
            subject,
            text,
            span,
            words,
            is_final,
            known_at: now,
        })
    }

    /// The refusal of a transcript that arrives while no session runs.
    pub fn closed() -> Refusal {
        refusal(
            ErrorCode::Stale,
            "no transcripts are accepted now: the sources are not open yet, or have ended",
        )
    }
}

/// The refusal of a `transcript` request.
fn refusal(code: ErrorCode, message: &str) -> Refusal {
    Refusal::new(code, message, Some("transcript"))
}
