//! The result of a data set's loader: items, their labels, and faults of the copy on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The items of a data set on disk; no recording is read yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The loader's name, as on the command line.
    pub dataset: String,
    /// The labels that [`Target`]s index. Empty: the data set has no labels.
    pub labels: Vec<String>,
    /// Sorted by id, each id once.
    pub items: Vec<Item>,
    /// Faults of this copy: one for each file, line or item that is left out or doubtful. A fault
    /// is never an item too.
    pub faults: Vec<Fault>,
}

impl Listing {
    /// Number of items with each label in `train`, `val` and `test`.
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

/// A recording, an interval of a recording, or a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Unique within the data set: the data set's own name of the item, if it has one
    /// (`src/train/method.md` a.2).
    pub id: String,
    pub split: Split,
    /// The recorded person (actor, speaker, channel); empty: unknown. A split made here never
    /// separates the items of a group.
    pub group: String,
    pub media: Media,
    /// The part of the media that is the item: start and end in seconds; `None`: all of it.
    pub interval: Option<[f64; 2]>,
    /// The transcript.
    pub text: Option<String>,
    /// `None`: the item has no label.
    pub target: Option<Target>,
}

/// The part of a data set that an item belongs to.
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
    /// Picture and sound in two files that start at the same time.
    Separate { video: PathBuf, audio: PathBuf },
    /// A face crop: a clip of one frame, without sound.
    Picture(Picture),
    /// No media: the item has words only.
    None,
}

/// A still picture of a data set.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    File(PathBuf),
    /// A grey picture, `size x size`, row by row.
    Grey {
        size: usize,
        pixels: Vec<u8>,
    },
}

/// The label of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// Index in [`Listing::labels`].
    Class(usize),
    /// One value per label; a label holds if its value is above 0. CMU-MOSEI has intensities 0 to
    /// 3.
    Values(Vec<f32>),
}

/// A fault of the copy on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The file, line or id of the fault.
    pub at: String,
    /// The fault in one sentence.
    pub what: String,
}
