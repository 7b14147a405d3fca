//! Mutations of valid inputs, by bytes, numbers, words and lines.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Largest size of an input, in bytes.
const BYTES_AT_MOST: usize = 1 << 18;
/// Largest number of edits of one input.
const EDITS: usize = 8;

/// Words that break assumptions of text formats.
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

/// Values at the borders of integers.
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

/// Words that replace others: those of the seeds, those of the format, and words that break
/// assumptions of text formats.
pub struct Dictionary(Vec<Vec<u8>>);

impl Dictionary {
    /// A dictionary from the words of `seeds` and the format's `own` words.
    pub fn new(seeds: &[Vec<u8>], own: &[Vec<u8>]) -> Dictionary {
        let of_seeds = seeds
            .iter()
            .flat_map(|seed| spans(seed).map(|span| seed[span].to_vec()))
            .filter(|word| word.len() <= 64 && !word.trim_ascii().is_empty());
        let mut words: BTreeSet<Vec<u8>> = of_seeds.take(4000).collect();
        words.extend(own.iter().cloned());
        let mut words: Vec<_> = words.into_iter().collect();
        // The hostile ones have a quarter of the choices at least.
        let hostile = HOSTILE_WORDS.iter().cycle();
        let count = HOSTILE_WORDS.len().max(words.len() / 3);
        words.extend(hostile.take(count).map(|word| (*word).into()));
        Dictionary(words)
    }
}

/// The words of `text`: runs of letters, digits and signs of numbers; else single bytes.
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

/// One edit of an input. Positions and choices are taken modulo the available number.
#[derive(Clone, Debug)]
enum Edit {
    FlipBit(u32, u8),
    SetByte(u32, u8),
    /// A number of so many bytes; big-endian, else little-endian.
    SetNumber(u32, u64, usize, bool),
    Insert(u32, Vec<u8>),
    Remove(u32, u16),
    /// A run is written again so many times.
    Repeat(u32, u16, u8),
    Truncate(u32),
    /// A run of a seed is inserted.
    Splice(u32, u32, u32, u16),
    ReplaceWord(u32, u32),
    InsertWord(u32, u32),
    RemoveLine(u32),
    /// A line is copied to another place.
    CopyLine(u32, u32),
}

/// A mutated input: the index of its seed, and its edits in order.
#[derive(Clone, Debug)]
pub struct Mutation {
    seed: usize,
    edits: Vec<Edit>,
}

/// The mutations of the seeds.
pub struct Mutations {
    seeds: Vec<Vec<u8>>,
    words: Dictionary,
    is_text: bool,
}

impl Mutations {
    /// `is_text`: words and lines are edited more often than bytes.
    pub fn new(seeds: Vec<Vec<u8>>, words: Dictionary, is_text: bool) -> Mutations {
        assert!(!seeds.is_empty(), "a target needs a seed");
        Mutations {
            seeds,
            words,
            is_text,
        }
    }

    /// A strategy for mutations.
    pub fn strategy(&self) -> impl Strategy<Value = Mutation> + use<> {
        let seed = 0..self.seeds.len();
        let edits = vec(edit(self.is_text), 1..=EDITS);
        (seed, edits).prop_map(|(seed, edits)| Mutation { seed, edits })
    }

    /// The mutated input.
    pub fn apply(&self, mutation: &Mutation) -> Vec<u8> {
        let mut input = self.seeds[mutation.seed].clone();
        for edit in &mutation.edits {
            self.edit(&mut input, edit);
            input.truncate(BYTES_AT_MOST);
        }
        input
    }

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
                let times = usize::from(*times).min(BYTES_AT_MOST / run.len().max(1));
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

    fn word(&self, number: u32) -> &[u8] {
        &self.words.0[number as usize % self.words.0.len()]
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

/// The line that holds the place, with its line feed.
fn line(text: &[u8], at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text[..at].iter().rposition(|byte| *byte == b'\n');
    let start = start.map_or(0, |feed| feed + 1);
    let end = text[at..].iter().position(|byte| *byte == b'\n');
    start..end.map_or(text.len(), |feed| at + feed + 1)
}

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
    fn words_cover_the_text() {
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
        fn every_edit_applies_to_every_input(
            seed in vec(any::<u8>(), 0..40),
            edits in vec(edit(true), 1..20),
        ) {
            let words = Dictionary::new(std::slice::from_ref(&seed), &[]);
            let mutations = Mutations::new(vec![seed], words, true);
            let input = mutations.apply(&Mutation { seed: 0, edits });
            prop_assert!(input.len() <= BYTES_AT_MOST);
        }
    }
}
