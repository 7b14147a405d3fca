//! GoEmotions (Demszky et al. 2020) with Ekman's classes: `labels.txt`, and `train.tsv` and
//! `dev.tsv` with the columns sentence, label numbers, and comment id.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::labels::{LABELS, label_index};
use crate::train::data::Part;

/// A comment of GoEmotions and the emotions that its annotators chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    pub text: String,
    /// The emotions as indices in [`LABELS`]; one or several.
    pub labels: Vec<usize>,
}

impl Sentence {
    /// A distribution over [`LABELS`] with equal shares for the labels of the comment.
    pub fn shares(&self) -> [f32; LABELS.len()] {
        let mut shares = [0.0; LABELS.len()];
        for label in &self.labels {
            shares[*label] += 1.0 / self.labels.len() as f32;
        }
        shares
    }
}

/// Reads the comments of one part. A tenth of `train.tsv`, by a hash of the comment's id, is for
/// selection, the rest for training; `dev.tsv` is for the report.
///
/// # Errors
/// A file cannot be read, or a line does not have three columns with labels of `labels.txt`.
pub fn read(folder: &Path, part: Part) -> anyhow::Result<Vec<Sentence>> {
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).with_context(|| {
            format!(
                "GoEmotions is not at {}: {name} cannot be read",
                folder.display()
            )
        })
    };
    let labels = (read("labels.txt")?.lines())
        .map(|name| label_index(name).with_context(|| format!("{name} is not on the wire")))
        .collect::<anyhow::Result<Vec<usize>>>()?;
    let table = if part == Part::Report {
        "dev.tsv"
    } else {
        "train.tsv"
    };
    let mut sentences = Vec::new();
    for (number, line) in read(table)?.lines().enumerate() {
        let at = || format!("{table} line {}", number + 1);
        let columns: Vec<&str> = line.split('\t').collect();
        let [text, numbers, id] = columns[..] else {
            anyhow::bail!("{}: expected a sentence, labels and an id", at());
        };
        let is_held_back = crc32fast::hash(id.as_bytes()).is_multiple_of(10);
        let is_wanted = match part {
            Part::Train => !is_held_back,
            Part::Select => is_held_back,
            Part::Report => true,
        };
        if !is_wanted {
            continue;
        }
        let labels = numbers
            .split(',')
            .map(|number| labels.get(number.parse::<usize>().ok()?).copied())
            .collect::<Option<Vec<usize>>>()
            .with_context(|| format!("{}: {numbers} are not labels", at()))?;
        sentences.push(Sentence {
            text: text.to_owned(),
            labels,
        });
    }
    ensure!(!sentences.is_empty(), "{table} is empty");
    Ok(sentences)
}

/// The comments with exactly one label.
pub fn with_one_label(sentences: Vec<Sentence>) -> Vec<Sentence> {
    let is_one = |sentence: &Sentence| sentence.labels.len() == 1;
    sentences.into_iter().filter(is_one).collect()
}

/// Keeps a comment while one of its labels has fewer than `count` comments so far, counting a
/// comment for each of its labels. A frequent label may exceed `count` with a rare one.
pub fn first_of_each(sentences: Vec<Sentence>, count: usize) -> Vec<Sentence> {
    let mut counts = [0; LABELS.len()];
    let mut is_wanted = |sentence: &Sentence| {
        let is_wanted = sentence.labels.iter().any(|label| counts[*label] < count);
        if is_wanted {
            sentence.labels.iter().for_each(|label| counts[*label] += 1);
        }
        is_wanted
    };
    sentences.into_iter().filter(|s| is_wanted(s)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `labels.txt` and the given `train.tsv`, without `dev.tsv`.
    fn folder(train: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("labels.txt"), "anger\ndisgust\njoy").unwrap();
        std::fs::write(folder.path().join("train.tsv"), train).unwrap();
        folder
    }

    #[test]
    fn labels_of_a_sentence_get_equal_shares() {
        let lines: String = (0..50)
            .map(|i| format!("Well {i}.\t0,2\tid{i}\n"))
            .collect();
        let folder = folder(&lines);
        let [train, select] =
            [Part::Train, Part::Select].map(|part| read(folder.path(), part).unwrap());
        assert!(train.len() > select.len() && train.len() + select.len() == 50);
        let angry_and_happy = [0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0];
        assert!(
            train
                .iter()
                .chain(&select)
                .all(|s| s.shares() == angry_and_happy)
        );
        assert!(read(folder.path(), Part::Report).is_err());
    }

    #[test]
    fn the_first_sentences_of_frequent_labels_and_all_of_rare_ones_are_kept() {
        let sentence = |labels: &[usize]| Sentence {
            text: String::new(),
            labels: labels.to_vec(),
        };
        let all = vec![
            sentence(&[0]),
            sentence(&[0, 1]),
            sentence(&[0]),
            sentence(&[2]),
            sentence(&[0, 2]),
        ];
        assert_eq!(with_one_label(all.clone()).len(), 3);
        let kept = first_of_each(all.clone(), 2);
        assert_eq!(kept, [&all[..2], &all[3..]].concat());
    }

    #[test]
    fn an_unknown_label_is_reported_with_its_line() {
        for (line, expected) in [
            ("Well.\t3\tid", "3 are not labels"),
            ("Well. 0 id", "expected"),
        ] {
            let error = read(folder(line).path(), Part::Train)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("train.tsv line 1") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn the_published_tables_have_the_published_sizes_and_all_labels() {
        let Some(folder) = crate::testing::material("text/goemotions") else {
            return;
        };
        let [train, select, report] =
            [Part::Train, Part::Select, Part::Report].map(|part| read(&folder, part).unwrap());
        assert_eq!(train.len() + select.len(), 43_410);
        assert_eq!(report.len(), 5_426);
        for part in [&train, &select, &report] {
            for label in 0..LABELS.len() {
                assert!(
                    part.iter().any(|s| s.labels == [label]),
                    "{}",
                    LABELS[label]
                );
            }
        }
    }
}
