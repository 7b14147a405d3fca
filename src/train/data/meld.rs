//! MELD (Poria et al. 2019): utterances of the television series *Friends*, with transcripts.
//!
//! ```text
//! train_sent_emo.csv  dev_sent_emo.csv  test_sent_emo.csv        at the root, or in annotations/
//! train_splits/dia0_utt0.mp4 …  dev_splits_complete/…  output_repeated_splits_test/…
//! ```
//! Files `final_videos_*` are ignored. The numbers of dialogues restart in every split. Therefore
//! ids and groups outside train have the split as a suffix: `dia0_utt0`, `dia0_utt0_dev`,
//! `dia0_utt0_test`. A group is a dialogue.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::catalogue::Catalogue;
use super::table::Table;
use super::{DataError, Item, Listing, Media, Options, Split, Target, tree};

/// The labels in the order of the reference's configuration (`src/train/method.md` a.2).
pub const LABELS: [&str; 7] = [
    "neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger",
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv (at the root or in \
                      annotations/), and train_splits/, dev_splits_complete/ and \
                      output_repeated_splits_test/ with dia<d>_utt<u>.mp4 (the tables suffice \
                      where words alone are asked for)";

/// A split of MELD: its table and its media.
struct Part {
    /// File name of the annotation table.
    table: &'static str,
    split: Split,
    /// Suffix of the ids and groups.
    suffix: &'static str,
    /// Folders that may have the recordings; the first existing one is used.
    media: &'static [&'static str],
    /// Dialogue and utterance of the recording that cannot be decoded in the published archives.
    broken: (u32, u32),
}

/// The splits. `broken` is out of range for test, whose recordings can all be decoded.
const PARTS: [Part; 3] = [
    Part {
        table: "train_sent_emo.csv",
        split: Split::Train,
        suffix: "",
        media: &["train_splits", "train/train_splits", "train"],
        broken: (125, 3),
    },
    Part {
        table: "dev_sent_emo.csv",
        split: Split::Val,
        suffix: "_dev",
        media: &["dev_splits_complete", "dev/dev_splits_complete", "dev"],
        broken: (110, 7),
    },
    Part {
        table: "test_sent_emo.csv",
        split: Split::Test,
        suffix: "_test",
        media: &[
            "output_repeated_splits_test",
            "test/output_repeated_splits_test",
            "test",
        ],
        broken: (u32::MAX, u32::MAX),
    },
];

/// Lists the utterances of MELD in the folder `root`.
///
/// # Errors
/// A table is malformed, or there is no item. A missing table is a fault.
pub fn list(root: &Path, options: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    // The published archive has the top-level folder MELD.Raw.
    let roots = [root.to_path_buf(), root.join("MELD.Raw")];
    for part in &PARTS {
        let tables: Vec<PathBuf> = [
            "annotations",
            "",
            "data/MELD",
            part.media[part.media.len() - 1],
        ]
        .iter()
        .flat_map(|below| roots.iter().map(move |r| r.join(below).join(part.table)))
        .filter(|p| p.is_file())
        .collect();
        let Some(table) = tables.first() else {
            catalogue.fault(part.table, "is not there: its split has no items");
            continue;
        };
        let media = roots
            .iter()
            .find_map(|r| tree::folder(r, part.media))
            .unwrap_or_else(|| root.join(part.media[0]));
        list_part(part, table, &media, options, &mut catalogue)?;
    }
    catalogue.finish("meld", &LABELS, root, LAYOUT)
}

/// Adds the utterances of the table `path`; `media` is the folder of their recordings.
fn list_part(
    part: &Part,
    path: &Path,
    media: &Path,
    options: &Options,
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    let mut table = Table::open(path)?;
    let (utterance, emotion) = (table.column("Utterance")?, table.column("Emotion")?);
    let (dialogue, number) = (table.column("Dialogue_ID")?, table.column("Utterance_ID")?);
    let files = by_lower_name(media);
    while let Some(row) = table.next(catalogue)? {
        let at = table.at(row.line);
        let (Ok(d), Ok(u)) = (
            row.get(dialogue).parse::<u32>(),
            row.get(number).parse::<u32>(),
        ) else {
            catalogue.fault(
                at,
                format!(
                    "Dialogue_ID {:?} and Utterance_ID {:?} are not numbers: left out",
                    row.get(dialogue),
                    row.get(number)
                ),
            );
            continue;
        };
        let Some(label) = LABELS
            .iter()
            .position(|l| l.eq_ignore_ascii_case(row.get(emotion)))
        else {
            catalogue.fault(
                at,
                format!(
                    "the emotion {:?} is none of {}: left out",
                    row.get(emotion),
                    LABELS.join(", ")
                ),
            );
            continue;
        };
        let name = format!("dia{d}_utt{u}");
        let id = format!("{name}{}", part.suffix);
        let file = media.join(format!("{name}.mp4"));
        let file = if tree::is_nonempty_file(&file) {
            file
        } else {
            files.get(&format!("{name}.mp4")).cloned().unwrap_or(file)
        };
        let broken = (d, u) == part.broken;
        let media = if tree::is_nonempty_file(&file) && !broken {
            Media::Recording(file)
        } else if options.text_only {
            Media::None
        } else {
            let what = if broken {
                "its recording is broken in the published archive: left out"
            } else {
                "its recording is missing or empty: left out"
            };
            catalogue.fault(id, format!("{what} ({})", file.display()));
            continue;
        };
        let item = Item {
            id,
            split: part.split,
            group: format!("dia{d}{}", part.suffix),
            media,
            interval: None,
            text: Some(words(row.get(utterance))),
            target: Some(Target::Class(label)),
        };
        catalogue.add(item, at);
    }
    Ok(())
}

/// The files of a folder by their names in lower case: some copies of MELD have `.MP4`.
fn by_lower_name(folder: &Path) -> HashMap<String, PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .map(|file| {
            (
                file.file_name().to_string_lossy().to_lowercase(),
                file.path(),
            )
        })
        .collect()
}

/// The transcript with ASCII apostrophes, quotes and ellipses. The published tables have several
/// kinds, among them bytes of Windows-1252 decoded as code points (U+0092).
fn words(utterance: &str) -> String {
    utterance
        .replace(['\u{91}', '\u{92}', '‘', '’'], "'")
        .replace(['\u{93}', '\u{94}'], "\"")
        .replace('\u{85}', "...")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    const HEADER: &str = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,\
                          Season,Episode,StartTime,EndTime";

    /// An annotation table; a row has text, emotion, dialogue and utterance.
    fn table(rows: &[(&str, &str, &str, &str)]) -> String {
        let line = |(text, emotion, d, u): &(&str, &str, &str, &str)| {
            format!(
                "1,\"{text}\",Joey,{emotion},neutral,{d},{u},1,1,\"00:00:00,1\",\"00:00:01,2\"\r\n"
            )
        };
        format!(
            "\u{feff}{HEADER}\r\n{}",
            rows.iter().map(line).collect::<String>()
        )
    }

    #[test]
    fn utterances_are_joined_with_recordings_and_broken_recordings_are_faults() {
        let tree = Tree::new(&[
            "train_splits/dia0_utt0.mp4",
            "train_splits/dia125_utt3.mp4",
            "train_splits/dia110_utt7.mp4",
            "dev_splits_complete/dia0_utt0.mp4",
            "dev_splits_complete/dia110_utt7.mp4",
            "output_repeated_splits_test/dia0_utt0.mp4",
            "output_repeated_splits_test/final_videos_testdia0_utt1.mp4",
        ]);
        let train = table(&[
            ("Oh my God, he\u{92}s lost it.", "sadness", "0", "0"),
            ("Hey", "joy", "0", "1"),
            ("x", "anger", "125", "3"),
            ("y", "anger", "110", "7"),
            ("z", "bliss", "1", "0"),
            ("z", "joy", "one", "0"),
            ("Again", "joy", "0", "0"),
        ]);
        tree.write("train_sent_emo.csv", &train);
        tree.write(
            "annotations/dev_sent_emo.csv",
            &table(&[("He’s", "joy", "0", "0"), ("x", "joy", "110", "7")]),
        );
        tree.write(
            "test_sent_emo.csv",
            &table(&[("T", "disgust", "0", "0"), ("T", "disgust", "0", "1")]),
        );
        let listing = tree.list("meld").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "dia0_utt0",
                "dia0_utt0_dev",
                "dia0_utt0_test",
                "dia110_utt7"
            ]
        );
        let first = item(&listing, "dia0_utt0");
        assert_eq!(first.text.as_deref(), Some("Oh my God, he's lost it."));
        assert_eq!(
            (first.group.as_str(), first.split, &first.target),
            ("dia0", Split::Train, &Some(Target::Class(3)))
        );
        let dev = item(&listing, "dia0_utt0_dev");
        assert_eq!(
            (dev.group.as_str(), dev.split, dev.text.as_deref()),
            ("dia0_dev", Split::Val, Some("He's"))
        );
        assert_eq!(faults(&listing, "dia125_utt3", "broken"), 1);
        assert_eq!(faults(&listing, "dia110_utt7_dev", "broken"), 1);
        assert_eq!(faults(&listing, "dia0_utt1", "missing"), 2);
        assert_eq!(
            faults(
                &listing,
                "train_sent_emo.csv line 6",
                "\"bliss\" is none of neutral"
            ),
            1
        );
        assert_eq!(
            faults(&listing, "train_sent_emo.csv line 7", "not numbers"),
            1
        );
        assert_eq!(
            faults(
                &listing,
                "train_sent_emo.csv line 8",
                "id dia0_utt0 is taken by"
            ),
            1
        );
        assert_eq!(listing.faults.len(), 7);
    }

    #[test]
    fn a_recording_with_an_extension_in_upper_case_is_found() {
        let tree = Tree::new(&["train_splits/dia0_utt7.MP4"]);
        tree.write("train_sent_emo.csv", &table(&[("Hey", "joy", "0", "7")]));
        let listing = tree.list("meld").unwrap();
        assert_eq!(
            item(&listing, "dia0_utt7").media,
            Media::Recording(tree.path().join("train_splits/dia0_utt7.MP4"))
        );
        assert_eq!(faults(&listing, "dia0_utt7", ""), 0);
    }

    #[test]
    fn the_published_tables_are_listed_without_media_with_text_only() {
        let tree = Tree::new(&[]);
        if !tree.copy("annotations/meld/train_sent_emo.csv", "train_sent_emo.csv")
            || !tree.copy("annotations/meld/dev_sent_emo.csv", "dev_sent_emo.csv")
        {
            return;
        }
        let text_only = Options {
            text_only: true,
            ..Options::default()
        };
        let listing = super::super::list("meld", tree.path(), &text_only).unwrap();
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!(
            (count(Split::Train), count(Split::Val), count(Split::Test)),
            (9989, 1109, 0)
        );
        // The counts of the publication's table for train.
        let classes = |label| {
            listing
                .items
                .iter()
                .filter(|i| i.split == Split::Train && i.target == Some(Target::Class(label)))
                .count()
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(classes),
            [4710, 1205, 268, 683, 1743, 271, 1109]
        );
        assert!(
            listing
                .items
                .iter()
                .all(|i| i.media == Media::None
                    && !i.text.as_ref().unwrap().contains(['’', '\u{92}']))
        );
        assert_eq!(
            item(&listing, "dia0_utt1_dev").text.as_deref(),
            Some("What?")
        );
        assert_eq!(listing.faults.len(), 1, "{:?}", listing.faults);
        // Without media, and without the option for text alone, no item is listed.
        let Err(DataError::Empty { faults, .. }) = tree.list("meld") else {
            panic!()
        };
        assert_eq!(faults.len(), 9989 + 1109 + 1);
    }

    #[test]
    fn a_table_without_the_column_emotion_is_an_error() {
        let tree = Tree::new(&[]);
        tree.write(
            "train_sent_emo.csv",
            "Sr No.,Utterance,Dialogue_ID,Utterance_ID\n1,Hey,0,0\n",
        );
        let error = tree.list("meld").unwrap_err().to_string();
        assert!(
            error.contains("no column \"Emotion\": found Sr No., Utterance, Dialogue_ID"),
            "{error}"
        );
    }
}
