//! The loader of GoEmotions (Demszky et al. 2020): English comments with the emotions that their
//! annotators chose. The items have a text and no media.
//!
//! ```text
//! train.tsv  dev.tsv  test.tsv        the comment, label numbers ("3,10"), the comment's id
//! emotions.txt or labels.txt          the labels' names by number, one a line, from 0
//! ```
//! All at the root or in `data/`. `emotions.txt` is the publication's list of 27 emotions and
//! neutral, `labels.txt` the form in Ekman's six classes and neutral. The 27 are joined to Ekman's
//! classes as in the publication's `ekman_mapping.json`. The splits are the publication's: train,
//! dev (val) and test. Its tables do not name the authors, so all groups are empty. A comment may
//! have several labels: the target has a 1 for each.

use std::path::Path;

use super::catalogue::Catalogue;
use super::{DataError, Item, Listing, Media, Options, Split, Target, tree};
use crate::labels::{LABELS, label_index};

/// Ekman's classes, and the publication's emotions that belong to each.
const EKMAN: [(&str, &[&str]); 6] = [
    ("anger", &["annoyance", "disapproval"]),
    ("disgust", &[]),
    ("fear", &["nervousness"]),
    (
        "joy",
        &[
            "amusement",
            "approval",
            "excitement",
            "gratitude",
            "love",
            "optimism",
            "relief",
            "pride",
            "admiration",
            "desire",
            "caring",
        ],
    ),
    (
        "sadness",
        &["disappointment", "embarrassment", "grief", "remorse"],
    ),
    ("surprise", &["realization", "confusion", "curiosity"]),
];

/// The tables and their splits.
const TABLES: [(&str, Split); 3] = [
    ("train.tsv", Split::Train),
    ("dev.tsv", Split::Val),
    ("test.tsv", Split::Test),
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "train.tsv, dev.tsv and test.tsv, and emotions.txt or labels.txt, at the root \
                      or in data/";

/// Lists the comments of GoEmotions in the folder `root`. A missing table is a fault.
///
/// # Errors
/// A file cannot be read, the list of labels has another name than GoEmotions', or there is no
/// item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let names = [
        "emotions.txt",
        "labels.txt",
        "data/emotions.txt",
        "data/labels.txt",
    ];
    if let Some(path) = tree::file(root, &names) {
        let labels = read_labels(&path)?;
        let folder = path.parent().unwrap_or(root);
        for (table, split) in TABLES {
            let path = folder.join(table);
            if path.is_file() {
                read_table(&path, split, &labels, &mut catalogue)?;
            } else {
                catalogue.fault(
                    path.display().to_string(),
                    "is not there: its split has no items",
                );
            }
        }
    }
    catalogue.finish("goemotions", &LABELS, root, LAYOUT)
}

/// The text of a file of GoEmotions, which are UTF-8.
fn read_text(path: &Path) -> Result<String, DataError> {
    std::fs::read_to_string(path).map_err(|source| DataError::Unreadable {
        path: path.to_path_buf(),
        source,
    })
}

/// Reads the list of labels: for each number, the index in [`LABELS`].
pub(super) fn read_labels(path: &Path) -> Result<Vec<usize>, DataError> {
    let text = read_text(path)?;
    let index = |name: &str| {
        let is_ekman =
            |(class, members): &&(&str, &[&str])| *class == name || members.contains(&name);
        let class = EKMAN.iter().find(is_ekman).map(|(class, _)| *class);
        label_index(class.or((name == "neutral").then_some(name))?)
    };
    text.lines()
        .map(|line| line.trim())
        .filter(|name| !name.is_empty())
        .map(|name| {
            index(name).ok_or_else(|| DataError::Malformed {
                path: path.to_path_buf(),
                what: format!(
                    "{name:?} is no emotion of GoEmotions: use the published emotions.txt, or \
                     labels.txt of its form in Ekman's classes"
                ),
            })
        })
        .collect()
}

/// Adds the comments of the table `path`. `labels`: for each label number, the index in
/// [`LABELS`].
pub(super) fn read_table(
    path: &Path,
    split: Split,
    labels: &[usize],
    catalogue: &mut Catalogue,
) -> Result<(), DataError> {
    for (number, line) in read_text(path)?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let at = format!("{} line {}", path.display(), number + 1);
        // A comment is not quoted and has no tab.
        let [text, numbers, id] = line.split('\t').collect::<Vec<_>>()[..] else {
            catalogue.fault(at, "is not a comment, label numbers and an id: left out");
            continue;
        };
        let held: Option<Vec<usize>> = numbers
            .split(',')
            .map(|number| labels.get(number.trim().parse::<usize>().ok()?).copied())
            .collect();
        let (Some(held), false) = (held, id.trim().is_empty()) else {
            catalogue.fault(
                at,
                format!(
                    "{numbers:?} are not label numbers of 0 to {}, or the id is empty: left out",
                    labels.len().saturating_sub(1)
                ),
            );
            continue;
        };
        let mut values = vec![0.0; LABELS.len()];
        held.into_iter().for_each(|label| values[label] = 1.0);
        let item = Item {
            id: id.trim().to_string(),
            split,
            group: String::new(),
            media: Media::None,
            interval: None,
            text: Some(text.to_string()),
            target: Some(Target::Values(values)),
        };
        catalogue.add(item, at);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    /// The publication's list of labels.
    const EMOTIONS: &str = "admiration\namusement\nanger\nannoyance\napproval\ncaring\nconfusion\n\
        curiosity\ndesire\ndisappointment\ndisapproval\ndisgust\nembarrassment\nexcitement\nfear\n\
        gratitude\ngrief\njoy\nlove\nnervousness\noptimism\npride\nrealization\nrelief\nremorse\n\
        sadness\nsurprise\nneutral";

    #[test]
    fn the_27_emotions_are_joined_to_ekmans_classes() {
        let tree = Tree::new(&[]);
        tree.write("data/emotions.txt", EMOTIONS);
        tree.write(
            "data/train.tsv",
            "My \"favourite\" food.\t27\teebbqej\nOh no\t3,24\ted00q6i\nOne\t28\tid1\n\
             Two 1 id2\nThree\t\tid3\nFour\t1,2\t\nYes\t0,1\ted7ypvh\n",
        );
        tree.write(
            "data/dev.tsv",
            "Is this it??\t7\tedgurhb\nAgain\t27\teebbqej\n",
        );
        let listing = tree.list("goemotions").unwrap();
        assert_eq!(ids(&listing), ["ed00q6i", "ed7ypvh", "edgurhb", "eebbqej"]);
        let held = |id| match &item(&listing, id).target {
            Some(Target::Values(values)) => (0..values.len())
                .filter(|label| values[*label] == 1.0)
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(held("eebbqej"), [0]);
        assert_eq!(held("ed00q6i"), [2, 3]);
        assert_eq!(held("ed7ypvh"), [1]);
        assert_eq!(held("edgurhb"), [6]);
        let first = item(&listing, "eebbqej");
        assert_eq!(
            (first.text.as_deref(), &first.media, first.split),
            (Some("My \"favourite\" food."), &Media::None, Split::Train)
        );
        assert_eq!(item(&listing, "edgurhb").split, Split::Val);
        assert_eq!(
            faults(&listing, "train.tsv line 3", "numbers of 0 to 27"),
            1
        );
        assert_eq!(faults(&listing, "train.tsv line 4", "is not a comment"), 1);
        assert_eq!(
            faults(&listing, "train.tsv line 5", "numbers of 0 to 27"),
            1
        );
        assert_eq!(faults(&listing, "train.tsv line 6", "the id is empty"), 1);
        assert_eq!(faults(&listing, "dev.tsv line 2", "id eebbqej is taken"), 1);
        assert_eq!(faults(&listing, "test.tsv", "is not there"), 1);
        assert_eq!(listing.faults.len(), 6);
    }

    #[test]
    fn a_list_of_other_labels_is_an_error_with_a_remedy() {
        let tree = Tree::new(&[]);
        tree.write("labels.txt", "positive\nnegative\nneutral\n");
        tree.write("train.tsv", "Well.\t0\tid\n");
        let error = tree.list("goemotions").unwrap_err().to_string();
        assert!(
            error.contains("labels.txt: \"positive\" is no emotion of GoEmotions: use"),
            "{error}"
        );
    }

    #[test]
    fn the_form_in_ekmans_classes_has_the_published_sizes() {
        let Some(folder) = crate::testing::material("text/goemotions") else {
            return;
        };
        let listing = super::super::list("goemotions", &folder, &Options::default()).unwrap();
        let count = |split| listing.items.iter().filter(|i| i.split == split).count();
        assert_eq!([Split::Train, Split::Val].map(count), [43_410, 5_426]);
        // The material has no test.tsv.
        assert_eq!(listing.faults.len(), 1);
    }
}
