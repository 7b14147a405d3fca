//! Writes one shard of a store; resumes it after a kill or a power cut.

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

/// Longest time between two flushes to the disk, in nanoseconds; see also [`SYNC_AFTER_ITEMS`].
const SYNC_AFTER_NANOS: i64 = 10_000_000_000;

/// Appends finished items to a shard. When a method that adds an item returns, the operating system
/// has the data, so that a kill of the process does not lose it.
#[derive(Debug)]
pub struct ShardWriter {
    pub(super) rows: File,
    index: File,
    rows_path: PathBuf,
    index_path: PathBuf,
    /// Number of values in a row.
    dim: usize,
    /// Ids of the finished items.
    done: HashSet<String>,
    dropped: usize,
    relabelled: Relabelled,
    changed: Vec<String>,
    /// Number of items since the last flush to the disk.
    unsynced_items: usize,
    /// Time of the last flush, by [`monotonic_nanos`].
    synced_at_nanos: i64,
    /// Dropped after the last flush, because it is a field.
    _lock: ShardLock,
}

/// The lock of a shard, as a copy of the open file of its rows. It is released explicitly, because
/// a process that this one is starting has copies of the open files for a moment. Closing the file
/// here would leave the shard locked as long as these copies are open.
#[derive(Debug)]
struct ShardLock(File);

impl Drop for ShardLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl ShardWriter {
    /// Creates or resumes a shard of the store in `dir`. A half-written end is truncated. Finished
    /// items with damaged data at the end of the files are dropped, so that they are extracted
    /// again.
    ///
    /// # Errors
    /// The folder has a store with other settings or another number of shards. The files are
    /// damaged elsewhere than at the end. Another process writes this shard.
    pub fn open(dir: &Path, spec: &StoreSpec, shard: Shard) -> Result<ShardWriter, StoreError> {
        ShardWriter::open_for(dir, spec, shard, &[])
    }

    /// As [`ShardWriter::open`]; also updates labels, splits and groups of finished items from the
    /// listed `items`. The list of labels may change; other shards keep their list until they are
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

    /// As [`ShardWriter::open_for`]; `when_changed` states what to do with changed recordings.
    ///
    /// # Errors
    /// As [`ShardWriter::open`]; with [`WhenChanged::Refuse`] also if a recording has changed.
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
        // The lock is held as long as the file is open; the system releases it however the process
        // ends. On a file system without locks the shard is not locked.
        if let Err(TryLockError::WouldBlock) = rows.try_lock() {
            return Err(StoreError::Busy {
                path: dir.to_owned(),
                shard,
            });
        }
        let lock = ShardLock(rows.try_clone().map_err(StoreError::disk(&rows_path))?);
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
        // The index is truncated first: it must never refer to missing rows.
        files::set_len(&index, index_bytes).map_err(StoreError::disk(&index_path))?;
        files::set_len(&rows, row_bytes).map_err(StoreError::disk(&rows_path))?;
        text.truncate(index_bytes as usize);
        // Read again under the lock: the writer of another shard may have changed `store.json`.
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
            // `store.json` is replaced before the index: it keeps the list that the old index uses.
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
            _lock: lock,
        })
    }

    /// Number of finished items that were dropped on opening, because their data at the end of the
    /// files was damaged.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Numbers of finished items whose metadata were different in the listing given on opening.
    pub fn relabelled(&self) -> Relabelled {
        self.relabelled
    }

    /// Ids of the finished items whose recordings have changed. Their rows are kept or extracted
    /// again, as selected on opening.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// Flushes finished items to the disk: first the rows, then the index.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        files::sync(&self.rows).map_err(StoreError::disk(&self.rows_path))?;
        files::sync(&self.index).map_err(StoreError::disk(&self.index_path))?;
        (self.unsynced_items, self.synced_at_nanos) = (0, monotonic_nanos());
        Ok(())
    }

    /// Counts a finished item, and flushes to the disk if items or time require it.
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

    /// Whether the item with the id `item` is finished, with or without rows.
    pub fn is_done(&self, item: &str) -> bool {
        self.done.contains(item)
    }

    /// Adds a finished item with its rows (metadata and values), without stamps of its recording.
    /// Errors are those of [`ShardWriter::push_from`].
    pub fn push(&mut self, item: &str, rows: &[(Entry, Vec<f32>)]) -> Result<(), StoreError> {
        self.push_from(item, &[], rows)
    }

    /// Adds a finished item with its rows (metadata and values). `media`: a [`FileStamp`] for each
    /// file of its recording, from which a later run detects changed files.
    ///
    /// # Errors
    /// A row does not have the store's number of values, or the disk fails; the item is then not
    /// added.
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
            // Removes the half-written rows now, and not only on the next resume.
            let _ = files::set_len(&self.rows, before)
                .and_then(|()| self.rows.seek(SeekFrom::Start(before)));
            return Err(error);
        }
        self.finished(line.item)
    }

    /// Adds a finished item without rows and without stamps of its recording; `reason` states why
    /// it has no rows. Fails if the disk fails.
    pub fn skip(&mut self, item: &str, reason: &str) -> Result<(), StoreError> {
        self.skip_from(item, &[], reason)
    }

    /// Adds a finished item without rows; `reason` states why it has none. `media`: the stamps of
    /// its recording's files.
    ///
    /// # Errors
    /// The disk fails.
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

    /// Appends a line to the index; removes it again if only a part could be written.
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

/// Fails if the folder has a shard of a store with another number of shards.
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
