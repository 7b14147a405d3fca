//! The loader of nEMO (Christop 2024): acted Polish speech.
//!
//! ```text
//! samples/WR0_surprised_64.wav (or .flac)    speaker, emotion, sentence; any folder
//! data.tsv                                   optional: the transcripts
//! ```
//! The publication defines no splits. Here they are by speaker, each of val and test with a woman
//! and a man: MK0 and SM0 are val; IC0 and KS0 (the report speakers of every recipe) test; all
//! others train.

use std::collections::HashMap;
use std::path::Path;

use super::catalogue::Catalogue;
use super::nemo::{REPORT_SPEAKERS, emotion_of};
use super::table::Table;
use super::tree::{self, AUDIO, walk};
use super::{DataError, Item, Listing, Media, Options, Split, Target};
use crate::labels::{LABELS, label_index};

/// The speakers of val: a woman and a man.
const VAL_SPEAKERS: [&str; 2] = ["MK0", "SM0"];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str =
    "samples/<speaker>_<emotion>_<sentence>.wav (or .flac), as in samples/WR0_surprised_64.wav";

/// Lists the recordings of nEMO in the folder `root`.
///
/// # Errors
/// The folder or `data.tsv` cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let texts = match tree::file(root, &["data.tsv"]) {
        Some(path) => read_texts(&path, &mut catalogue)?,
        None => HashMap::new(),
    };
    for file in walk(root, &AUDIO, &mut catalogue)? {
        let at = file.path.display().to_string();
        let Some((speaker, label)) = parse(file.stem()) else {
            catalogue.fault(
                at,
                "is not named as nEMO names its files (WR0_surprised_64.wav): left out",
            );
            continue;
        };
        let item = Item {
            id: file.stem().to_string(),
            split: split_of(speaker),
            group: speaker.to_string(),
            media: Media::Recording(file.path.clone()),
            interval: None,
            text: texts.get(file.stem()).cloned(),
            target: Some(Target::Class(label)),
        };
        catalogue.add(item, at);
    }
    catalogue.finish("nemo", &LABELS, root, LAYOUT)
}

/// The split of a speaker.
fn split_of(speaker: &str) -> Split {
    if REPORT_SPEAKERS.contains(&speaker) {
        Split::Test
    } else if VAL_SPEAKERS.contains(&speaker) {
        Split::Val
    } else {
        Split::Train
    }
}

/// Reads the transcripts of `data.tsv`, by the recordings' names without extension.
fn read_texts(
    path: &Path,
    catalogue: &mut Catalogue,
) -> Result<HashMap<String, String>, DataError> {
    let mut table = Table::open(path)?;
    let (file, text) = (table.column("file_id")?, table.column("raw_text")?);
    let mut texts = HashMap::new();
    while let Some(row) = table.next(catalogue)? {
        let name = row.get(file);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        texts.insert(stem.to_string(), row.get(text).to_string());
    }
    Ok(texts)
}

/// The speaker's code (two letters and a digit) and the emotion's index in [`LABELS`], from a file
/// name without extension. `None` if the name has another form.
pub(super) fn parse(stem: &str) -> Option<(&str, usize)> {
    let [speaker, emotion, sentence] = stem.split('_').collect::<Vec<_>>()[..] else {
        return None;
    };
    let is_speaker = matches!(speaker.as_bytes(), [a, b, digit]
        if a.is_ascii_uppercase() && b.is_ascii_uppercase() && digit.is_ascii_digit());
    let is_sentence = sentence.parse::<u32>().is_ok();
    let label = label_index(emotion_of(emotion)?)?;
    (is_speaker && is_sentence).then_some((speaker, label))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn names_give_speaker_emotion_and_split_and_the_table_the_transcript() {
        let tree = Tree::new(&[
            "samples/WR0_surprised_64.wav",
            "samples/MK0_anger_8.wav",
            "samples/IC0_fear_1.flac",
            "samples/ZZ0_neutral_3.wav",
            "samples/WR0_calm_64.wav",
            "samples/WR0_anger.wav",
            "samples/wr0_anger_1.wav",
        ]);
        tree.write(
            "data.tsv",
            "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n\
             WR0_surprised_64.wav\tsurprised\tUcho wykrywa dźwięki.\tucho\tWR0\tmale\t23\n",
        );
        let listing = tree.list("nemo").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "IC0_fear_1",
                "MK0_anger_8",
                "WR0_surprised_64",
                "ZZ0_neutral_3"
            ]
        );
        let first = item(&listing, "WR0_surprised_64");
        assert_eq!(
            (first.group.as_str(), first.text.as_deref(), &first.target),
            (
                "WR0",
                Some("Ucho wykrywa dźwięki."),
                &Some(Target::Class(6))
            )
        );
        assert_eq!(
            [0, 1, 2, 3].map(|i| listing.items[i].split),
            [Split::Test, Split::Val, Split::Train, Split::Train]
        );
        assert_eq!(item(&listing, "IC0_fear_1").text, None);
        assert_eq!(faults(&listing, "", "is not named"), 3);
        assert_eq!(listing.faults.len(), 3);
    }

    #[test]
    fn the_published_folder_is_listed_without_faults() {
        let Some(folder) = crate::testing::material("speech/nemo") else {
            return;
        };
        let listing = super::super::list("nemo", &folder, &Options::default()).unwrap();
        assert_eq!((listing.items.len(), &listing.faults), (840, &vec![]));
        assert!(listing.items.iter().all(|i| i.text.is_some()));
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!(count(Split::Test), 2 * 132);
        assert!(count(Split::Val) > 0 && count(Split::Train) > count(Split::Val));
    }
}
