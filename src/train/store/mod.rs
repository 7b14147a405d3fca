//! The feature store: embeddings of clips on disk, the input of pre-training and fine-tuning.
//!
//! A folder with `store.json` ([`StoreSpec`]) and, per shard, `shard-0003-of-0008.rows` and
//! `shard-0003-of-0008.jsonl`. Rows are little-endian f32, each as long as all encoders' embeddings
//! together, zeros where an encoder gave none. The index has one line per finished item. Both files
//! only grow. A line is written after its rows, so a half-written end is truncated on resume. Rows
//! are synced to disk before their lines at intervals, so a power cut takes only the last items.
//! The union of the shards is the store.
//!
//! A newer listing replaces an index as a whole. If the list of labels changes, `store.json` is
//! replaced first. It keeps the first list, which the targets of an index without a header use. An
//! index with another list names it in its first line, the header. Every index is therefore
//! readable at all times, even while some shards still have the labels of an earlier listing.

mod files;
mod index;
mod reader;
mod recovery;
mod relabel;
mod spec_file;
mod stamp;
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

pub use reader::Store;
pub use relabel::{Relabelled, WhenChanged};
pub use stamp::FileStamp;
pub use writer::ShardWriter;

/// Version of the layout. 2: items are assigned to shards by their ids (1: by their positions in
/// the listing), and may have several views.
pub const SCHEMA: u32 = 2;

/// `store.json`: the properties that all rows share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpec {
    pub schema: u32,
    /// Fingerprint of the encoders and their preprocessing. Rows of different fingerprints cannot
    /// be mixed.
    pub fingerprint: String,
    pub dataset: String,
    /// The labels that targets index. Empty: the store has no labels.
    pub labels: Vec<String>,
    /// The kind of the rows: [`RECORDING`] or [`WINDOW`]. `recording`: as [`RECORDING`], by an
    /// earlier version.
    pub clips: String,
    /// Length, hop and half-life by which clips were converted to rows. [`WINDOW`]: the encoders'.
    /// [`RECORDING`]: windows that do not overlap, without a half-life. `None`: a store of an
    /// earlier version, whose fingerprint covers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowRule>,
    /// Number of rows of each clip: view 0, which is the clip unchanged, and augmented views.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub views: u32,
    /// The encoders, in the order of their embeddings in a row.
    pub encoders: Vec<StoredEncoder>,
}

/// An encoder whose embeddings the rows contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEncoder {
    pub name: String,
    pub modality: Modality,
    /// Length of the embedding.
    pub dim: usize,
}

/// Value of [`StoreSpec::clips`]: a row per item, the mean over the whole recording.
pub const RECORDING: &str = "recording_mean";

/// Value of [`StoreSpec::clips`]: a row per clip of the encoders' window and hop, as in the daemon.
pub const WINDOW: &str = "window";

impl StoreSpec {
    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.encoders.iter().map(|e| e.dim).sum()
    }

    /// Whether rows are windows of a recording, not whole recordings.
    pub fn has_windows(&self) -> bool {
        self.clips == WINDOW
    }
}

fn one() -> u32 {
    1
}

fn is_one(views: &u32) -> bool {
    *views == 1
}

/// The metadata of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique in the store together with `view`.
    pub id: String,
    pub split: Split,
    /// The recorded person; empty: unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `None`: not labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether each encoder had evidence.
    pub present: Vec<bool>,
    pub seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// 0: the clip unchanged; others: augmented.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub view: u32,
}

impl Entry {
    /// Start of the window in milliseconds from the item's start, by the id of a store of windows
    /// (`item#start`); `None`: no window of a recording (a picture, words alone).
    pub fn start_ms(&self) -> Option<i64> {
        self.id.rsplit_once('#')?.1.parse().ok()
    }

    /// The item of a row of a store of windows.
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

/// One of several parts of a data set that are extracted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Number of the shard, from 0.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
}

impl Shard {
    /// The only shard of a store that is not divided.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether the item or recording `name` belongs to this shard. This follows from a hash of the
    /// name: if the data set grows or shrinks between runs, no item moves to another shard.
    pub fn holds(self, name: &str) -> bool {
        let hash = Sha256::digest(name.as_bytes());
        let number = u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"));
        number % self.count as u64 == self.index as u64
    }

    /// The missing shards, by the number of shards that those `found` state.
    fn missing(found: &[Shard]) -> Vec<Shard> {
        let count = found.iter().map(|shard| shard.count).max().unwrap_or(0);
        (0..count)
            .map(|index| Shard { index, count })
            .filter(|shard| !found.contains(shard))
            .collect()
    }

    fn path(self, dir: &Path, extension: &str) -> PathBuf {
        dir.join(format!("shard-{self}.{extension}"))
    }

    /// The shard that a file of a store belongs to.
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

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-of-{:04}", self.index, self.count)
    }
}

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

/// Failure to read or write a store.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path} {}", match source.kind() {
        std::io::ErrorKind::NotFound => "is not there: is the path right, was it extracted?",
        _ => "cannot be read or written (is the disk full, may you?)",
    })]
    Disk {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is no feature store: {what}; extract it again")]
    Malformed { path: PathBuf, what: String },
    #[error(
        "{path} was made with other settings: {what}; take another folder, or the encoders and \
         settings it was made with"
    )]
    Different { path: PathBuf, what: String },
    #[error(
        "{path} is damaged: the row of {id} is not what was written; remove this shard's two files \
         and extract it again"
    )]
    Damaged { path: PathBuf, id: String },
    #[error(
        "{path} ends before the row of {id}, as after a power cut; call the same extract again: it \
         makes up for what is missing"
    )]
    Short { path: PathBuf, id: String },
    #[error(
        "{path} holds rows of recordings that have changed since: {}; restore the recordings, add \
         --changed extract to extract these again, or --changed keep to keep the rows",
        first_names(items)
    )]
    Changed { path: PathBuf, items: Vec<String> },
    #[error("{path} is being written by another process (shard {}/{}); wait for it, or stop \
             it", shard.index, shard.count)]
    Busy { path: PathBuf, shard: Shard },
    #[error("a row of {id} has {found} values, expected {expected}")]
    Width {
        id: String,
        found: usize,
        expected: usize,
    },
}

/// How many names a message holds.
const NAMED: usize = 5;

/// The first few names, and the number of the others.
fn first_names(names: &[String]) -> String {
    let first = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl StoreError {
    fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
        move |source| StoreError::Disk {
            path: path.to_owned(),
            source,
        }
    }
}
