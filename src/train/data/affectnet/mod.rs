//! AffectNet (Mollahosseini et al. 2017) in the form with eight classes: faces from the internet,
//! cut out.
//!
//! ```text
//! train_set/images/<number>.jpg     train_set/annotations/<number>_exp.npy
//! val_set/images/<number>.jpg       val_set/annotations/<number>_exp.npy
//! ```
//! An annotation is a NumPy file with one number: 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear,
//! 5 disgust, 6 anger, 7 contempt. The event protocol has no contempt: these items have no label.
//! The publication's test set is not handed out, so `val_set` is test, as is usual; a fixed tenth
//! of `train_set`, chosen by a hash of the number, is val. The persons are unknown, so all groups
//! are empty, and a person may be in several splits.

use std::path::Path;

use super::catalogue::Catalogue;
use super::tree::{self, PICTURE, walk};
use super::wire_labels::WireLabels;
use super::{DataError, Item, Listing, Media, Options, Picture, Split};
use crate::labels::LABELS;

#[cfg(test)]
mod fuzz;
mod npy;

/// The names of the labels 0 to 7.
const NAMES: [&str; 8] = [
    "neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt",
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "{train_set,val_set}/images/<number>.jpg and \
                      {train_set,val_set}/annotations/<number>_exp.npy";

/// Lists the faces of AffectNet in the folder `root`. A missing set is a fault.
///
/// # Errors
/// A folder of pictures cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let mut labels = WireLabels::default();
    // Ids of val_set have a suffix, because only the publisher knows whether numbers repeat.
    for (set, suffix) in [("train_set", ""), ("val_set", "_val")] {
        let Some(images) = tree::folder(root, &[&format!("{set}/images")]) else {
            catalogue.fault(format!("{set}/images"), "is not there: it has no items");
            continue;
        };
        for file in walk(&images, &PICTURE, &mut catalogue)? {
            let stem = file.stem();
            let at = file.path.display().to_string();
            let annotation = root.join(format!("{set}/annotations/{stem}_exp.npy"));
            let name = match read_label(&annotation) {
                Ok(name) => name,
                Err(what) => {
                    catalogue.fault(at, format!("{}: {what}: left out", annotation.display()));
                    continue;
                }
            };
            let split = if set == "val_set" {
                Split::Test
            } else if crc32fast::hash(stem.as_bytes()).is_multiple_of(10) {
                Split::Val
            } else {
                Split::Train
            };
            let item = Item {
                id: format!("{stem}{suffix}"),
                split,
                group: String::new(),
                media: Media::Picture(Picture::File(file.path.clone())),
                interval: None,
                text: None,
                target: labels.target(name),
            };
            catalogue.add(item, at);
        }
    }
    labels.report(root, &mut catalogue);
    catalogue.finish("affectnet", &LABELS, root, LAYOUT)
}

/// The name of the label in the annotation file `path`. The error is a fault's text.
fn read_label(path: &Path) -> Result<&'static str, String> {
    let value = npy::read(path)?;
    let name = NAMES
        .iter()
        .enumerate()
        .find(|(number, _)| *number as f64 == value);
    name.map(|(_, name)| *name)
        .ok_or_else(|| format!("the label {value} is not one of 0 to 7"))
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::super::testing::{Tree, faults, ids, item};
    use super::npy::testing::file;
    use super::*;

    #[test]
    fn pictures_are_joined_with_their_annotations() {
        let tree = Tree::new(&[
            "train_set/images/0.jpg",
            "train_set/images/1.jpg",
            "train_set/images/2.jpg",
            "train_set/images/3.jpg",
            "train_set/images/4.jpg",
            "val_set/images/0.jpg",
        ]);
        let annotate = |set: &str, number: u32, bytes: Vec<u8>| {
            let folder = tree.path().join(set).join("annotations");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{number}_exp.npy")), bytes).unwrap();
        };
        annotate("train_set", 0, file("<U1", "()", b"1\0\0\0"));
        annotate("train_set", 1, file("<i8", "()", &7i64.to_le_bytes()));
        annotate("train_set", 2, file("<f8", "()", &9f64.to_le_bytes()));
        annotate("train_set", 3, b"text".to_vec());
        annotate("val_set", 0, file("<U1", "()", b"6\0\0\0"));
        let listing = tree.list("affectnet").unwrap();
        assert_eq!(ids(&listing), ["0", "0_val", "1"]);
        assert_eq!(item(&listing, "0").target, Some(Target::Class(1)));
        assert_eq!(item(&listing, "1").target, None);
        let test = item(&listing, "0_val");
        assert_eq!(
            (test.split, &test.target),
            (Split::Test, &Some(Target::Class(3)))
        );
        assert_ne!(item(&listing, "0").split, Split::Test);
        assert_eq!(
            faults(&listing, "2.jpg", "the label 9 is not one of 0 to 7"),
            1
        );
        assert_eq!(faults(&listing, "3.jpg", "3_exp.npy: is no NumPy file"), 1);
        assert_eq!(faults(&listing, "4.jpg", "4_exp.npy: cannot be read"), 1);
        assert_eq!(
            faults(&listing, "", "1 items have the label \"contempt\""),
            1
        );
        assert_eq!(listing.faults.len(), 4);
    }

    #[test]
    fn a_tenth_of_the_training_set_is_val() {
        let tree = Tree::new(&[]);
        for folder in ["images", "annotations"] {
            std::fs::create_dir_all(tree.path().join("train_set").join(folder)).unwrap();
        }
        let bytes = file("<U1", "()", b"0\0\0\0");
        for number in 0..300 {
            tree.write(&format!("train_set/images/{number}.jpg"), "x");
            let path = format!("train_set/annotations/{number}_exp.npy");
            std::fs::write(tree.path().join(path), &bytes).unwrap();
        }
        let listing = tree.list("affectnet").unwrap();
        let val = listing.items.iter().filter(|i| i.split == Split::Val);
        assert!((15..=45).contains(&val.count()));
        assert_eq!(faults(&listing, "val_set/images", "is not there"), 1);
        assert_eq!(listing.faults.len(), 1);
    }
}
