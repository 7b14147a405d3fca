//! RAF-DB (Li et al. 2017), the basic part: faces from the internet in seven expressions.
//!
//! ```text
//! EmoLabel/list_patition_label.txt           "train_00001.jpg 5", a line a picture
//! Image/aligned/train_00001_aligned.jpg      the faces, cut out and aligned
//! ```
//! The labels are 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger and 7 neutral. The
//! names state the publication's splits: `test_…` is test; a fixed tenth of `train_…`, chosen by a
//! hash of the name, is val. The persons are unknown, so all groups are empty, and a person may be
//! in several splits.

use std::path::Path;

use super::catalogue::Catalogue;
use super::tree::{self, is_nonempty_file};
use super::{DataError, Item, Listing, Media, Options, Picture, Split, Target};
use crate::labels::{LABELS, label_index};

/// The names of the labels 1 to 7.
const NAMES: [&str; 7] = [
    "surprise",
    "fear",
    "disgust",
    "happiness",
    "sadness",
    "anger",
    "neutral",
];

/// The files that the loader expects, for the error if a folder has no item of the data set.
const LAYOUT: &str = "EmoLabel/list_patition_label.txt and Image/aligned/train_00001_aligned.jpg \
                      (aligned.zip unpacked)";

/// Lists the pictures of RAF-DB's basic part in the folder `root`, or in `basic/` below it.
///
/// # Errors
/// The table of labels cannot be read, or there is no item.
pub fn list(root: &Path, _: &Options) -> Result<Listing, DataError> {
    let mut catalogue = Catalogue::default();
    let table = "EmoLabel/list_patition_label.txt";
    for base in [root.to_path_buf(), root.join("basic")] {
        let Some(path) = tree::file(&base, &[table]) else {
            continue;
        };
        let bytes = std::fs::read(&path).map_err(|source| DataError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.trim_start_matches('\u{feff}').lines();
        for (number, line) in lines.enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let at = format!("{} line {}", path.display(), number + 1);
            match read_line(line, &base) {
                Ok(item) => catalogue.add(item, at),
                Err(what) => catalogue.fault(at, what),
            }
        }
        break;
    }
    catalogue.finish("raf-db", &LABELS, root, LAYOUT)
}

/// The item of a line of the table; its picture is below the folder `base`. The error is a fault's
/// text.
pub(super) fn read_line(line: &str, base: &Path) -> Result<Item, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let parsed = match fields[..] {
        [file, label] => (file.strip_suffix(".jpg"))
            .zip(
                label
                    .parse()
                    .ok()
                    .and_then(|label: usize| NAMES.get(label.checked_sub(1)?).copied()),
            )
            .filter(|(id, _)| !id.contains('/')),
        _ => None,
    };
    let Some((id, name)) = parsed else {
        return Err(format!(
            "{line:?} is not a picture and a label of 1 to 7 (train_00001.jpg 5): left out"
        ));
    };
    let split = if id.starts_with("test_") {
        Split::Test
    } else if !id.starts_with("train_") {
        return Err(format!(
            "{id} begins with neither train_ nor test_: left out"
        ));
    } else if crc32fast::hash(id.as_bytes()).is_multiple_of(10) {
        Split::Val
    } else {
        Split::Train
    };
    let file = base.join(format!("Image/aligned/{id}_aligned.jpg"));
    if !is_nonempty_file(&file) {
        return Err(format!("{} is missing or empty: left out", file.display()));
    }
    Ok(Item {
        id: id.to_string(),
        split,
        group: String::new(),
        media: Media::Picture(Picture::File(file)),
        interval: None,
        text: None,
        target: label_index(name).map(Target::Class),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, faults, ids, item};
    use super::*;

    #[test]
    fn lines_are_joined_with_pictures_and_faults_state_their_line() {
        let tree = Tree::new(&[
            "Image/aligned/train_00001_aligned.jpg",
            "Image/aligned/test_0001_aligned.jpg",
            "Image/aligned/test_0002_aligned.jpg",
            "Image/original/train_00002.jpg",
        ]);
        tree.write(
            "EmoLabel/list_patition_label.txt",
            "train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 7\r\ntest_0002.jpg 8\n\
             test_0002.jpg 0\nother_1.jpg 1\ntest_0001.jpg 7\n\ntest_0002.jpg 2\n",
        );
        let listing = tree.list("raf-db").unwrap();
        assert_eq!(ids(&listing), ["test_0001", "test_0002", "train_00001"]);
        let of = |id| item(&listing, id).target.clone();
        assert_eq!(of("train_00001"), Some(Target::Class(2)));
        assert_eq!(of("test_0001"), Some(Target::Class(0)));
        assert_eq!(of("test_0002"), Some(Target::Class(4)));
        assert_eq!(item(&listing, "test_0001").split, Split::Test);
        assert_eq!(
            item(&listing, "train_00001").media,
            Media::Picture(Picture::File(
                tree.path().join("Image/aligned/train_00001_aligned.jpg")
            ))
        );
        assert_eq!(
            faults(&listing, "line 2", "train_00002_aligned.jpg is missing"),
            1
        );
        assert_eq!(faults(&listing, "line 4", "a label of 1 to 7"), 1);
        assert_eq!(faults(&listing, "line 5", "a label of 1 to 7"), 1);
        assert_eq!(faults(&listing, "line 6", "neither train_ nor test_"), 1);
        assert_eq!(faults(&listing, "line 7", "id test_0001 is taken"), 1);
        assert_eq!(listing.faults.len(), 5);
    }

    #[test]
    fn a_tenth_of_train_is_val_and_all_labels_are_on_the_wire() {
        let tree = Tree::new(&[]);
        let mut table = String::new();
        for number in 1..=500 {
            let id = format!("train_{number:05}");
            tree.write(&format!("basic/Image/aligned/{id}_aligned.jpg"), "x");
            table += &format!("{id}.jpg {}\n", number % 7 + 1);
        }
        tree.write("basic/EmoLabel/list_patition_label.txt", &table);
        let listing = tree.list("raf-db").unwrap();
        let val = listing.items.iter().filter(|i| i.split == Split::Val);
        assert!((30..=70).contains(&val.count()));
        assert!(listing.items.iter().all(|i| i.split != Split::Test));
        let counts = listing.label_counts();
        assert!(counts.iter().all(|(_, [train, val, _])| train + val >= 71));
        assert_eq!(listing.faults, []);
    }
}
