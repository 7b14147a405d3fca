//! The summary of a store: its properties, and counts over the metadata of its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::relabel::held;
use super::{SkippedItem, Store, StoreError, StoreSpec, StoredShard};
use crate::modality::Modality;
use crate::train::data::Split;

/// What is in a store. Memory grows with the metadata of the rows; their values stay on disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The content of `store.json`; its labels include those of shards of an earlier listing.
    pub spec: StoreSpec,
    /// Number of values in a row.
    pub dim: usize,
    /// Number of items with rows.
    pub items: usize,
    /// Number of rows, without stale ones.
    pub rows: usize,
    /// Number of known groups (people, dialogues).
    pub groups: usize,
    /// Length of all unchanged rows in seconds; overlapping windows count fully.
    pub seconds: f64,
    /// Counts for each split that has rows, in the order train, val, test.
    pub splits: Vec<SplitCount>,
    /// Counts for each label, in the order of the labels.
    pub labels: Vec<LabelCount>,
    /// Number of rows for each set of modalities that are present in a row, such as `face+voice`;
    /// `none` for rows without evidence.
    pub modalities: BTreeMap<String, usize>,
    /// The items without rows.
    pub skipped: Vec<SkippedItem>,
    pub shards: Vec<StoredShard>,
    /// The shards that the folder lacks, such as `1/4`.
    pub missing_shards: Vec<String>,
    /// Size of the files of all shards.
    pub bytes: u64,
}

/// The content of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitCount {
    pub split: Split,
    /// Number of items with rows.
    pub items: usize,
    pub rows: usize,
    /// Number of rows with a label.
    pub labelled: usize,
}

/// The rows that have one label. In a store with several labels a row counts for each label with a
/// value above 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCount {
    pub label: String,
    /// Number of rows in train, val and test.
    pub rows: [usize; 3],
}

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

impl Summary {
    /// The summary of the store in the folder `dir`.
    ///
    /// # Errors
    /// The folder is no store, or the store is damaged ([`Store::open`]).
    pub fn read(dir: &Path) -> Result<Summary, StoreError> {
        Ok(Summary::new(&Store::open(dir)?))
    }

    /// The summary of an open store.
    pub fn new(store: &Store) -> Summary {
        let (spec, entries) = (store.spec(), store.entries());
        let mut labels: Vec<LabelCount> = (spec.labels.iter().cloned())
            .map(|label| LabelCount {
                label,
                rows: [0; 3],
            })
            .collect();
        let mut splits = SPLITS.map(|split| (split, BTreeSet::new(), 0, 0));
        let (mut modalities, mut groups) = (BTreeMap::new(), BTreeSet::new());
        let mut seconds = 0.0;
        for entry in entries {
            let (_, items, rows, labelled) = &mut splits[entry.split as usize];
            items.insert(entry.item());
            *rows += 1;
            *labelled += usize::from(entry.target.is_some());
            for label in entry.target.iter().flat_map(held) {
                if let Some(count) = labels.get_mut(label) {
                    count.rows[entry.split as usize] += 1;
                }
            }
            if entry.view == 0 {
                seconds += entry.seconds;
            }
            if !entry.group.is_empty() {
                groups.insert(entry.group.as_str());
            }
            *modalities.entry(present(spec, &entry.present)).or_default() += 1;
        }
        Summary {
            spec: spec.clone(),
            dim: store.dim(),
            items: (entries.iter().map(|entry| entry.item()))
                .collect::<BTreeSet<_>>()
                .len(),
            rows: entries.len(),
            groups: groups.len(),
            seconds,
            splits: splits
                .into_iter()
                .filter(|(_, _, rows, _)| *rows > 0)
                .map(|(split, items, rows, labelled)| SplitCount {
                    split,
                    items: items.len(),
                    rows,
                    labelled,
                })
                .collect(),
            labels,
            modalities,
            skipped: store.skipped_items().to_vec(),
            shards: store.shards().to_vec(),
            missing_shards: store.missing_shards().to_vec(),
            bytes: store.shards().iter().map(|shard| shard.bytes).sum(),
        }
    }
}

/// The names of the modalities that a row has, such as `face+voice`; `none` without any. `flags`:
/// for each encoder whether the row has its modality.
fn present(spec: &StoreSpec, flags: &[bool]) -> String {
    let has = |modality: &Modality| {
        (spec.encoders.iter().zip(flags)).any(|(e, flag)| *flag && e.modality == *modality)
    };
    let names: Vec<&str> = (Modality::ALL.iter().filter(|m| has(m)))
        .map(|modality| modality.name())
        .collect();
    if names.is_empty() {
        return "none".into();
    }
    names.join("+")
}
