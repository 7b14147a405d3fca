//! Reads a store: the metadata of all rows into memory, the values of a row from disk on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::index::{Header, Line};
use super::relabel::{Renaming, held};
use super::spec_file::SpecFile;
use super::{Entry, Shard, StoreError, StoreSpec};

/// An open store: the metadata of the rows of all shards. The rows' values are read on demand.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    spec: StoreSpec,
    /// Sorted by id, then by view, so that the order does not depend on the shards.
    entries: Vec<Entry>,
    /// For each of `entries`: where its values are.
    places: Vec<Place>,
    /// The file of rows of each shard.
    files: Vec<(PathBuf, File)>,
    /// Number of items without rows, by reason.
    skipped: BTreeMap<String, usize>,
    /// The items without rows.
    skipped_items: Vec<SkippedItem>,
    /// The shards that the folder has, by number.
    shards: Vec<StoredShard>,
    /// The shards that the folder lacks, such as `1/4`.
    missing: Vec<String>,
}

/// An item without rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedItem {
    pub item: String,
    /// Why the extraction gave no row.
    pub reason: String,
}

/// The size of a shard on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredShard {
    /// The shard as in its file names, such as `0003-of-0008`.
    pub shard: String,
    /// Number of finished rows, stale ones included.
    pub rows: u64,
    /// Number of rows of recordings that are to be extracted again; they are not read.
    pub stale: u64,
    /// Size of the file of rows and of the index.
    pub bytes: u64,
}

/// Where the values of a row are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Index in `Store::files`.
    file: u32,
    crc32: u32,
    /// Number of the row in its file, from 0.
    row: u64,
}

/// The names of the shards that are not in `found`, such as `1/4`.
fn missing_names(found: &[Shard]) -> Vec<String> {
    Shard::missing(found)
        .iter()
        .map(|shard| format!("{}/{}", shard.index, shard.count))
        .collect()
}

/// A warning that names the shards missing in the store `dir`; `None` if all are in `found`.
fn missing_shards(dir: &Path, found: &[Shard]) -> Option<String> {
    let names = missing_names(found);
    (!names.is_empty()).then(|| {
        format!(
            "warning: {} lacks what shard {} would hold: not extracted yet, or lost",
            dir.display(),
            names.join(", ")
        )
    })
}

/// The parsed index of one shard.
struct ShardIndex {
    shard: Shard,
    /// The labels that the targets of this shard index.
    labels: Vec<String>,
    /// The rows that are not stale.
    found: Vec<(Entry, Place)>,
}

/// Converts the targets of all shards to one list of labels. This list is `labels`, extended by
/// labels that only rows of an earlier listing have. Names the shards of an earlier listing in a
/// warning on standard error.
fn join_labels(dir: &Path, labels: &mut Vec<String>, indices: &mut [ShardIndex]) {
    let earlier: Vec<String> = indices
        .iter()
        .filter(|index| index.labels != *labels)
        .map(|index| format!("{}/{}", index.shard.index, index.shard.count))
        .collect();
    if earlier.is_empty() {
        return;
    }
    eprintln!(
        "warning: in {} shard {} has the labels of an earlier listing; its extract renews them",
        dir.display(),
        earlier.join(", ")
    );
    for index in indices.iter() {
        let targets = index.found.iter().filter_map(|(e, _)| e.target.as_ref());
        let places: BTreeSet<usize> = targets.flat_map(held).collect();
        let names = places.into_iter().filter_map(|i| index.labels.get(i));
        for name in names {
            if !labels.contains(name) {
                labels.push(name.clone());
            }
        }
    }
    for index in indices {
        let renaming = Renaming::new(&index.labels, labels);
        for (entry, _) in &mut index.found {
            entry.target = entry.target.as_ref().and_then(|t| renaming.target(t));
        }
    }
}

impl Store {
    /// Opens the store in the folder `dir`. Missing shards are reported on standard error, and the
    /// existing shards are opened.
    ///
    /// # Errors
    /// A file is missing, malformed or too short, or two rows have the same id and view.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let file = SpecFile::read(dir)?;
        let mut shards = Vec::new();
        for file in std::fs::read_dir(dir).map_err(StoreError::disk(dir))? {
            let name = file.map_err(StoreError::disk(dir))?.file_name();
            shards.extend(name.to_str().and_then(Shard::of_file));
        }
        shards.sort();
        if let Some(warning) = missing_shards(dir, &shards) {
            eprintln!("{warning}");
        }
        let mut store = Store {
            path: dir.to_owned(),
            spec: file.spec.clone(),
            entries: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
            skipped: BTreeMap::new(),
            skipped_items: Vec::new(),
            shards: Vec::new(),
            missing: missing_names(&shards),
        };
        let mut indices = shards
            .into_iter()
            .map(|shard| store.read_index(dir, shard, file.labels_without_header()))
            .collect::<Result<Vec<_>, _>>()?;
        join_labels(dir, &mut store.spec.labels, &mut indices);
        let mut found: Vec<_> = indices.into_iter().flat_map(|index| index.found).collect();
        found.sort_by(|(a, _): &(Entry, Place), (b, _)| (&a.id, a.view).cmp(&(&b.id, b.view)));
        if let Some(pair) = found
            .windows(2)
            .find(|w| w[0].0.id == w[1].0.id && w[0].0.view == w[1].0.view)
        {
            return Err(StoreError::Malformed {
                path: dir.to_owned(),
                what: format!("{} is in it twice", pair[0].0.id),
            });
        }
        (store.entries, store.places) = found.into_iter().unzip();
        Ok(store)
    }

    /// Reads the index of `shard`, and opens its file of rows. `labels_without_header`: the labels
    /// of an index that has no header.
    fn read_index(
        &mut self,
        dir: &Path,
        shard: Shard,
        labels_without_header: &[String],
    ) -> Result<ShardIndex, StoreError> {
        let (rows_path, index_path) = (shard.path(dir, "rows"), shard.path(dir, "jsonl"));
        let rows = File::open(&rows_path).map_err(StoreError::disk(&rows_path))?;
        let held = rows.metadata().map_err(StoreError::disk(&rows_path))?.len();
        let index = File::open(&index_path).map_err(StoreError::disk(&index_path))?;
        let index_bytes = (index.metadata().map_err(StoreError::disk(&index_path))?).len();
        let mut index = BufReader::new(index);
        let (mut line, mut number, mut row, mut stale) = (Vec::new(), 0, 0u64, 0u64);
        let (mut found, mut labels) = (Vec::new(), labels_without_header.to_vec());
        let file = self.files.len() as u32;
        while index
            .read_until(b'\n', &mut line)
            .map_err(StoreError::disk(&index_path))?
            > 0
        {
            number += 1;
            // A line without a newline is incomplete: the extraction is still writing it, or was
            // killed.
            if line.last() != Some(&b'\n') {
                break;
            }
            if number == 1
                && let Some(header) = Header::parse(&line)
            {
                labels = header.labels;
                line.clear();
                continue;
            }
            let parsed: Line =
                serde_json::from_slice(&line).map_err(|e| StoreError::Malformed {
                    path: index_path.clone(),
                    what: format!("line {number}: {e}"),
                })?;
            if let Some(reason) = parsed.skipped.filter(|_| !parsed.stale) {
                *self.skipped.entry(reason.clone()).or_default() += 1;
                let item = parsed.item.clone();
                self.skipped_items.push(SkippedItem { item, reason });
            }
            stale += u64::from(parsed.stale) * parsed.rows.len() as u64;
            for stored in parsed.rows {
                if stored.entry.present.len() != self.spec.encoders.len() {
                    return Err(StoreError::Malformed {
                        path: index_path,
                        what: format!("line {number} names another number of encoders"),
                    });
                }
                let crc32 = stored.crc32;
                if !parsed.stale {
                    found.push((stored.entry, Place { file, crc32, row }));
                }
                row += 1;
                if row * self.spec.dim() as u64 * 4 > held {
                    return Err(StoreError::Short {
                        path: rows_path,
                        id: parsed.item,
                    });
                }
            }
            line.clear();
        }
        self.files.push((rows_path, rows));
        self.shards.push(StoredShard {
            shard: shard.to_string(),
            rows: row,
            stale,
            bytes: held + index_bytes,
        });
        Ok(ShardIndex {
            shard,
            labels,
            found,
        })
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The store's properties; its labels include those of shards with an earlier listing.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }
    /// The metadata of all rows, sorted by id, then by view.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// Number of values in a row.
    pub fn dim(&self) -> usize {
        self.spec.dim()
    }
    /// Number of items without rows, by the reason of the extraction.
    pub fn skipped(&self) -> &BTreeMap<String, usize> {
        &self.skipped
    }
    /// The items without rows.
    pub fn skipped_items(&self) -> &[SkippedItem] {
        &self.skipped_items
    }
    /// The shards that the folder has, by number.
    pub fn shards(&self) -> &[StoredShard] {
        &self.shards
    }

    /// The names of the shards that the folder lacks, such as `1/4`.
    pub fn missing_shards(&self) -> &[String] {
        &self.missing
    }

    /// Reads the values of a row from disk into `out`. `row`: index in [`Store::entries`]. May be
    /// called from several threads at once.
    ///
    /// # Errors
    /// The disk fails, or the checksum of the row is wrong.
    ///
    /// # Panics
    /// The length of `out` is not [`Store::dim`].
    pub fn read(&self, row: usize, out: &mut [f32]) -> Result<(), StoreError> {
        let width = self.dim() * 4;
        assert_eq!(out.len() * 4, width);
        let place = self.places[row];
        let (path, file) = &self.files[place.file as usize];
        let mut bytes = vec![0u8; width];
        file.read_exact_at(&mut bytes, place.row * width as u64)
            .map_err(StoreError::disk(path))?;
        if crc32fast::hash(&bytes) != place.crc32 {
            return Err(StoreError::Damaged {
                path: path.clone(),
                id: self.entries[row].id.clone(),
            });
        }
        out.iter_mut()
            .zip(bytes.as_chunks::<4>().0)
            .for_each(|(o, b)| *o = f32::from_le_bytes(*b));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_the_missing_shards() {
        let shard = |index| Shard { index, count: 4 };
        let of = |found: &[Shard]| missing_shards(Path::new("stores/mine"), found);
        assert_eq!(
            (of(&[]), of(&[Shard::WHOLE]), of(&[0, 1, 2, 3].map(shard))),
            (None, None, None)
        );
        let expected =
            "warning: stores/mine lacks what shard 1/4, 3/4 would hold: not extracted yet, or lost";
        assert_eq!(of(&[0, 2].map(shard)).as_deref(), Some(expected));
    }
}
