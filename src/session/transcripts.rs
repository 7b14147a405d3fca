//! Transcripts that clients send: which are admitted.

use std::collections::BTreeSet;

use crate::clip::{SubjectId, SubjectPhase, Transcript, TranscriptSource};
use crate::event::{ErrorCode, Refusal, SubjectEvent, TranscriptRequest};
use crate::speech::{AdmissionError, TranscriptAdmission};
use crate::time::MediaTime;

/// Checks clients' transcripts against the clock, the subjects in sight, and each other.
#[derive(Debug)]
pub struct ClientTranscripts {
    /// The daemon transcribes by itself and takes none.
    transcribes: bool,
    admission: TranscriptAdmission,
    present: BTreeSet<SubjectId>,
}

impl ClientTranscripts {
    /// `window_nanos`: how far clips look back; `transcribes`: the daemon has its own transcriber.
    pub fn new(window_nanos: i64, transcribes: bool) -> ClientTranscripts {
        ClientTranscripts {
            transcribes,
            admission: TranscriptAdmission::new(window_nanos),
            present: BTreeSet::new(),
        }
    }

    /// A subject appears, goes, or turns out to be another one: transcripts of the one are the
    /// other's then.
    pub fn note(&mut self, change: &SubjectEvent) {
        if let Some(into) = change.into {
            self.admission.merge(change.subject, into);
        }
        match change.phase {
            SubjectPhase::Appeared | SubjectPhase::Updated => self.present.insert(change.subject),
            SubjectPhase::Lost | SubjectPhase::Merged => self.present.remove(&change.subject),
        };
    }

    /// The transcript of `client` that arrived at `now`, for the aligner.
    ///
    /// # Errors
    /// The refusal for the client. It does not quote the transcript.
    pub fn admit(
        &mut self,
        client: u64,
        telling: TranscriptRequest,
        now: MediaTime,
    ) -> Result<Transcript, Refusal> {
        if self.transcribes {
            let message = "this daemon transcribes by itself: set [speech] transcriber = \"none\" to have it take yours";
            return Err(refusal(ErrorCode::NotAllowed, message));
        }
        let TranscriptRequest {
            text,
            span,
            is_final,
            subject,
        } = telling;
        let absent = subject.filter(|s| *s != SubjectId::Voice && !self.present.contains(s));
        if let Some(subject) = absent {
            let message = format!(
                "`subject`: {subject} is not there; leave it out if you do not know who speaks"
            );
            return Err(refusal(ErrorCode::BadValue, &message));
        }
        let source = TranscriptSource::Client(client);
        self.admission
            .admit(source, subject, span, is_final, now)
            .map_err(|refused| match refused {
                AdmissionError::Past => refusal(
                    ErrorCode::Stale,
                    "`end_ns` is before the window that events still look back on",
                ),
                AdmissionError::Future => refusal(
                    ErrorCode::Stale,
                    "`end_ns` is later than now: is it media time, by the clock of `hello`?",
                ),
                AdmissionError::Overlapping => refusal(
                    ErrorCode::BadValue,
                    "`start_ns` to `end_ns` overlaps words that were told already",
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

    /// The refusal while no session runs.
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
