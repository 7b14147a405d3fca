//! Texts for the fusion head: MELD's utterances and GoEmotions' comments, embedded by the frozen
//! sentence encoder.

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

/// An utterance with the labelled emotion of its speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledUtterance {
    pub text: String,
    /// Index in [`LABELS`].
    pub label: usize,
}

/// Reads MELD's utterances of one part. Of the training table, nine in ten dialogues train, and a
/// tenth (by a hash of the dialogue's name) selects and calibrates; the development table reports.
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
    let wanted = |split: Split, group: &str| match (split, is_kept_back(group)) {
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

/// Log priors of the labels in the training utterances, shifted to zero mean.
pub fn log_shares(meld: &Path) -> anyhow::Result<Vec<f32>> {
    let mut counts = [0usize; LABELS.len()];
    read(meld, Part::Train)?
        .iter()
        .for_each(|utterance| counts[utterance.label] += 1);
    // The common denominator cancels with the mean.
    let logs = counts.map(|count| (count.max(1) as f32).ln());
    let mean = logs.iter().sum::<f32>() / logs.len() as f32;
    Ok(logs.iter().map(|log| log - mean).collect())
}

fn is_kept_back(dialogue: &str) -> bool {
    crc32fast::hash(dialogue.as_bytes()).is_multiple_of(10)
}

/// Index of the wire's label for a label of MELD.
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

/// The sentence encoder and its tokenizer, open.
pub struct SentenceEncoder {
    pub encoder: Encoder,
    pub tokenizer: Tokenizer,
}

impl SentenceEncoder {
    /// Opens the encoder from `folder`, which holds the weights and the tokenizer as set-up fetches
    /// them.
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

    /// Embeddings of MELD's utterances, one item each. `cut` returns the part of a text to embed.
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

    /// Embeddings of GoEmotions' comments, one item each. Training comments may have several
    /// labels, and their number per label is limited. Selection and report comments have one label.
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

    fn embed(&mut self, text: &str) -> anyhow::Result<Option<Vec<f32>>> {
        Ok(text_embedding(
            &mut self.encoder,
            Some(&self.tokenizer),
            text,
        )?)
    }
}

/// The whole text, for [`SentenceEncoder::embed_utterances`].
pub fn whole_text(text: &str) -> String {
    text.to_owned()
}

/// Number of training comments of each label. More would not change a label's share of a batch, and
/// embedding takes about 5 ms each.
const COMMENTS_OF_A_LABEL: usize = 2000;

/// Approximate rate of speech, in letters per second, without spaces.
const PACE: u32 = 15;

/// The words at the end of `text` that a window of `length_ms` holds when the utterance ends: those
/// with at least half of their time inside it.
///
/// Training on such texts in addition made the head worse, on them too (weighted F1 0.513 instead
/// of 0.526 on MELD's development utterances).
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
    fn a_window_holds_the_words_spoken_in_it() {
        assert_eq!(last_words("What?", 2000), "What?");
        // Thirty letters in two seconds: of "anything", half is within.
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
    fn the_parts_of_meld_share_no_utterance_and_know_every_label() {
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
