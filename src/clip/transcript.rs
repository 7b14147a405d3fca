//! Transcripts and their words.

use std::fmt;

use super::SubjectId;
use crate::time::{MediaTime, Span};

/// A word with its span. `Debug` hides the text, so that speech never appears in a log.
#[derive(Clone, PartialEq)]
pub struct Word {
    pub text: String,
    pub span: Span,
    /// Posterior probability of the word, 0 to 1; `None` if the transcriber gives none.
    pub confidence: Option<f32>,
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({:?}, {:?})", self.span, self.confidence)
    }
}

/// Origin of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TranscriptSource {
    /// The daemon's own transcriber.
    Daemon,
    /// The client with this number.
    Client(u64),
}

/// A transcript of one utterance, partial or final. It supersedes the partials that its source gave
/// of the same subject or time. `Debug` hides the words.
#[derive(Clone, PartialEq)]
pub struct Transcript {
    pub source: TranscriptSource,
    /// The speaker, if the source names it.
    pub subject: Option<SubjectId>,
    /// The text as the source wrote it.
    pub text: String,
    /// Time from the start of the first word to the end of the last one.
    pub span: Span,
    /// The words in spoken order, inside `span`.
    pub words: Vec<Word>,
    /// `false`: a partial, which a later transcript may supersede.
    pub is_final: bool,
    /// Time at which the transcript became known.
    pub known_at: MediaTime,
}

impl Transcript {
    /// Splits `text` into words and distributes `span` over them in proportion to their numbers of
    /// characters.
    pub fn spread(text: &str, span: Span) -> Vec<Word> {
        let letters = |word: &str| word.chars().count() as i64;
        let whole: i64 = text.split_whitespace().map(letters).sum();
        let at = |before: i64| {
            span.start.plus_nanos(
                (i128::from(span.nanos()) * i128::from(before) / i128::from(whole.max(1))) as i64,
            )
        };
        let mut before = 0;
        let place = |word: &str| {
            let start = at(before);
            before += letters(word);
            Word {
                text: word.to_owned(),
                span: Span::new(start, at(before)),
                confidence: None,
            }
        };
        text.split_whitespace().map(place).collect()
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transcript {
            source,
            subject,
            text: _,
            span,
            words,
            is_final,
            known_at,
        } = self;
        write!(
            f,
            "Transcript({source:?}, {subject:?}, {span:?}, {} words, final: {is_final}, \
             {known_at:?})",
            words.len()
        )
    }
}

/// A transcript with its attributed speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedTranscript {
    pub transcript: Transcript,
    /// The subject that the source names, otherwise the active speaker. `None`: the speaker is
    /// unknown.
    pub owner: Option<SubjectId>,
}

/// The text of a clip: the words whose middle is inside the clip's span. `Debug` hides the words.
#[derive(Clone, PartialEq)]
pub struct ClipText {
    pub text: String,
    /// End of the last word in the text.
    pub newest: MediaTime,
}

impl fmt::Debug for ClipText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClipText({} words until {:?})",
            self.text.split_whitespace().count(),
            self.newest
        )
    }
}
