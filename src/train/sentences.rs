//! Texts for the fusion head: MELD's utterances and GoEmotions' comments, with embeddings by the
//! frozen sentence encoder.

use std::path::Path;

use anyhow::Context;

use crate::encode::{Graph, Provider, Runtime};
use crate::labels::{LABELS, label_index};
use crate::model::Encoder;
pub use crate::onnx::sentence::DIM;
use crate::onnx::sentence::SentenceFiles;
use crate::preprocess::Tokenizer;
use crate::recognize::text_embedding;
use crate::train::data::{self, Options, Part, Split, Target, goemotions};
use crate::train::embeddings::LabelledEmbeddings;

/// The text of an utterance, with the label of its speaker's expression.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledUtterance {
    /// The words of the utterance.
    pub text: String,
    /// Index of the label in [`LABELS`].
    pub label: usize,
}

/// Reads MELD's utterances of one part of the data from the folder `meld`. Nine in ten dialogues of
/// the training table are training data, and a tenth (by a hash of the dialogue's name) is
/// selection data. The development table is test data.
///
/// # Errors
/// The folder lacks MELD's tables.
pub fn read(meld: &Path, part: Part) -> anyhow::Result<Vec<LabelledUtterance>> {
    let listing = data::list(
        "meld",
        meld,
        &Options {
            text_only: true,
            ..Options::default()
        },
    )?;
    let labels: Vec<usize> = listing
        .labels
        .iter()
        .map(|name| wire_label(name).with_context(|| format!("{name} is not on the wire")))
        .collect::<anyhow::Result<_>>()?;
    let wanted = |split: Split, group: &str| match (split, is_selection_dialogue(group)) {
        (Split::Train, false) => part == Part::Train,
        (Split::Train, true) => part == Part::Select,
        (Split::Val, _) => part == Part::Report,
        (Split::Test, _) => false,
    };
    let words = listing
        .items
        .into_iter()
        .filter(|item| wanted(item.split, &item.group))
        .filter_map(|item| match (item.text, item.target) {
            (Some(text), Some(Target::Class(class))) => Some(LabelledUtterance {
                text,
                label: labels[class],
            }),
            _ => None,
        });
    Ok(words.collect())
}

/// Logarithm of each label's share of MELD's training utterances, in the order of [`LABELS`],
/// shifted so that the mean is zero.
pub fn log_shares(meld: &Path) -> anyhow::Result<Vec<f32>> {
    let mut counts = [0usize; LABELS.len()];
    read(meld, Part::Train)?
        .iter()
        .for_each(|utterance| counts[utterance.label] += 1);
    // The number of utterances is a common divisor, which the subtraction of the mean cancels.
    let logs = counts.map(|count| (count.max(1) as f32).ln());
    let mean = logs.iter().sum::<f32>() / logs.len() as f32;
    Ok(logs.iter().map(|log| log - mean).collect())
}

/// Whether a dialogue of the training table is selection data: one in ten, by a hash of its name.
fn is_selection_dialogue(dialogue: &str) -> bool {
    crc32fast::hash(dialogue.as_bytes()).is_multiple_of(10)
}

/// Index in [`LABELS`] of a label of MELD; `None` for an unknown name.
fn wire_label(name: &str) -> Option<usize> {
    label_index(match name {
        "joy" => "happy",
        "sadness" => "sad",
        "anger" => "angry",
        "fear" => "fearful",
        "disgust" => "disgusted",
        "surprise" => "surprised",
        other => other,
    })
}

/// The frozen sentence encoder, with its graph open, and its tokenizer.
pub struct SentenceEncoder {
    /// The encoder's manifest entry and graph.
    pub encoder: Encoder,
    /// The tokenizer that belongs to the encoder.
    pub tokenizer: Tokenizer,
}

impl SentenceEncoder {
    /// Opens the encoder from `folder`, which holds the weights and the tokenizer as set-up fetches
    /// them.
    ///
    /// # Errors
    /// A file is missing or has another hash than expected.
    pub fn open(folder: &Path) -> anyhow::Result<SentenceEncoder> {
        let SentenceFiles {
            entry,
            text,
            graph,
            tokenizer,
        } = SentenceFiles::from_dir(folder)
            .context("the sentence encoder is fetched by: make setup-import")?;
        let graph = Graph::open(&Runtime::load()?, "text", &graph, Provider::Cpu, 2)?;
        Ok(SentenceEncoder {
            encoder: Encoder { entry, graph },
            tokenizer: Tokenizer::from_bytes(&tokenizer, text.max_tokens)?,
        })
    }

    /// Embeddings of MELD's utterances of one part of the data, one item each. `cut` returns the
    /// part of a text to embed; texts without a token are omitted.
    pub fn embed_utterances(
        &mut self,
        meld: &Path,
        part: Part,
        cut: impl Fn(&str) -> String,
    ) -> anyhow::Result<LabelledEmbeddings> {
        let mut embeddings = LabelledEmbeddings::new(DIM);
        for utterance in read(meld, part)? {
            if let Some(embedding) = self.embed(&cut(&utterance.text))? {
                embeddings.push(utterance.label, embedding);
            }
        }
        println!("head: {} utterances of MELD", embeddings.count());
        Ok(embeddings)
    }

    /// Embeddings of GoEmotions' comments of one part of the data, one item each. Training comments
    /// may have several labels, and at most 2,000 of each label are used. Selection and test
    /// comments have one label.
    pub fn embed_comments(
        &mut self,
        folder: &Path,
        part: Part,
    ) -> anyhow::Result<LabelledEmbeddings> {
        let mut embeddings = LabelledEmbeddings::new(DIM);
        let sentences = goemotions::read(folder, part)?;
        let sentences = match part {
            Part::Train => goemotions::first_of_each(sentences, COMMENTS_OF_A_LABEL),
            Part::Select | Part::Report => goemotions::with_one_label(sentences),
        };
        for sentence in sentences {
            if let Some(embedding) = self.embed(&sentence.text)? {
                embeddings.push_shares(&sentence.shares(), embedding);
            }
        }
        println!("head: {} comments of GoEmotions", embeddings.count());
        Ok(embeddings)
    }

    /// The embedding of a text; `None` if the text has no token.
    fn embed(&mut self, text: &str) -> anyhow::Result<Option<Vec<f32>>> {
        Ok(text_embedding(
            &mut self.encoder,
            Some(&self.tokenizer),
            text,
        )?)
    }
}

/// The text unchanged: the argument `cut` of [`SentenceEncoder::embed_utterances`] that embeds
/// whole texts.
pub fn whole_text(text: &str) -> String {
    text.to_owned()
}

/// Largest number of GoEmotions' training comments of each label. More would not change a label's
/// share of a batch, and the embedding of a comment takes about 5 ms.
const COMMENTS_OF_A_LABEL: usize = 2000;

/// Approximate rate of speech, in letters per second, without spaces.
const PACE: u32 = 15;

/// The words at the end of an utterance that a window of `length_ms` milliseconds holds when the
/// utterance ends. A word is included if at least half of its time is inside the window.
///
/// Such texts are for evaluation. As additional training data they made the head worse, even on
/// such texts (weighted F1 0.513 instead of 0.526 on MELD's development utterances).
pub fn last_words(text: &str, length_ms: u32) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let room = f64::from(PACE * length_ms) / 1000.0;
    let mut letters = 0.0;
    let within = words.iter().rev().take_while(|word| {
        let count = word.chars().count() as f64;
        letters += count;
        letters - count / 2.0 <= room
    });
    words[words.len() - within.count()..].join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn last_words_keeps_the_words_that_fit_into_the_window() {
        assert_eq!(last_words("What?", 2000), "What?");
        // Two seconds hold thirty letters: half of "anything" is within.
        assert_eq!(
            last_words(
                "I did not say anything like that to them at all today",
                2000
            ),
            "anything like that to them at all today"
        );
        assert_eq!(
            last_words(
                "I did not say anything like that to them at all today",
                1000
            ),
            "to them at all today"
        );
        assert_eq!(last_words("", 2000), "");
    }

    #[test]
    fn the_parts_of_meld_have_the_expected_sizes_and_every_label() {
        let Some(meld) = crate::testing::material("annotations/meld") else {
            return;
        };
        let parts =
            [Part::Train, Part::Select, Part::Report].map(|part| read(&meld, part).unwrap());
        assert_eq!(parts[0].len() + parts[1].len(), 9989);
        assert_eq!(parts[2].len(), 1109);
        assert!((800..1200).contains(&parts[1].len()), "{}", parts[1].len());
        for part in &parts {
            assert_eq!(
                part.iter().map(|w| w.label).collect::<BTreeSet<_>>().len(),
                7
            );
        }
        let joyful = parts[2]
            .iter()
            .filter(|w| LABELS[w.label] == "happy")
            .count();
        assert_eq!(joyful, 163);
    }
}
