//! Words out of tokens.

use crate::clip::SAMPLE_RATE_HZ;
use crate::speech::Guess;

/// A token's time is when the model was sure of it. A word is taken to reach from so long before its first token's to so long after its last
/// one's, and never into its neighbour.
const REACH_SECONDS: f32 = 0.12;

/// How a model's tokens make words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// A token that begins with a space begins a word.
    Spaced,
    /// A token that ends with `@@` goes on in the next one.
    Joined,
}

/// What was understood.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub text: &'a str,
    pub tokens: &'a [String],
    /// One for each token, in seconds since the utterance's first sample.
    pub seconds: &'a [f32],
    /// Natural logarithms of the tokens' probabilities, or none.
    pub log_probs: &'a [f32],
}

#[derive(Debug, Default)]
struct Draft {
    bytes: Vec<u8>,
    first: f32,
    last: f32,
    log_prob: f32,
    tokens: usize,
}

/// The words of an utterance of which `heard` samples were heard. Written Chinese, which knows no spaces, is one word a character.
pub fn words(said: Said<'_>, spelling: Spelling, heard: usize) -> Vec<Guess> {
    let has_log_probs = said.log_probs.len() == said.tokens.len();
    let mut drafts: Vec<Draft> = Vec::new();
    let (mut fresh, mut was_character) = (true, false);
    for (i, (token, seconds)) in said.tokens.iter().zip(said.seconds).enumerate() {
        let byte = byte_of(token);
        let is_sign = byte.is_none()
            && (token.starts_with('<') && token.ends_with('>')
                || token.starts_with('[') && token.ends_with(']'));
        let spaced = token.starts_with([' ', '▁']);
        let part = token.trim_start_matches([' ', '▁']);
        let (part, goes_on) = match (spelling, part.strip_suffix("@@")) {
            (Spelling::Joined, Some(part)) => (part, true),
            (Spelling::Joined, None) => (part, false),
            (Spelling::Spaced, _) => (part, true),
        };
        let is_character = part.chars().next().is_some_and(is_character);
        fresh |= spaced || is_sign || is_character || was_character;
        if is_sign || part.is_empty() {
            continue;
        }
        if fresh || drafts.is_empty() {
            drafts.push(Draft {
                first: *seconds,
                ..Draft::default()
            });
        }
        let draft = drafts.last_mut().expect("one was begun");
        match byte {
            Some(byte) => draft.bytes.push(byte),
            None => draft.bytes.extend_from_slice(part.as_bytes()),
        }
        draft.last = *seconds;
        draft.tokens += 1;
        draft.log_prob += if has_log_probs {
            said.log_probs[i]
        } else {
            0.0
        };
        (fresh, was_character) = (!goes_on, is_character);
    }
    // Byte-wise tokens are readable in the whole text alone.
    let whole: Vec<&str> = said.text.split_whitespace().collect();
    let spans = spans(&drafts, heard);
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
        .map(|((text, samples), confidence)| Guess {
            text,
            samples,
            confidence,
        })
        .collect()
}

/// In samples; in order, none of them empty, as far as there is sound.
fn spans(drafts: &[Draft], heard: usize) -> Vec<std::ops::Range<usize>> {
    let rate = SAMPLE_RATE_HZ as f32;
    // What was understood in the silence after the utterance was said in it.
    let latest = (heard as f32 / rate - REACH_SECONDS).max(0.0);
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
        let from = (draft.first.min(latest) - REACH_SECONDS).max(before);
        let to = (draft.last.min(latest) + REACH_SECONDS).min(after);
        let start = ((from * rate).round() as usize).max(end);
        end = ((to * rate).round() as usize).max(start + 1);
        spans.push(start..end);
    }
    spans
}

/// `<0xE4>`: a byte of a character that has no token of its own.
fn byte_of(token: &str) -> Option<u8> {
    u8::from_str_radix(token.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Chinese and Japanese characters.
fn is_character(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}')
}
