//! Passes the transcripts that clients send from the server to the aligner.

use std::sync::Mutex;

use crate::align::AlignInput;
use crate::event::{Refusal, SubjectEvent, TranscriptRequest};
use crate::lane::WeakLaneSender;
use crate::session::ClientTranscripts;
use crate::time::MediaTime;

/// Receives transcripts of clients on the server's threads. Accepted ones go to the aligner's lane
/// without waiting.
#[derive(Debug)]
pub struct TranscriptInbox {
    transcripts: Mutex<ClientTranscripts>,
    inbox: WeakLaneSender<AlignInput>,
}

impl TranscriptInbox {
    pub fn new(transcripts: ClientTranscripts, inbox: WeakLaneSender<AlignInput>) -> Self {
        TranscriptInbox {
            transcripts: Mutex::new(transcripts),
            inbox,
        }
    }

    /// Records that a subject appeared, was lost, or was merged into another one. A transcript may
    /// name a present subject only.
    pub fn note(&self, change: &SubjectEvent) {
        self.transcripts.lock().expect("inbox lock").note(change);
    }

    /// Checks the transcript that client number `client` sent and that arrived at `now`, and sends
    /// it to the aligner.
    ///
    /// # Errors
    /// The refusal to send to the client. It does not quote the transcript.
    pub fn submit(
        &self,
        client: u64,
        request: TranscriptRequest,
        now: MediaTime,
    ) -> Result<(), Refusal> {
        let mut transcripts = self.transcripts.lock().expect("inbox lock");
        let transcript = transcripts.admit(client, request, now)?;
        drop(transcripts);
        self.inbox
            .send(AlignInput::Transcript(transcript))
            .map(|_| ())
            .map_err(|_| ClientTranscripts::closed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{SubjectId, SubjectPhase, TranscriptSource};
    use crate::event::ErrorCode;
    use crate::lane::{Received, WhenFull, lane};
    use crate::time::Span;

    fn change(subject: SubjectId, phase: SubjectPhase, into: Option<SubjectId>) -> SubjectEvent {
        SubjectEvent {
            subject,
            time_ns: MediaTime::ZERO,
            phase,
            into,
            rect: [0.0; 4],
            quality: 1.0,
        }
    }

    fn inbox(transcribes: bool, sender: WeakLaneSender<AlignInput>) -> TranscriptInbox {
        TranscriptInbox::new(ClientTranscripts::new(2_000_000_000, transcribes), sender)
    }

    fn request(subject: Option<SubjectId>, start: i64, end: i64) -> TranscriptRequest {
        let span = Span::new(MediaTime::from_millis(start), MediaTime::from_millis(end));
        TranscriptRequest {
            text: "A confidential remark".into(),
            span,
            is_final: true,
            subject,
        }
    }

    #[test]
    fn a_transcript_reaches_the_aligner_or_is_refused_with_an_error_code() {
        let (sender, receiver) = lane("align", 4, WhenFull::DropOldest);
        let inbox = inbox(false, sender.downgrade());
        let now = MediaTime::from_millis(10_000);
        let s1 = Some(SubjectId::Face(1));
        let code = |request| {
            inbox.submit(7, request, now).map_err(|refusal| {
                assert!(
                    !refusal.message.contains("remark")
                        && refusal.in_reply_to.as_deref() == Some("transcript")
                );
                refusal.code
            })
        };
        assert_eq!(
            code(request(s1, 9000, 9500)),
            Err(ErrorCode::BadValue),
            "the subject is absent"
        );
        inbox.note(&change(SubjectId::Face(1), SubjectPhase::Appeared, None));
        assert_eq!(code(request(s1, 9000, 9500)), Ok(()));
        assert_eq!(code(request(s1, 9400, 9900)), Err(ErrorCode::BadValue));
        assert_eq!(code(request(Some(SubjectId::Voice), 9000, 9500)), Ok(()));
        assert_eq!(code(request(None, 0, 8000)), Err(ErrorCode::Stale));
        assert_eq!(code(request(None, 9900, 11_000)), Err(ErrorCode::Stale));
        inbox.note(&change(SubjectId::Face(1), SubjectPhase::Lost, None));
        assert_eq!(code(request(s1, 9600, 9700)), Err(ErrorCode::BadValue));
        let Received::Item(AlignInput::Transcript(transcript)) = receiver.recv(None) else {
            panic!("words")
        };
        assert_eq!(
            (
                transcript.source,
                transcript.subject,
                transcript.words.len(),
                transcript.known_at
            ),
            (TranscriptSource::Client(7), s1, 3, now)
        );
        assert!(!format!("{transcript:?}").contains("remark"));
        drop(sender);
        assert_eq!(
            code(request(None, 9800, 9900)),
            Err(ErrorCode::Stale),
            "the recording has ended"
        );
        let (elsewhere, _receiver) = lane("align", 1, WhenFull::DropOldest);
        let busy = super::tests::inbox(true, elsewhere.downgrade());
        assert_eq!(
            busy.submit(1, request(None, 9000, 9500), now)
                .unwrap_err()
                .code,
            ErrorCode::NotAllowed
        );
    }

    #[test]
    fn a_final_replaces_a_partial_but_not_a_final_of_a_merged_subject() {
        let (sender, _receiver) = lane("align", 8, WhenFull::DropOldest);
        let inbox = inbox(false, sender.downgrade());
        let now = MediaTime::from_millis(10_000);
        let (s1, s2) = (SubjectId::Face(1), SubjectId::Face(2));
        for subject in [s1, s2] {
            inbox.note(&change(subject, SubjectPhase::Appeared, None));
        }
        let code = |request| {
            inbox
                .submit(7, request, now)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(
            code(TranscriptRequest {
                is_final: false,
                ..request(None, 8500, 9000)
            }),
            Ok(())
        );
        assert_eq!(code(request(Some(s2), 8500, 9000)), Ok(()));
        inbox.note(&change(s2, SubjectPhase::Merged, Some(s1)));
        assert_eq!(
            code(request(Some(s1), 8500, 9000)),
            Err(ErrorCode::BadValue),
            "it is a transcript of the same subject"
        );
        assert_eq!(code(request(Some(s1), 9000, 9500)), Ok(()));
    }
}
