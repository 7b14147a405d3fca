//! Writes one shard; resumes after a kill or a power cut.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::recovery::{Recovered, SAFE_AFTER_ITEMS, recover};
use super::relabel::{Relabelled, relabelled};
use super::{Entry, Line, SCHEMA, Shard, StoreError, StoreSpec, StoredRow};
use crate::time::monotonic_nanos;
use crate::train::data::Item;

/// Interval between two syncs, the other bound beside [`SAFE_AFTER_ITEMS`].
const SAFE_AFTER_NANOS: i64 = 10_000_000_000;

/// A shard that grows. Every finished item has been handed to the system when `push` or `skip`
/// returns, so a kill loses none of it.
#[derive(Debug)]
pub struct ShardWriter {
    pub(super) rows: File,
    index: File,
    rows_path: PathBuf,
    index_path: PathBuf,
    dim: usize,
    done: HashSet<String>,
    dropped: usize,
    relabelled: Relabelled,
    unsafe_items: usize,
    safe_at_nanos: i64,
}

impl ShardWriter {
    /// Begins a shard or resumes it. A half-written end is truncated. Finished items that lost data
    /// at the end of the files are forgotten and will be extracted again.
    ///
    /// # Errors
    /// If the folder holds a store of other settings or other shards, if it is damaged elsewhere
    /// than at the end, or if another process writes this shard.
    pub fn open(dir: &Path, spec: &StoreSpec, shard: Shard) -> Result<ShardWriter, StoreError> {
        ShardWriter::open_for(dir, spec, shard, &[])
    }

    /// As [`ShardWriter::open`]; finished items take over the labels, splits and groups of `items`.
    /// A store of one shard may change its list of labels this way.
    ///
    /// # Errors
    /// As [`ShardWriter::open`], and where a store of several shards has another list of labels.
    pub fn open_for(
        dir: &Path,
        spec: &StoreSpec,
        shard: Shard,
        items: &[Item],
    ) -> Result<ShardWriter, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::disk(dir))?;
        let labels = agree(dir, spec, shard)?;
        refuse_other_counts(dir, shard)?;
        let (rows_path, index_path) = (shard.path(dir, "rows"), shard.path(dir, "jsonl"));
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(StoreError::disk(path))
        };
        let (mut rows, mut index) = (open(&rows_path)?, open(&index_path)?);
        // Held as long as the file is open: the system releases it however the process ends. A file
        // system without locks goes unlocked.
        if let Err(TryLockError::WouldBlock) = rows.try_lock() {
            return Err(StoreError::Busy {
                path: dir.to_owned(),
                shard,
            });
        }
        let mut text = Vec::new();
        index
            .read_to_end(&mut text)
            .map_err(StoreError::disk(&index_path))?;
        let Recovered {
            done,
            index_bytes,
            row_bytes,
            dropped,
        } = recover(&text, &rows, &rows_path, &index_path, spec.dim())?;
        // The index first: it must never name missing rows.
        index
            .set_len(index_bytes)
            .map_err(StoreError::disk(&index_path))?;
        rows.set_len(row_bytes)
            .map_err(StoreError::disk(&rows_path))?;
        let (renewed, relabelled) = relabelled(
            &text[..index_bytes as usize],
            &index_path,
            &labels,
            &spec.labels,
            items,
        )?;
        let new = index_path.with_extension("jsonl.tmp");
        if let Some(text) = &renewed {
            std::fs::write(&new, text)
                .and_then(|()| File::open(&new)?.sync_all())
                .map_err(StoreError::disk(&new))?;
        }
        if labels != spec.labels && !labels.is_empty() {
            // Remove store.json first, so that a crash never leaves an index and a label list that
            // do not match. Not needed when the store had no labels: no row has a target, and other
            // shards may be writing.
            std::fs::remove_file(dir.join("store.json")).map_err(StoreError::disk(dir))?;
        }
        if renewed.is_some() {
            std::fs::rename(&new, &index_path).map_err(StoreError::disk(&index_path))?;
            index = open(&index_path)?;
        }
        if labels != spec.labels {
            write_spec(dir, spec)?;
        }
        index
            .seek(SeekFrom::End(0))
            .map_err(StoreError::disk(&index_path))?;
        rows.seek(SeekFrom::End(0))
            .map_err(StoreError::disk(&rows_path))?;
        if done.is_empty() {
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        let safe_at_nanos = monotonic_nanos();
        Ok(ShardWriter {
            rows,
            index,
            rows_path,
            index_path,
            dim: spec.dim(),
            done,
            dropped,
            relabelled,
            unsafe_items: 0,
            safe_at_nanos,
        })
    }

    /// Number of finished items that must be extracted again, because the damaged ends of the files
    /// held parts of them.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Changes of finished items by `items`.
    pub fn relabelled(&self) -> Relabelled {
        self.relabelled
    }

    /// Syncs finished items to disk: the rows, then the lines that name them.
    pub fn make_safe(&mut self) -> Result<(), StoreError> {
        self.rows
            .sync_data()
            .map_err(StoreError::disk(&self.rows_path))?;
        self.index
            .sync_data()
            .map_err(StoreError::disk(&self.index_path))?;
        (self.unsafe_items, self.safe_at_nanos) = (0, monotonic_nanos());
        Ok(())
    }

    fn finished(&mut self, item: String) -> Result<(), StoreError> {
        self.done.insert(item);
        self.unsafe_items += 1;
        if self.unsafe_items >= SAFE_AFTER_ITEMS
            || monotonic_nanos() - self.safe_at_nanos >= SAFE_AFTER_NANOS
        {
            self.make_safe()?;
        }
        Ok(())
    }

    /// Whether this item is finished, with rows or without.
    pub fn is_done(&self, item: &str) -> bool {
        self.done.contains(item)
    }

    /// A finished item with its rows.
    pub fn push(&mut self, item: &str, rows: &[(Entry, Vec<f32>)]) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(rows.len() * self.dim * 4);
        let mut stored = Vec::with_capacity(rows.len());
        for (entry, values) in rows {
            if values.len() != self.dim {
                return Err(StoreError::Width {
                    id: entry.id.clone(),
                    found: values.len(),
                    expected: self.dim,
                });
            }
            let start = bytes.len();
            values
                .iter()
                .for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
            stored.push(StoredRow {
                entry: entry.clone(),
                crc32: crc32fast::hash(&bytes[start..]),
            });
        }
        let before = self
            .rows
            .stream_position()
            .map_err(StoreError::disk(&self.rows_path))?;
        let written = self
            .rows
            .write_all(&bytes)
            .map_err(StoreError::disk(&self.rows_path));
        let line = Line {
            item: item.to_owned(),
            skipped: None,
            rows: stored,
        };
        if let Err(error) = written.and_then(|()| self.line(&line)) {
            // A half-written end is removed, as long as this process runs.
            let _ = self
                .rows
                .set_len(before)
                .and_then(|()| self.rows.seek(SeekFrom::Start(before)));
            return Err(error);
        }
        self.finished(line.item)
    }

    /// Adds a finished item without rows, and the reason.
    pub fn skip(&mut self, item: &str, reason: &str) -> Result<(), StoreError> {
        self.line(&Line {
            item: item.to_owned(),
            skipped: Some(reason.to_owned()),
            rows: Vec::new(),
        })?;
        self.finished(item.to_owned())
    }

    fn line(&mut self, line: &Line) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec(line).expect("a line serialises");
        text.push(b'\n');
        let before = self
            .index
            .stream_position()
            .map_err(StoreError::disk(&self.index_path))?;
        self.index.write_all(&text).map_err(|source| {
            let _ = self
                .index
                .set_len(before)
                .and_then(|()| self.index.seek(SeekFrom::Start(before)));
            StoreError::Disk {
                path: self.index_path.clone(),
                source,
            }
        })
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if self.unsafe_items > 0 {
            let _ = self.make_safe();
        }
    }
}

fn write_spec(dir: &Path, spec: &StoreSpec) -> Result<(), StoreError> {
    let (path, spec) = (
        dir.join("store.json"),
        StoreSpec {
            schema: SCHEMA,
            ..spec.clone()
        },
    );
    // Shards begin in parallel: each writes its own file; all have the same content, so the last
    // rename wins.
    let new = dir.join(format!("store.json.{}", std::process::id()));
    std::fs::write(
        &new,
        serde_json::to_vec_pretty(&spec).expect("a spec serialises"),
    )
    .map_err(StoreError::disk(&new))?;
    std::fs::rename(&new, &path).map_err(StoreError::disk(&path))
}

/// Writes `store.json`, or compares `spec` with the existing one. Returns the labels that the rows'
/// targets index.
fn agree(dir: &Path, spec: &StoreSpec, shard: Shard) -> Result<Vec<String>, StoreError> {
    if !dir.join("store.json").exists() {
        write_spec(dir, spec)?;
    }
    let found = super::reader::read_spec(dir)?;
    let different = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        Err(StoreError::Different {
            path: dir.to_owned(),
            what: format!("its {what} is {theirs:?}, not {ours:?}"),
        })
    };
    if found.fingerprint != spec.fingerprint {
        return different("fingerprint", &spec.fingerprint, &found.fingerprint);
    }
    if found.dataset != spec.dataset {
        return different("data set", &spec.dataset, &found.dataset);
    }
    let other_labels = found.labels != spec.labels;
    if other_labels && spec.labels.is_empty() {
        let what = format!(
            "its labels are {}, and the data set has none (any more)",
            found.labels.join(", ")
        );
        return Err(StoreError::Different {
            path: dir.to_owned(),
            what,
        });
    }
    // Without labels no row has a target, in any shard.
    if other_labels && shard.count > 1 && !found.labels.is_empty() {
        let [ours, theirs] = [&spec.labels, &found.labels].map(|labels| labels.join(", "));
        let what = format!(
            "its labels are {theirs}, not {ours}, and the list of labels of a store of several \
             shards stays"
        );
        return Err(StoreError::Different {
            path: dir.to_owned(),
            what,
        });
    }
    if found.clips == "recording" && spec.clips == "recording_mean" {
        let what = "an earlier version made a recording's row of the last faces of its windows, \
                    this one makes it of all: extract into another store";
        return Err(StoreError::Different {
            path: dir.to_owned(),
            what: what.into(),
        });
    }
    if found.clips != spec.clips {
        return different("clips rule", &spec.clips, &found.clips);
    }
    if found.views != spec.views {
        return different("number of views", &spec.views, &found.views);
    }
    if found.schema < 2 && shard.count > 1 {
        let what = "an earlier version dealt its items to shards by their places in the listing, \
                    this one deals them by their ids";
        return Err(StoreError::Different {
            path: dir.to_owned(),
            what: what.into(),
        });
    }
    if found.encoders != spec.encoders {
        return different("encoders", &spec.encoders, &found.encoders);
    }
    Ok(found.labels)
}

fn refuse_other_counts(dir: &Path, shard: Shard) -> Result<(), StoreError> {
    for file in std::fs::read_dir(dir).map_err(StoreError::disk(dir))? {
        let name = file.map_err(StoreError::disk(dir))?.file_name();
        if let Some(found) = name.to_str().and_then(Shard::of_file)
            && found.count != shard.count
        {
            let what = format!("it has shards of {}, not of {}", found.count, shard.count);
            return Err(StoreError::Different {
                path: dir.to_owned(),
                what,
            });
        }
    }
    Ok(())
}
