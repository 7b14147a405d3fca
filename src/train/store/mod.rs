//! The feature store: embeddings of clips on disk, the input of pre-training and fine-tuning.
//!
//! A store is a folder with `store.json` ([`StoreSpec`]) and two files for each shard, such as
//! `shard-0003-of-0008.rows` and `shard-0003-of-0008.jsonl` (the index). The union of the shards is
//! the store.
//!
//! A row is the embeddings of all encoders, concatenated as little-endian f32, with zeros for an
//! encoder without evidence. The index has one line for each finished item. Both files are only
//! appended to. The line of an item is written after its rows; on resume, a half-written end is
//! truncated. Rows, and then their lines, are flushed to the disk at intervals, so that a power cut
//! loses only the last items.
//!
//! If a newer listing changes metadata, the index is replaced as a whole. If the list of labels
//! changes, `store.json` is replaced first. It keeps the store's first list of labels, which the
//! targets of an index without a header use. An index with another list states it in its first
//! line, the header. Therefore every index can be read at any time, even while some shards still
//! have the labels of an earlier listing.
//!
//! `reader.py` reads a store in Python. The command `inspect` prints a [`Summary`].

mod files;
mod index;
mod reader;
mod recovery;
mod relabel;
mod spec_file;
mod stamp;
mod summary;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::manifest::WindowRule;
use crate::modality::Modality;
use crate::train::data::{Split, Target};

pub use reader::{SkippedItem, Store, StoredShard};
pub use relabel::{Relabelled, WhenChanged};
pub use stamp::FileStamp;
pub use summary::{LabelCount, SplitCount, Summary};
pub use writer::ShardWriter;

/// Version of the store's layout. Version 2 assigns items to shards by a hash of their ids and may
/// have several views; version 1 assigned them by their positions in the listing.
pub const SCHEMA: u32 = 2;

/// The content of `store.json`: the properties that all rows of a store share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpec {
    /// Version of the layout, 1 to [`SCHEMA`].
    pub schema: u32,
    /// Fingerprint of the encoders and their preprocessing. A store contains rows of one
    /// fingerprint only.
    pub fingerprint: String,
    /// Name of the data set's loader.
    pub dataset: String,
    /// The labels that the rows' targets index. Empty: the store has no labels.
    pub labels: Vec<String>,
    /// What a row covers: [`WINDOW`] or [`RECORDING`]. Earlier versions wrote `recording` for a row
    /// per recording.
    pub clips: String,
    /// Length, hop and half-life of the windows that were encoded. With [`WINDOW`] they are those
    /// of the encoders; with [`RECORDING`], the windows do not overlap and have no half-life.
    /// `None`: a store of an earlier version, whose fingerprint covers the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowRule>,
    /// Number of rows of each clip: view 0 is the unchanged clip, the other views are augmented.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub views: u32,
    /// The encoders, in the order in which a row concatenates their embeddings.
    pub encoders: Vec<StoredEncoder>,
}

/// An encoder whose embeddings the rows of a store contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEncoder {
    pub name: String,
    pub modality: Modality,
    /// Length of the embedding, in values.
    pub dim: usize,
}

/// Value of [`StoreSpec::clips`]: one row for each item, with the mean embeddings of the whole
/// recording.
pub const RECORDING: &str = "recording_mean";

/// Value of [`StoreSpec::clips`]: one row for each clip, with the window and hop of the encoders as
/// in the daemon.
pub const WINDOW: &str = "window";

impl StoreSpec {
    /// Number of values in a row: the sum of the encoders' dimensions.
    pub fn dim(&self) -> usize {
        self.encoders.iter().map(|e| e.dim).sum()
    }

    /// Whether a row covers a window (true) or a whole recording (false).
    pub fn has_windows(&self) -> bool {
        self.clips == WINDOW
    }
}

/// The default of [`StoreSpec::views`], for serde.
fn one() -> u32 {
    1
}

fn is_one(views: &u32) -> bool {
    *views == 1
}

/// The metadata of a row of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the clip: the item's id, in a store of windows followed by `#` and the window's start
    /// in milliseconds. `id` and `view` together are unique in the store.
    pub id: String,
    pub split: Split,
    /// The recorded person, from the item; empty: unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The label, an index in [`StoreSpec::labels`]; `None`: not labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// For each of [`StoreSpec::encoders`]: whether the clip has evidence of its modality. If not,
    /// its embedding is zeros.
    pub present: Vec<bool>,
    /// Length of the clip in seconds.
    pub seconds: f64,
    /// The item's transcript; `None`: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Number of the view: 0 is the unchanged clip, others are augmented.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub view: u32,
}

impl Entry {
    /// Start of the window in milliseconds from the item's start, parsed from the id
    /// (`item#start`). `None`: the row is not a window of a recording, but a picture, a text, or a
    /// whole recording.
    pub fn start_ms(&self) -> Option<i64> {
        self.id.rsplit_once('#')?.1.parse().ok()
    }

    /// Id of the item that the row belongs to: the row's id without the window's start.
    pub fn item(&self) -> &str {
        match self.id.rsplit_once('#') {
            Some((item, _)) if self.start_ms().is_some() => item,
            _ => &self.id,
        }
    }
}

fn is_zero(view: &u32) -> bool {
    *view == 0
}

/// One of several parts of a data set that are extracted separately, for example on several
/// machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Number of this shard, from 0 to `count` - 1.
    pub index: usize,
    /// Number of shards of the store.
    pub count: usize,
}

impl Shard {
    /// The only shard of a store that is not divided.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether the item with the id `name` belongs to this shard. This follows from a hash of the
    /// id: if the data set grows or shrinks between runs, no item moves to another shard.
    pub fn holds(self, name: &str) -> bool {
        let hash = Sha256::digest(name.as_bytes());
        let number = u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"));
        number % self.count as u64 == self.index as u64
    }

    /// The shards that are not in `found`. The number of all shards is the largest `count` in
    /// `found`.
    fn missing(found: &[Shard]) -> Vec<Shard> {
        let count = found.iter().map(|shard| shard.count).max().unwrap_or(0);
        (0..count)
            .map(|index| Shard { index, count })
            .filter(|shard| !found.contains(shard))
            .collect()
    }

    /// The path of the shard's file with this extension (`rows` or `jsonl`) in the store's folder.
    fn path(self, dir: &Path, extension: &str) -> PathBuf {
        dir.join(format!("shard-{self}.{extension}"))
    }

    /// The shard whose index has the file name `name`; `None` if it is not the name of an index.
    fn of_file(name: &str) -> Option<Shard> {
        let (index, count) = name
            .strip_prefix("shard-")?
            .strip_suffix(".jsonl")?
            .split_once("-of-")?;
        Some(Shard {
            index: index.parse().ok()?,
            count: count.parse().ok()?,
        })
    }
}

/// The shard as in file names: `0003-of-0008`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-of-{:04}", self.index, self.count)
    }
}

/// Parses `i/n`, such as `3/8`, as on the command line.
impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            _ => Err(format!(
                "{text} is no shard; it must be i/n with i from 0 to n - 1, such as 0/4"
            )),
        }
    }
}

/// Why a store cannot be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    #[error("{path} {}", match source.kind() {
        std::io::ErrorKind::NotFound => "is not there: is the path right, was it extracted?",
        _ => "cannot be read or written (is the disk full, may you?)",
    })]
    Disk {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file of the store is malformed; `what` is the fault.
    #[error("{path} is no feature store: {what}; extract it again")]
    Malformed { path: PathBuf, what: String },
    /// The store was made with other settings; `what` is the difference.
    #[error(
        "{path} was made with other settings: {what}; take another folder, or the encoders and \
         settings it was made with"
    )]
    Different { path: PathBuf, what: String },
    /// The checksum of the row `id` is wrong.
    #[error(
        "{path} is damaged: the row of {id} is not what was written; remove this shard's two files \
         and extract it again"
    )]
    Damaged { path: PathBuf, id: String },
    /// The file of rows ends before a row of the item `id`.
    #[error(
        "{path} ends before the row of {id}, as after a power cut; call the same extract again: it \
         makes up for what is missing"
    )]
    Short { path: PathBuf, id: String },
    /// The recordings of these items have changed since their extraction.
    #[error(
        "{path} holds rows of recordings that have changed since: {}; restore the recordings, add \
         --changed extract to extract these again, or --changed keep to keep the rows",
        first_names(items)
    )]
    Changed { path: PathBuf, items: Vec<String> },
    /// Another process writes this shard.
    #[error("{path} is being written by another process (shard {}/{}); wait for it, or stop \
             it", shard.index, shard.count)]
    Busy { path: PathBuf, shard: Shard },
    /// A row of `id` has `found` values instead of `expected`.
    #[error("a row of {id} has {found} values, expected {expected}")]
    Width {
        id: String,
        found: usize,
        expected: usize,
    },
}

/// Largest number of names in an error message.
const NAMED: usize = 5;

/// The first [`NAMED`] names, and the number of the others.
fn first_names(names: &[String]) -> String {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl StoreError {
    /// A closure that makes a [`StoreError::Disk`] for `path`, for `map_err`.
    fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
        move |source| StoreError::Disk {
            path: path.to_owned(),
            source,
        }
    }
}
