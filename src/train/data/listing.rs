//! A data set loader's result: items, their labels, and faults of the copy on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The listing of a data set on disk, which is not read yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The loader's name, as on the command line.
    pub dataset: String,
    /// The labels that [`Target`]s index. Empty: there are no labels.
    pub labels: Vec<String>,
    /// Sorted by id; ids are unique.
    pub items: Vec<Item>,
    /// Faults of this copy: one entry per file, line or item that was left out or is doubtful. A
    /// fault is never an item too.
    pub faults: Vec<Fault>,
}

impl Listing {
    /// Per label how many items of `train`, `val` and `test` hold it.
    pub fn label_counts(&self) -> Vec<(&str, [usize; 3])> {
        let mut counts: Vec<_> = self
            .labels
            .iter()
            .map(|label| (label.as_str(), [0; 3]))
            .collect();
        for item in &self.items {
            let held: Vec<usize> = match &item.target {
                None => vec![],
                Some(Target::Class(class)) => vec![*class],
                Some(Target::Values(values)) => (0..values.len())
                    .filter(|label| values[*label] > 0.0)
                    .collect(),
            };
            held.into_iter()
                .for_each(|label| counts[label].1[item.split as usize] += 1);
        }
        counts
    }
}

/// A recording, an interval of one, or a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Unique within the data set; the data set's own name for it where it has one
    /// (`src/train/method.md` a.2).
    pub id: String,
    pub split: Split,
    /// The recorded person (actor, speaker, channel): items of one group are never on both sides of
    /// a split made here. Empty: unknown.
    pub group: String,
    pub media: Media,
    /// The part of the media that is the item, in seconds; `None`: all of it.
    pub interval: Option<[f64; 2]>,
    /// The transcript.
    pub text: Option<String>,
    /// `None`: not labelled.
    pub target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Val,
    Test,
}

/// The media of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Media {
    /// A file with picture, sound, or both.
    Recording(PathBuf),
    /// Picture and sound in two files with a common start.
    Separate { video: PathBuf, audio: PathBuf },
    /// A face crop: a one-frame clip without sound.
    Picture(Picture),
    /// No media: words only.
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    File(PathBuf),
    /// Grey, `size x size`, row by row.
    Grey {
        size: usize,
        pixels: Vec<u8>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// Index in [`Listing::labels`].
    Class(usize),
    /// One value per label (CMU-MOSEI: intensities 0 to 3; a label holds where its value is above
    /// 0).
    Values(Vec<f32>),
}

/// Something wrong with the copy on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The file or the id.
    pub at: String,
    /// The fault in one sentence.
    pub what: String,
}
