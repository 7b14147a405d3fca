//! CAER (Lee et al. 2019): clips of television series, as
//! `{train,validation,test}/<Class>/<clip>.avi`.
//!
//! The numbers of the clips restart in every split. Therefore ids outside `train` have the split as
//! a suffix: `Anger_0001`, `Anger_0001_validation`, `Anger_0001_test`. The actors are unknown, so
//! all groups are empty.

use std::path::Path;

use super::catalogue::Catalogue;
use super::tree::{VIDEO, walk};
use super::{DataError, Item, Listing, Media, Options, Split, Target};

/// CAER's classes, in the order of the target numbers in the reference's code
/// (`CAER_EXPRESSION_LABELS`). Its configuration has another order (`src/train/method.md` a.2).
pub const LABELS: [&str; 7] = [
    "anger", "disgust", "fear", "happy", "neutral", "sad", "surprise",
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "{train,validation,test}/<Class>/<clip>.avi with the classes Anger, Disgust, \
                      Fear, Happy, Neutral, Sad and Surprise";

/// Lists the clips of CAER in the folder `root`.
///
/// # Errors
/// The folder cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    for file in walk(root, &VIDEO, &mut catalogue)? {
        let at = file.path.display().to_string();
        let (Some(class), Some(split)) = (file.folder(1), file.folder(2)) else {
            catalogue.fault(at, "is not <split>/<Class>/<clip>: left out");
            continue;
        };
        let (split, suffix) = match split.to_lowercase().as_str() {
            "train" => (Split::Train, ""),
            "validation" | "val" => (Split::Val, "_validation"),
            "test" => (Split::Test, "_test"),
            _ => {
                catalogue.fault(
                    at,
                    format!("the split {split:?} is none of train, validation and test: left out"),
                );
                continue;
            }
        };
        let Some(label) = label_of(class) else {
            catalogue.fault(
                at,
                format!(
                    "the class {class:?} is none of {}: left out",
                    LABELS.join(", ")
                ),
            );
            continue;
        };
        let mut class = LABELS[label].to_string();
        class[..1].make_ascii_uppercase();
        let item = Item {
            id: format!("{class}_{}{suffix}", file.stem()),
            split,
            group: String::new(),
            media: Media::Recording(file.path.clone()),
            interval: None,
            text: None,
            target: Some(Target::Class(label)),
        };
        catalogue.add(item, at);
    }
    catalogue.finish("caer", &LABELS, root, LAYOUT)
}

/// Index in [`LABELS`] of the class that a folder's name states, in any case; `None` if the class
/// is unknown.
fn label_of(class: &str) -> Option<usize> {
    let class = class.to_lowercase();
    // Some copies have `Angry` instead of `Anger`; the reference accepts both.
    let class = if class == "angry" { "anger" } else { &class };
    LABELS.iter().position(|l| *l == class)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn folders_give_split_class_and_id() {
        let tree = Tree::new(&[
            "train/Anger/0001.avi",
            "train/Sad/0001.avi",
            "validation/Angry/0001.avi",
            "test/Surprise/0001.avi",
            "test/Anger/0001.avi",
            "train/Boredom/0001.avi",
            "extra/Anger/0001.avi",
            "0001.avi",
            "train/Anger/readme.txt",
        ]);
        tree.write("train/Fear/0009.avi", "");
        let listing = tree.list("caer").unwrap();
        assert_eq!(
            ids(&listing),
            [
                "Anger_0001",
                "Anger_0001_test",
                "Anger_0001_validation",
                "Sad_0001",
                "Surprise_0001_test"
            ]
        );
        assert_eq!(item(&listing, "Anger_0001_validation").split, Split::Val);
        assert_eq!(
            item(&listing, "Surprise_0001_test").target,
            Some(Target::Class(6))
        );
        assert_eq!(
            item(&listing, "Sad_0001").media,
            Media::Recording(tree.path().join("train/Sad/0001.avi"))
        );
        assert_eq!(listing.labels[5], "sad");
        assert_eq!(listing.faults.len(), 4);
        assert_eq!(faults(&listing, "Boredom", "\"Boredom\" is none of"), 1);
        assert_eq!(faults(&listing, "extra", "is none of train"), 1);
        assert_eq!(faults(&listing, "0009.avi", "empty"), 1);
    }

    #[test]
    fn clips_below_another_folder_are_found_and_duplicate_ids_are_faults() {
        let tree = Tree::new(&["CAER/train/Happy/0001.avi", "CAER/train/Happy/0001.mp4"]);
        let listing = tree.list("caer").unwrap();
        assert_eq!(ids(&listing), ["Happy_0001"]);
        assert_eq!(faults(&listing, "0001.mp4", "id Happy_0001 is taken"), 1);
    }
}
