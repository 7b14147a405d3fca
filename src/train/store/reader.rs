//! Reads a store: row metadata in memory, values from disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Entry, Line, SCHEMA, Shard, StoreError, StoreSpec};

/// All shards of a folder. Values stay on disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    spec: StoreSpec,
    /// By id, then view: independent of the shards and of the order in which they finished.
    entries: Vec<Entry>,
    places: Vec<Place>,
    files: Vec<(PathBuf, File)>,
    skipped: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    file: u32,
    crc32: u32,
    row: u64,
}

pub(super) fn read_spec(dir: &Path) -> Result<StoreSpec, StoreError> {
    let path = dir.join("store.json");
    let text = std::fs::read(&path).map_err(StoreError::disk(&path))?;
    let spec: StoreSpec = serde_json::from_slice(&text).map_err(|e| StoreError::Malformed {
        path: path.clone(),
        what: e.to_string(),
    })?;
    if !(1..=SCHEMA).contains(&spec.schema) {
        return Err(StoreError::Malformed {
            path,
            what: format!(
                "its schema is {}, this program reads 1 to {SCHEMA}",
                spec.schema
            ),
        });
    }
    Ok(spec)
}

fn missing_shards(dir: &Path, found: &[Shard]) -> Option<String> {
    let missing = Shard::missing(found);
    let names: Vec<String> = missing
        .iter()
        .map(|shard| format!("{}/{}", shard.index, shard.count))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "warning: {} lacks what shard {} would hold: not extracted yet, or lost",
            dir.display(),
            names.join(", ")
        )
    })
}

impl Store {
    /// Reports missing shards on the terminal. The others can be used, but are incomplete.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let spec = read_spec(dir)?;
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
            spec,
            entries: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
            skipped: BTreeMap::new(),
        };
        let mut found = Vec::new();
        for shard in shards {
            store.read_index(dir, shard, &mut found)?;
        }
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

    fn read_index(
        &mut self,
        dir: &Path,
        shard: Shard,
        found: &mut Vec<(Entry, Place)>,
    ) -> Result<(), StoreError> {
        let (rows_path, index_path) = (shard.path(dir, "rows"), shard.path(dir, "jsonl"));
        let rows = File::open(&rows_path).map_err(StoreError::disk(&rows_path))?;
        let held = rows.metadata().map_err(StoreError::disk(&rows_path))?.len();
        let mut index =
            BufReader::new(File::open(&index_path).map_err(StoreError::disk(&index_path))?);
        let (mut line, mut number, mut row) = (Vec::new(), 0, 0u64);
        let file = self.files.len() as u32;
        while index
            .read_until(b'\n', &mut line)
            .map_err(StoreError::disk(&index_path))?
            > 0
        {
            number += 1;
            // A line without a newline is incomplete: the run still writes it, or was killed.
            if line.last() != Some(&b'\n') {
                break;
            }
            let parsed: Line =
                serde_json::from_slice(&line).map_err(|e| StoreError::Malformed {
                    path: index_path.clone(),
                    what: format!("line {number}: {e}"),
                })?;
            if let Some(reason) = parsed.skipped {
                *self.skipped.entry(reason).or_default() += 1;
            }
            for stored in parsed.rows {
                if stored.entry.present.len() != self.spec.encoders.len() {
                    return Err(StoreError::Malformed {
                        path: index_path,
                        what: format!("line {number} names another number of encoders"),
                    });
                }
                found.push((
                    stored.entry,
                    Place {
                        file,
                        crc32: stored.crc32,
                        row,
                    },
                ));
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
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }
    /// By id, then view.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.spec.dim()
    }
    /// Items that gave no rows, by reason.
    pub fn skipped(&self) -> &BTreeMap<String, usize> {
        &self.skipped
    }

    /// The values of `entries()[row]`. May be called from several threads.
    ///
    /// # Errors
    /// If the disk fails, or a row's checksum is wrong.
    ///
    /// # Panics
    /// If `out` is not as long as a row.
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
    fn missing_shards_are_named() {
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
