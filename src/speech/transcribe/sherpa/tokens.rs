//! Joins the tokens of a model to words.

use crate::clip::SAMPLE_RATE_HZ;
use crate::speech::WordHypothesis;

/// Margin before a word's first token and after its last token, in seconds. The time of a token is
/// the time of its emission, somewhere inside the word. Words never overlap.
const MARGIN_SECONDS: f32 = 0.12;

/// How the tokens of a model mark the boundaries of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// A token with a space at its start begins a word.
    Spaced,
    /// A token with `@@` at its end continues in the next token.
    Joined,
}

/// The decoded tokens of one utterance.
#[derive(Clone, Copy, Debug)]
pub struct DecodedTokens<'a> {
    pub text: &'a str,
    pub tokens: &'a [String],
    /// Time of each token, in seconds since the utterance's first sample.
    pub seconds: &'a [f32],
    /// Natural logarithms of the tokens' probabilities; empty if the model gives none.
    pub log_probs: &'a [f32],
}

/// A word whose tokens are being joined.
#[derive(Debug, Default)]
struct WordDraft {
    /// UTF-8 text so far.
    bytes: Vec<u8>,
    /// Time of the first token, in seconds.
    first: f32,
    /// Time of the newest token, in seconds.
    last: f32,
    /// Sum of the natural logarithms of the tokens' probabilities.
    log_prob: f32,
    tokens: usize,
}

/// Joins tokens to words with their ranges of samples in an utterance of `samples` samples. Chinese
/// text has no spaces: each character is a word.
pub fn words(
    decoded: DecodedTokens<'_>,
    spelling: Spelling,
    samples: usize,
) -> Vec<WordHypothesis> {
    let has_log_probs = decoded.log_probs.len() == decoded.tokens.len();
    let mut drafts: Vec<WordDraft> = Vec::new();
    let (mut starts_word, mut was_character) = (true, false);
    for (i, (token, seconds)) in decoded.tokens.iter().zip(decoded.seconds).enumerate() {
        let byte = byte_of(token);
        let is_special = byte.is_none()
            && (token.starts_with('<') && token.ends_with('>')
                || token.starts_with('[') && token.ends_with(']'));
        let spaced = token.starts_with([' ', '▁']);
        let part = token.trim_start_matches([' ', '▁']);
        let (part, continues) = match (spelling, part.strip_suffix("@@")) {
            (Spelling::Joined, Some(part)) => (part, true),
            (Spelling::Joined, None) => (part, false),
            (Spelling::Spaced, _) => (part, true),
        };
        let is_character = part.chars().next().is_some_and(is_character);
        starts_word |= spaced || is_special || is_character || was_character;
        if is_special || part.is_empty() {
            continue;
        }
        if starts_word || drafts.is_empty() {
            drafts.push(WordDraft {
                first: *seconds,
                ..WordDraft::default()
            });
        }
        let draft = drafts.last_mut().expect("pushed above");
        match byte {
            Some(byte) => draft.bytes.push(byte),
            None => draft.bytes.extend_from_slice(part.as_bytes()),
        }
        draft.last = *seconds;
        draft.tokens += 1;
        draft.log_prob += if has_log_probs {
            decoded.log_probs[i]
        } else {
            0.0
        };
        (starts_word, was_character) = (!continues, is_character);
    }
    // Byte-level tokens are readable only in the whole text.
    let whole: Vec<&str> = decoded.text.split_whitespace().collect();
    let spans = spans(&drafts, samples);
    let texts = drafts.iter().enumerate().map(|(i, draft)| match spelling {
        Spelling::Spaced if whole.len() == drafts.len() => whole[i].to_owned(),
        _ => String::from_utf8_lossy(&draft.bytes).into_owned(),
    });
    let confidences = drafts.iter().map(|draft| {
        has_log_probs.then(|| (draft.log_prob / draft.tokens as f32).exp().clamp(0.0, 1.0))
    });
    texts
        .zip(spans)
        .zip(confidences)
        .map(|((text, samples), confidence)| WordHypothesis {
            text,
            samples,
            confidence,
        })
        .collect()
}

/// The range of samples of each word: in order, not empty, and within the utterance where possible.
/// `samples`: length of the utterance.
fn spans(drafts: &[WordDraft], samples: usize) -> Vec<std::ops::Range<usize>> {
    let rate = SAMPLE_RATE_HZ as f32;
    // Tokens in the padding after the utterance belong to its end.
    let latest = (samples as f32 / rate - MARGIN_SECONDS).max(0.0);
    let middle = |i: usize| (drafts[i].last.min(latest) + drafts[i + 1].first.min(latest)) / 2.0;
    let mut spans = Vec::with_capacity(drafts.len());
    let mut end = 0;
    for (i, draft) in drafts.iter().enumerate() {
        let before = if i == 0 { 0.0 } else { middle(i - 1) };
        let after = if i + 1 == drafts.len() {
            f32::INFINITY
        } else {
            middle(i)
        };
        let from = (draft.first.min(latest) - MARGIN_SECONDS).max(before);
        let to = (draft.last.min(latest) + MARGIN_SECONDS).min(after);
        let start = ((from * rate).round() as usize).max(end);
        end = ((to * rate).round() as usize).max(start + 1);
        spans.push(start..end);
    }
    spans
}

/// The byte that a token such as `<0xE4>` stands for: part of a character without its own token.
fn byte_of(token: &str) -> Option<u8> {
    u8::from_str_radix(token.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Whether `c` is a Chinese or Japanese character.
fn is_character(c: char) -> bool {
    const RANGES: [std::ops::RangeInclusive<char>; 5] = [
        '\u{3040}'..='\u{30ff}',
        '\u{3400}'..='\u{4dbf}',
        '\u{4e00}'..='\u{9fff}',
        '\u{f900}'..='\u{faff}',
        '\u{20000}'..='\u{3134f}',
    ];
    RANGES.iter().any(|range| range.contains(&c))
}
