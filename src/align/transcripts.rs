//! Transcripts and their speakers.

use std::collections::VecDeque;

use super::presence::Presence;
use super::{Aligned, Aligner};
use crate::clip::{Absence, ClipText, OwnedTranscript, SubjectId, Transcript, TranscriptSource};
use crate::speech::TranscriptSpan;
use crate::time::{MediaTime, Span};

/// Largest number of words per second in a clip, above any human rate. More words in a client's
/// transcript are not speech; without a limit their encoding would delay all other work.
const WORDS_PER_SECOND: i64 = 16;
/// Number of characters that are kept of each word.
const MAX_LETTERS: usize = 64;

/// Transcripts that later clips may contain.
#[derive(Debug, Default)]
pub(super) struct Transcripts {
    kept: VecDeque<OwnedTranscript>,
    /// Time of the last transcript that is attributed to no visible subject.
    off_camera_at: Option<MediaTime>,
}

impl Transcripts {
    /// Adds a transcript and removes the partials that it supersedes. `off_camera`: whether the
    /// transcript is attributed to no visible subject.
    fn push(&mut self, owned: OwnedTranscript, off_camera: bool) {
        let transcript = &owned.transcript;
        let span = TranscriptSpan::from_transcript(transcript);
        self.kept.retain(|old| {
            old.transcript.is_final
                || !span.supersedes(&TranscriptSpan::from_transcript(&old.transcript))
        });
        if !is_evidence(transcript) {
            return;
        }
        if off_camera {
            self.off_camera_at = self.off_camera_at.max(Some(transcript.known_at));
        }
        self.kept.push_back(owned);
    }

    /// Whether an off-camera transcript became known after `time`.
    pub fn has_off_camera_after(&self, time: MediaTime) -> bool {
        self.off_camera_at.is_some_and(|at| at > time)
    }

    /// Reassigns the transcripts of `from` to `into`.
    pub fn merge(&mut self, from: SubjectId, into: SubjectId) {
        for owned in &mut self.kept {
            for subject in [&mut owned.owner, &mut owned.transcript.subject] {
                if *subject == Some(from) {
                    *subject = Some(into);
                }
            }
        }
    }

    /// The words in `span` of transcripts with a `wanted` owner, in spoken order. A word is in the
    /// span that contains its middle. Beyond [`WORDS_PER_SECOND`], only the newest words are
    /// returned.
    ///
    /// # Errors
    /// [`Absence::NotOwner`] if all words in `span` have other owners, [`Absence::NoTranscript`] if
    /// there are none.
    pub fn cut(
        &self,
        span: Span,
        wanted: impl Fn(Option<SubjectId>) -> bool,
    ) -> Result<ClipText, Absence> {
        let (mut words, mut others) = (Vec::new(), false);
        for OwnedTranscript { transcript, owner } in &self.kept {
            let spoken = transcript
                .words
                .iter()
                .filter(|word| span.contains(word.span.start.plus_nanos(word.span.nanos() / 2)));
            if wanted(*owner) {
                words.extend(spoken);
            } else {
                others |= spoken.count() > 0;
            }
        }
        words.sort_by_key(|word| word.span.start);
        let most = WORDS_PER_SECOND * (span.nanos() / 1_000_000_000 + 1);
        words.drain(..words.len().saturating_sub(most as usize));
        match words.iter().map(|word| word.span.end.min(span.end)).max() {
            Some(newest) => Ok(ClipText {
                text: words
                    .iter()
                    .map(|word| first_letters(&word.text))
                    .collect::<Vec<_>>()
                    .join(" "),
                newest,
            }),
            None if others => Err(Absence::NotOwner),
            None => Err(Absence::NoTranscript),
        }
    }

    /// Drops transcripts that ended before `time`.
    pub fn forget(&mut self, time: MediaTime) {
        self.kept.retain(|owned| owned.transcript.span.end >= time);
    }

    /// Number of kept words.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.kept
            .iter()
            .map(|owned| owned.transcript.words.len())
            .sum()
    }
}

/// The first [`MAX_LETTERS`] characters of `word`.
fn first_letters(word: &str) -> &str {
    let end = word.char_indices().nth(MAX_LETTERS);
    end.map_or(word, |(end, _)| &word[..end])
}

/// Whether the text modality may use the transcript. Partials of the daemon's own transcriber need
/// word confidences: without them, words that it heard in noise cannot be filtered. Clients filter
/// their own transcripts.
fn is_evidence(transcript: &Transcript) -> bool {
    transcript.is_final
        || transcript.source != TranscriptSource::Daemon
        || transcript
            .words
            .iter()
            .all(|word| word.confidence.is_some())
}

impl Aligner {
    /// Attributes a transcript to its speaker, keeps it for later clips, and outputs it.
    pub(super) fn take_transcript(&mut self, transcript: Transcript) {
        self.pass_idle_boundaries(transcript.known_at);
        let owner = transcript
            .subject
            .or_else(|| self.turn_owner(transcript.span.start, transcript.span.end));
        let owned = OwnedTranscript { transcript, owner };
        let off_camera = self.is_off_camera(owner);
        self.transcripts.push(owned.clone(), off_camera);
        self.ready.push_back(Aligned::Transcript(owned));
    }

    /// Whether an off-camera transcript became known since the last clip of the off-camera voice.
    pub(super) fn has_new_transcript(&self, voice: &Presence) -> bool {
        self.transcripts
            .off_camera_at
            .is_some_and(|at| at > voice.clipped_until.unwrap_or(voice.since).max(voice.since))
    }

    /// The words of the off-camera voice in `span`. The error is the reason why there are none.
    pub(super) fn off_camera_text(&self, span: Span) -> Result<ClipText, Absence> {
        self.transcripts
            .cut(span, |owner| self.is_off_camera(owner))
    }

    /// Whether the owner of a transcript is not visible. A departed subject gets no clips, so its
    /// words belong to the off-camera voice.
    fn is_off_camera(&self, owner: Option<SubjectId>) -> bool {
        owner.is_none_or(|owner| owner == SubjectId::Voice || !self.presences.contains_key(&owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_holds_at_most_the_words_of_its_duration() {
        let ms = MediaTime::from_millis;
        let span = Span::new(ms(0), ms(2000));
        let numbered: Vec<_> = (0..511).map(|i| format!("word{i}")).collect();
        let text = format!("{} a{}", numbered.join(" "), "!".repeat(1000));
        let transcript = Transcript {
            source: TranscriptSource::Client(1),
            subject: None,
            words: Transcript::spread(&text, span),
            text,
            span,
            is_final: true,
            known_at: span.end,
        };
        let owned = OwnedTranscript {
            transcript,
            owner: None,
        };
        let mut transcripts = Transcripts::default();
        transcripts.push(owned, true);
        // The run of marks takes most of the time: the words before it share a third of a second.
        for (span, count) in [(span, 48), (Span::new(ms(0), ms(100)), 16)] {
            let cut = transcripts.cut(span, |_| true).unwrap();
            let kept: Vec<_> = cut.text.split(' ').collect();
            assert_eq!(kept.len(), count);
            assert!(kept.iter().all(|word| word.len() <= MAX_LETTERS));
        }
        let newest = transcripts.cut(span, |_| true).unwrap().text;
        assert!(newest.contains("word510 a!!!") && !newest.contains("word463 "));
    }
}
