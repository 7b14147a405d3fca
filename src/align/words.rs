//! Words, and whose they are.

use std::collections::VecDeque;

use super::presence::Presence;
use super::{Aligned, Aligner};
use crate::clip::{Absence, ClipText, OwnedTranscript, SubjectId, Transcript, TranscriptSource};
use crate::speech::TranscriptSpan;
use crate::time::{MediaTime, Span};

/// Words a second of a clip, more than anyone speaks. What a client tells beyond them is no speech;
/// without a limit its encoding would take the time of everything else.
const WORDS_PER_SECOND: i64 = 16;
/// Letters of a word that count.
const LETTERS: usize = 64;

/// What was told and may still be in a clip.
#[derive(Debug, Default)]
pub(super) struct Words {
    told: VecDeque<OwnedTranscript>,
    /// When words that may be nobody's face's were told last.
    faceless_at: Option<MediaTime>,
}

impl Words {
    /// `faceless`: no face that is there is the owner.
    fn push(&mut self, told: OwnedTranscript, faceless: bool) {
        let transcript = &told.transcript;
        let span = TranscriptSpan::of(transcript);
        self.told.retain(|old| {
            old.transcript.is_final || !span.replaces(&TranscriptSpan::of(&old.transcript))
        });
        if !is_evidence(transcript) {
            return;
        }
        if faceless {
            self.faceless_at = self.faceless_at.max(Some(transcript.known_at));
        }
        self.told.push_back(told);
    }

    /// Were words told after `time`?
    pub fn come_after(&self, time: MediaTime) -> bool {
        self.faceless_at.is_some_and(|at| at > time)
    }

    /// Words of `from` are those of `into` now.
    pub fn merge(&mut self, from: SubjectId, into: SubjectId) {
        for told in &mut self.told {
            for subject in [&mut told.owner, &mut told.transcript.subject] {
                if *subject == Some(from) {
                    *subject = Some(into);
                }
            }
        }
    }

    /// The words of `span` whose owner is `wanted`: those of which at least half was spoken in it,
    /// in the order in which they were. Of more than anyone speaks in that time the newest.
    pub fn cut(
        &self,
        span: Span,
        wanted: impl Fn(Option<SubjectId>) -> bool,
    ) -> Result<ClipText, Absence> {
        let (mut words, mut others) = (Vec::new(), false);
        for OwnedTranscript { transcript, owner } in &self.told {
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

    /// Drops what ended before `time`.
    pub fn forget(&mut self, time: MediaTime) {
        self.told.retain(|told| told.transcript.span.end >= time);
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.told
            .iter()
            .map(|told| told.transcript.words.len())
            .sum()
    }
}

fn first_letters(word: &str) -> &str {
    let end = word.char_indices().nth(LETTERS);
    end.map_or(word, |(end, _)| &word[..end])
}

/// What our own transcriber believes so far is told, but is evidence only where it says how surely: without that no rule has looked at it, and
/// noise never yields words. What a client tells has been judged by its own.
fn is_evidence(transcript: &Transcript) -> bool {
    transcript.is_final
        || transcript.source != TranscriptSource::Daemon
        || transcript
            .words
            .iter()
            .all(|word| word.confidence.is_some())
}

impl Aligner {
    pub(super) fn take_words(&mut self, transcript: Transcript) {
        self.pass_idle_boundaries(transcript.known_at);
        let owner = transcript
            .subject
            .or_else(|| self.turn_owner(transcript.span.start, transcript.span.end));
        let told = OwnedTranscript { transcript, owner };
        self.words.push(told.clone(), self.is_faceless(owner));
        self.ready.push_back(Aligned::Words(told));
    }

    /// Have words come since the voice's last clip?
    pub(super) fn has_new_words(&self, voice: &Presence) -> bool {
        self.words
            .faceless_at
            .is_some_and(|at| at > voice.clipped_until.unwrap_or(voice.since).max(voice.since))
    }

    pub(super) fn words_without_a_face(&self, span: Span) -> Result<ClipText, Absence> {
        self.words.cut(span, |owner| self.is_faceless(owner))
    }

    /// Who left while they spoke get no clips any more: what is heard of them is the voice's.
    fn is_faceless(&self, owner: Option<SubjectId>) -> bool {
        owner.is_none_or(|owner| owner == SubjectId::Voice || !self.presences.contains_key(&owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_holds_no_more_than_anyone_says_in_its_time() {
        let ms = MediaTime::from_millis;
        let span = Span::new(ms(0), ms(2000));
        let said: Vec<_> = (0..511).map(|i| format!("word{i}")).collect();
        let text = format!("{} a{}", said.join(" "), "!".repeat(1000));
        let transcript = Transcript {
            source: TranscriptSource::Client(1),
            subject: None,
            words: Transcript::spread(&text, span),
            text,
            span,
            is_final: true,
            known_at: span.end,
        };
        let told = OwnedTranscript {
            transcript,
            owner: None,
        };
        let mut words = Words::default();
        words.push(told, true);
        // The marks are the longest word by far: what is said before them takes a third of a
        // second.
        for (span, count) in [(span, 48), (Span::new(ms(0), ms(100)), 16)] {
            let cut = words.cut(span, |_| true).unwrap();
            let kept: Vec<_> = cut.text.split(' ').collect();
            assert_eq!(kept.len(), count);
            assert!(kept.iter().all(|word| word.len() <= LETTERS));
        }
        let newest = words.cut(span, |_| true).unwrap().text;
        assert!(newest.contains("word510 a!!!") && !newest.contains("word463 "));
    }
}
