//! Mutates valid inputs by bytes, numbers, words and lines.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Largest size of a mutated input, in bytes.
const MAX_BYTES: usize = 1 << 18;
/// Largest number of edits of one input.
const MAX_EDITS: usize = 8;

/// Words that often break the assumptions of parsers of text formats.
const HOSTILE_WORDS: [&str; 44] = [
    "",
    " ",
    "\n",
    "0",
    "-0",
    "-1",
    "1",
    "7",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "0.5",
    "-0.5",
    "1e-400",
    "1e999",
    "1e308",
    "nan",
    "-inf",
    "inf",
    "true",
    "false",
    "null",
    "\"",
    "\"\"",
    "'",
    "[",
    "]",
    "[]",
    "{",
    "}",
    "{}",
    "=",
    ":",
    ",",
    ".",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "é",
    "😀",
];

/// Values at the limits of integer types.
const BORDERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Words to insert or to replace others with: those of the seeds, those of the format, and
/// [`HOSTILE_WORDS`].
pub struct Dictionary(Vec<Vec<u8>>);

impl Dictionary {
    /// Builds a dictionary from the words of `seeds` and `own`, further words of the format.
    pub fn new(seeds: &[Vec<u8>], own: &[Vec<u8>]) -> Dictionary {
        let of_seeds = seeds
            .iter()
            .flat_map(|seed| spans(seed).map(|span| seed[span].to_vec()))
            .filter(|word| word.len() <= 64 && !word.trim_ascii().is_empty());
        let mut words: BTreeSet<Vec<u8>> = of_seeds.take(4000).collect();
        words.extend(own.iter().cloned());
        let mut words: Vec<_> = words.into_iter().collect();
        // At least a quarter of the entries are hostile words.
        let hostile = HOSTILE_WORDS.iter().cycle();
        let count = HOSTILE_WORDS.len().max(words.len() / 3);
        words.extend(hostile.take(count).map(|word| (*word).into()));
        Dictionary(words)
    }
}

/// Ranges of the words of `text`: runs of letters, digits and `_.+-`, else single bytes.
fn spans(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(byte);
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().take_while(|byte| of_word(byte)).count().max(1);
        at += length;
        Some(at - length..at)
    })
}

/// One edit of an input. Positions and choices (`u32`) are taken modulo the available number.
#[derive(Clone, Debug)]
enum Edit {
    /// (Position, bit).
    FlipBit(u32, u8),
    /// (Position, value).
    SetByte(u32, u8),
    /// (Position, number, width in bytes, whether it is big-endian).
    SetNumber(u32, u64, usize, bool),
    /// (Position, bytes).
    Insert(u32, Vec<u8>),
    /// (Position, number of bytes).
    Remove(u32, u16),
    /// Repeats a run of bytes: (position, length of the run, number of copies).
    Repeat(u32, u16, u8),
    Truncate(u32),
    /// Inserts a run of bytes of a seed: (position, index of the seed, start in the seed, length).
    Splice(u32, u32, u32, u16),
    /// (Position in the word, index in the dictionary).
    ReplaceWord(u32, u32),
    /// (Position, index in the dictionary).
    InsertWord(u32, u32),
    RemoveLine(u32),
    /// Copies a line: (position in the line, position of the copy).
    CopyLine(u32, u32),
}

/// A mutation: the index of its seed, and the edits in their order.
#[derive(Clone, Debug)]
pub struct Mutation {
    seed: usize,
    edits: Vec<Edit>,
}

/// Generates and applies mutations of the seeds.
pub struct Mutations {
    seeds: Vec<Vec<u8>>,
    words: Dictionary,
    is_text: bool,
}

impl Mutations {
    /// With `is_text`, words and lines are edited more often than bytes.
    ///
    /// # Panics
    /// There is no seed.
    pub fn new(seeds: Vec<Vec<u8>>, words: Dictionary, is_text: bool) -> Mutations {
        assert!(!seeds.is_empty(), "a target needs a seed");
        Mutations {
            seeds,
            words,
            is_text,
        }
    }

    /// Strategy of proptest that generates mutations.
    pub fn strategy(&self) -> impl Strategy<Value = Mutation> + use<> {
        let seed = 0..self.seeds.len();
        let edits = vec(edit(self.is_text), 1..=MAX_EDITS);
        (seed, edits).prop_map(|(seed, edits)| Mutation { seed, edits })
    }

    /// Applies the mutation to its seed; returns the mutated input, at most [`MAX_BYTES`] long.
    pub fn apply(&self, mutation: &Mutation) -> Vec<u8> {
        let mut input = self.seeds[mutation.seed].clone();
        for edit in &mutation.edits {
            self.edit(&mut input, edit);
            input.truncate(MAX_BYTES);
        }
        input
    }

    /// Applies one edit to the input.
    fn edit(&self, input: &mut Vec<u8>, edit: &Edit) {
        let length = input.len();
        let place = |at: u32| at as usize % length.max(1);
        let run = |at: u32, size: u16| place(at)..(place(at) + usize::from(size)).min(length);
        match edit {
            Edit::FlipBit(at, bit) => {
                input
                    .get_mut(place(*at))
                    .into_iter()
                    .for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Edit::SetByte(at, value) => {
                input
                    .get_mut(place(*at))
                    .into_iter()
                    .for_each(|byte| *byte = *value);
            }
            Edit::SetNumber(at, number, width, is_big) => {
                let bytes = if *is_big {
                    number.to_be_bytes()[8 - width..].to_vec()
                } else {
                    number.to_le_bytes()[..*width].to_vec()
                };
                for (place, byte) in (place(*at)..length).zip(bytes) {
                    input[place] = byte;
                }
            }
            Edit::Insert(at, bytes) => insert(input, place(*at), bytes),
            Edit::Remove(at, size) => drop(input.drain(run(*at, *size))),
            Edit::Repeat(at, size, times) => {
                let run = run(*at, *size);
                let times = usize::from(*times).min(MAX_BYTES / run.len().max(1));
                let copies = input[run.clone()].repeat(times);
                insert(input, run.end, &copies);
            }
            Edit::Truncate(at) => input.truncate(place(*at)),
            Edit::Splice(at, seed, from, size) => {
                let other = &self.seeds[*seed as usize % self.seeds.len()];
                let from = *from as usize % other.len().max(1);
                let end = (from + usize::from(*size)).min(other.len());
                insert(input, place(*at), &other[from..end]);
            }
            Edit::ReplaceWord(at, word) => {
                let span = spans(input).find(|span| span.contains(&place(*at)));
                if let Some(span) = span {
                    input.splice(span, self.word(*word).iter().copied());
                }
            }
            Edit::InsertWord(at, word) => insert(input, place(*at), self.word(*word)),
            Edit::RemoveLine(at) => drop(input.drain(line(input, place(*at)))),
            Edit::CopyLine(from, to) => {
                let copied = input[line(input, place(*from))].to_vec();
                let to = line(input, place(*to)).start;
                insert(input, to, &copied);
            }
        }
    }

    /// The dictionary's entry at the index `number` modulo its length.
    fn word(&self, number: u32) -> &[u8] {
        &self.words.0[number as usize % self.words.0.len()]
    }
}

/// Inserts bytes at the position `at`, or at the end if `at` is beyond.
fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

/// Range of the line that contains the position `at`, with its line feed.
fn line(text: &[u8], at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text[..at].iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |feed| feed + 1);
    let end = text[at..].iter().position(|byte| *byte == b'\n');
    start..end.map_or(text.len(), |feed| at + feed + 1)
}

/// Strategy of proptest that generates one edit.
fn edit(is_text: bool) -> impl Strategy<Value = Edit> {
    let (words, numbers) = if is_text { (6, 1) } else { (1, 6) };
    let at = any::<u32>;
    let border = prop_oneof![select(&BORDERS[..]), any::<u64>()];
    let width = select(&[1usize, 2, 4, 8][..]);
    prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(at, bit)| Edit::FlipBit(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::SetByte(at, byte)),
        numbers => (at(), border, width, any::<bool>()).prop_map(|(at, number, width, is_big)| {
            Edit::SetNumber(at, number, width, is_big)
        }),
        1 => (at(), vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), 1..64u16).prop_map(|(at, size)| Edit::Remove(at, size)),
        1 => (at(), 1..32u16, 1..=255u8).prop_map(|(at, size, times)| {
            Edit::Repeat(at, size, times)
        }),
        1 => at().prop_map(Edit::Truncate),
        1 => (at(), at(), at(), 1..256u16).prop_map(|(at, seed, from, size)| {
            Edit::Splice(at, seed, from, size)
        }),
        words => (at(), at()).prop_map(|(at, word)| Edit::ReplaceWord(at, word)),
        words / 2 + 1 => (at(), at()).prop_map(|(at, word)| Edit::InsertWord(at, word)),
        1 => at().prop_map(Edit::RemoveLine),
        words / 2 + 1 => (at(), at()).prop_map(|(from, to)| Edit::CopyLine(from, to)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_text_cover_all_of_it() {
        let text = b"a_b = -1.5e3\n[x]";
        let found: Vec<&[u8]> = spans(text).map(|span| &text[span]).collect();
        let expected: [&[u8]; 9] = [b"a_b", b" ", b"=", b" ", b"-1.5e3", b"\n", b"[", b"x", b"]"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_includes_its_line_feed() {
        assert_eq!(line(b"a\nbc\nd", 3), 2..5);
        assert_eq!(line(b"a\nbc\nd", 5), 5..6);
        assert_eq!(line(b"", 0), 0..0);
    }

    proptest! {
        #[test]
        fn every_edit_can_be_applied_to_every_input_without_panic(
            seed in vec(any::<u8>(), 0..40),
            edits in vec(edit(true), 1..20),
        ) {
            let words = Dictionary::new(std::slice::from_ref(&seed), &[]);
            let mutations = Mutations::new(vec![seed], words, true);
            let input = mutations.apply(&Mutation { seed: 0, edits });
            prop_assert!(input.len() <= MAX_BYTES);
        }
    }
}
