//! Writes one shard; resumes after a kill or a power cut.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::index::{Header, Line, StoredRow};
use super::recovery::{Recovered, SYNC_AFTER_ITEMS, recover};
use super::relabel::{LabelLists, Relabelled, WhenChanged, renew};
use super::spec_file::agree;
use super::{Entry, FileStamp, Shard, StoreError, StoreSpec, files};
use crate::time::monotonic_nanos;
use crate::train::data::Item;

/// Longest time between two syncs, in nanoseconds; see also [`SYNC_AFTER_ITEMS`].
const SYNC_AFTER_NANOS: i64 = 10_000_000_000;

/// Appends items to a shard. When `push` or `skip` returns, the item has been written to the
/// operating system, so a kill does not lose it.
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
    changed: Vec<String>,
    unsynced_items: usize,
    synced_at_nanos: i64,
}

impl ShardWriter {
    /// Begins or resumes a shard. A half-written end is truncated. Finished items whose data at the
    /// end of the files is damaged are dropped, so that they are extracted again.
    ///
    /// # Errors
    /// The folder holds a store with other settings or other shards, the files are damaged
    /// elsewhere than at the end, or another process writes this shard.
    pub fn open(dir: &Path, spec: &StoreSpec, shard: Shard) -> Result<ShardWriter, StoreError> {
        ShardWriter::open_for(dir, spec, shard, &[])
    }

    /// As [`ShardWriter::open`]; also updates labels, splits and groups of finished items from
    /// `items`. The list of labels may change this way; other shards keep theirs until they are
    /// opened too.
    ///
    /// # Errors
    /// As [`ShardWriter::open`], or the recording of a finished item has changed.
    pub fn open_for(
        dir: &Path,
        spec: &StoreSpec,
        shard: Shard,
        items: &[Item],
    ) -> Result<ShardWriter, StoreError> {
        ShardWriter::open_when(dir, spec, shard, items, WhenChanged::Refuse)
    }

    /// As [`ShardWriter::open_for`]; `when_changed` selects the treatment of changed recordings.
    pub fn open_when(
        dir: &Path,
        spec: &StoreSpec,
        shard: Shard,
        items: &[Item],
        when_changed: WhenChanged,
    ) -> Result<ShardWriter, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::disk(dir))?;
        agree(dir, spec, shard)?;
        refuse_other_counts(dir, shard)?;
        let (rows_path, index_path) = (shard.path(dir, "rows"), shard.path(dir, "jsonl"));
        let open = |path: &Path| files::open(path).map_err(StoreError::disk(path));
        let mut rows = open(&rows_path)?;
        // Held as long as the file is open: the system releases it however the process ends. A file
        // system without locks goes unlocked.
        if let Err(TryLockError::WouldBlock) = rows.try_lock() {
            return Err(StoreError::Busy {
                path: dir.to_owned(),
                shard,
            });
        }
        let mut index = open(&index_path)?;
        let mut text = Vec::new();
        index
            .read_to_end(&mut text)
            .map_err(StoreError::disk(&index_path))?;
        let Recovered {
            mut done,
            index_bytes,
            row_bytes,
            dropped,
        } = recover(&text, &rows, &rows_path, &index_path, spec.dim())?;
        // The index first: it must never name missing rows.
        files::set_len(&index, index_bytes).map_err(StoreError::disk(&index_path))?;
        files::set_len(&rows, row_bytes).map_err(StoreError::disk(&rows_path))?;
        text.truncate(index_bytes as usize);
        // Read again under the lock: another shard may have changed it.
        let before = agree(dir, spec, shard)?;
        let header = Header::parse_start(&text).map(|(header, _)| header.labels);
        let theirs = header.unwrap_or(before.labels_without_header().to_vec());
        let has_other_labels = before.spec.labels != spec.labels;
        let after = before.with_labels(&spec.labels);
        let lists = LabelLists {
            theirs: &theirs,
            ours: &spec.labels,
            needs_header: after.labels_without_header() != spec.labels,
        };
        let renewed = renew(&text, &index_path, lists, items, when_changed)?;
        if when_changed == WhenChanged::Refuse && !renewed.changed.is_empty() {
            return Err(StoreError::Changed {
                path: dir.to_owned(),
                items: renewed.changed,
            });
        }
        if has_other_labels {
            // First: it keeps the list that this index has until it is replaced.
            after.replace(dir, shard)?;
        }
        if let Some(text) = &renewed.text {
            files::replace(&index_path, &index_path.with_extension("jsonl.tmp"), text)
                .map_err(StoreError::disk(&index_path))?;
            index = open(&index_path)?;
        }
        if when_changed == WhenChanged::Extract {
            renewed
                .changed
                .iter()
                .for_each(|item| _ = done.remove(item));
        }
        index
            .seek(SeekFrom::End(0))
            .map_err(StoreError::disk(&index_path))?;
        rows.seek(SeekFrom::End(0))
            .map_err(StoreError::disk(&rows_path))?;
        if done.is_empty() {
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
        }
        Ok(ShardWriter {
            rows,
            index,
            rows_path,
            index_path,
            dim: spec.dim(),
            done,
            dropped,
            relabelled: renewed.relabelled,
            changed: renewed.changed,
            unsynced_items: 0,
            synced_at_nanos: monotonic_nanos(),
        })
    }

    /// Number of finished items that were dropped, because the damaged ends of the files held parts
    /// of them.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The changes that [`ShardWriter::open_for`] made to finished items.
    pub fn relabelled(&self) -> Relabelled {
        self.relabelled
    }

    /// Ids of the finished items whose recordings have changed. They keep their rows or are
    /// extracted again, as selected on opening.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// Syncs finished items to disk: the rows, then the lines that name them.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        files::sync(&self.rows).map_err(StoreError::disk(&self.rows_path))?;
        files::sync(&self.index).map_err(StoreError::disk(&self.index_path))?;
        (self.unsynced_items, self.synced_at_nanos) = (0, monotonic_nanos());
        Ok(())
    }

    fn finished(&mut self, item: String) -> Result<(), StoreError> {
        self.done.insert(item);
        self.unsynced_items += 1;
        if self.unsynced_items >= SYNC_AFTER_ITEMS
            || monotonic_nanos() - self.synced_at_nanos >= SYNC_AFTER_NANOS
        {
            self.sync()?;
        }
        Ok(())
    }

    /// Whether this item is finished, with rows or without.
    pub fn is_done(&self, item: &str) -> bool {
        self.done.contains(item)
    }

    /// Adds a finished item with its rows, without stamps of its recording.
    pub fn push(&mut self, item: &str, rows: &[(Entry, Vec<f32>)]) -> Result<(), StoreError> {
        self.push_from(item, &[], rows)
    }

    /// Adds a finished item with its rows. `media`: a [`FileStamp`] for each file of its recording,
    /// from which a later run detects changed files.
    pub fn push_from(
        &mut self,
        item: &str,
        media: &[FileStamp],
        rows: &[(Entry, Vec<f32>)],
    ) -> Result<(), StoreError> {
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
        let written =
            files::write(&mut self.rows, &bytes).map_err(StoreError::disk(&self.rows_path));
        let line = Line {
            item: item.to_owned(),
            skipped: None,
            media: media.to_vec(),
            stale: false,
            rows: stored,
        };
        if let Err(error) = written.and_then(|()| self.line(&line)) {
            // A half-written end is removed, as long as this process runs.
            let _ = files::set_len(&self.rows, before)
                .and_then(|()| self.rows.seek(SeekFrom::Start(before)));
            return Err(error);
        }
        self.finished(line.item)
    }

    /// Adds a finished item without rows, without stamps of its recording; `reason` states why.
    pub fn skip(&mut self, item: &str, reason: &str) -> Result<(), StoreError> {
        self.skip_from(item, &[], reason)
    }

    /// Adds a finished item without rows; `reason` states why. `media`: the stamps of its
    /// recording's files.
    pub fn skip_from(
        &mut self,
        item: &str,
        media: &[FileStamp],
        reason: &str,
    ) -> Result<(), StoreError> {
        self.line(&Line {
            item: item.to_owned(),
            skipped: Some(reason.to_owned()),
            media: media.to_vec(),
            stale: false,
            rows: Vec::new(),
        })?;
        self.finished(item.to_owned())
    }

    fn line(&mut self, line: &Line) -> Result<(), StoreError> {
        let before = self
            .index
            .stream_position()
            .map_err(StoreError::disk(&self.index_path))?;
        files::write(&mut self.index, &line.text()).map_err(|source| {
            let _ = files::set_len(&self.index, before)
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
        if self.unsynced_items > 0 {
            let _ = self.sync();
        }
    }
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
