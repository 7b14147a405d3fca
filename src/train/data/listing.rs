//! What a data set's loader returns: the items, their labels, and the faults of the copy on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The items of a data set on disk. No recording has been decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The loader's name, as on the command line.
    pub dataset: String,
    /// The labels that each [`Target`] indexes. Empty: the data set has no labels.
    pub labels: Vec<String>,
    /// The items, sorted by id. Every id occurs once.
    pub items: Vec<Item>,
    /// The faults of the copy: one for each file, line or item that is left out or doubtful.
    pub faults: Vec<Fault>,
}

impl Listing {
    /// Each label with the number of items that have it in train, val and test.
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

/// A recording, an interval of a recording, a picture, or a text without media, with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Id of the item, unique within the data set. It is the data set's own name of the item if
    /// there is one (`src/train/method.md` a.2).
    pub id: String,
    pub split: Split,
    /// The recorded person (actor, speaker, channel), or the dialogue in MELD; empty: unknown. A
    /// split that the loader makes keeps all items of a group together.
    pub group: String,
    pub media: Media,
    /// Start and end of the item in its media, in seconds; `None`: the item is the whole media.
    pub interval: Option<[f64; 2]>,
    /// The transcript of the item; `None`: unknown.
    pub text: Option<String>,
    /// The label; `None`: the item is not labelled.
    pub target: Option<Target>,
}

/// The split of a data set that an item belongs to: training, validation or test.
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
    /// A file with video, sound, or both.
    Recording(PathBuf),
    /// Video and sound in two files that start at the same time.
    Separate { video: PathBuf, audio: PathBuf },
    /// A face crop: it becomes a clip of one frame, without sound.
    Picture(Picture),
    /// No media: the item has a text only.
    None,
}

/// A still picture: a face crop of a data set.
#[derive(Clone, Debug, PartialEq)]
pub enum Picture {
    /// A picture file.
    File(PathBuf),
    /// A grey picture of `size` x `size` pixels, row-major, one byte (0 to 255) a pixel.
    Grey { size: usize, pixels: Vec<u8> },
}

/// The label of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// The item's only label, as an index in [`Listing::labels`].
    Class(usize),
    /// One value for each of [`Listing::labels`]. The item has a label if its value is above 0. The
    /// values of CMU-MOSEI are intensities of 0 to 3.
    Values(Vec<f32>),
}

/// A fault of a data set's copy on disk, such as a missing recording or a malformed line.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The file, the line or the item's id in which the fault is.
    pub at: String,
    /// The fault in one sentence.
    pub what: String,
}
