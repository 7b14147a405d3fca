//! Recovery of a shard on resume: drops the items at the end of its files that a kill or a power
//! cut damaged.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::StoreError;
use super::index::{Header, Line};

/// Finished items are flushed to the disk after this number of items, so a power cut loses at most
/// as many. A kill of the process loses none.
pub(super) const SYNC_AFTER_ITEMS: usize = 64;

/// The undamaged part of a shard, which is kept.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Ids of the finished items whose lines are kept and not stale.
    pub done: HashSet<String>,
    /// Length to which the index is truncated.
    pub index_bytes: u64,
    /// Length to which the file of rows is truncated.
    pub row_bytes: u64,
    /// Number of finished items that are dropped.
    pub dropped: usize,
}

/// A line of the index, and where it ends.
struct Placed {
    line: Line,
    /// Position behind the line in the index, in bytes.
    end: usize,
    /// Number of the line's first row in the file of rows.
    first_row: u64,
}

/// Checks the index `text` (with its header, if there is one) against the file `rows`, whose rows
/// have `dim` values. Drops lines at the end of the index that lack a newline, cannot be parsed, or
/// whose rows are missing or have a wrong checksum.
///
/// # Errors
/// An undamaged line follows a damaged one, which a power cut cannot cause. Only the last rows are
/// checked, because a power cut cannot have damaged earlier ones; the reader checks all.
pub(super) fn recover(
    text: &[u8],
    rows: &File,
    rows_path: &Path,
    index_path: &Path,
    dim: usize,
) -> Result<Recovered, StoreError> {
    let row_bytes = dim as u64 * 4;
    let held = rows.metadata().map_err(StoreError::disk(rows_path))?.len();
    let (mut lines, mut end, mut row, mut broken) = (Vec::new(), 0, 0, None);
    let mut whole = 0;
    let header_bytes = Header::parse_start(text).map_or(0, |(_, bytes)| bytes);
    for (number, line) in text
        .split_inclusive(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| line.ends_with(b"\n"))
    {
        end += line.len();
        if end <= header_bytes {
            continue;
        }
        whole += 1;
        match serde_json::from_slice::<Line>(line) {
            Err(error) => _ = broken.get_or_insert(format!("line {} is {error}", number + 1)),
            Ok(line) => {
                if let Some(what) = broken {
                    return Err(StoreError::Malformed {
                        path: index_path.to_owned(),
                        what,
                    });
                }
                let count = line.rows.len() as u64;
                lines.push(Placed {
                    line,
                    end,
                    first_row: row,
                });
                row += count;
            }
        }
    }
    let mut bytes = vec![0u8; row_bytes as usize];
    let mut is_good = |placed: &Placed| -> Result<bool, StoreError> {
        for (i, stored) in placed.line.rows.iter().enumerate() {
            let at = (placed.first_row + i as u64) * row_bytes;
            if at + row_bytes > held {
                return Ok(false);
            }
            rows.read_exact_at(&mut bytes, at)
                .map_err(StoreError::disk(rows_path))?;
            if crc32fast::hash(&bytes) != stored.crc32 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut keep = lines.len();
    let mut good = 0;
    for (i, placed) in lines
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, placed)| !placed.line.rows.is_empty())
    {
        // Earlier rows were flushed to the disk before a power cut.
        if good > SYNC_AFTER_ITEMS {
            break;
        }
        match (is_good(placed)?, good) {
            (true, _) => good += 1,
            (false, 0) => keep = i,
            (false, _) => {
                return Err(StoreError::Damaged {
                    path: rows_path.to_owned(),
                    id: placed.line.item.clone(),
                });
            }
        }
    }
    let kept = &lines[..keep];
    let row_count = lines.get(keep).map_or(row, |next| next.first_row);
    Ok(Recovered {
        done: (kept.iter().filter(|placed| !placed.line.stale))
            .map(|placed| placed.line.item.clone())
            .collect(),
        index_bytes: kept.last().map_or(header_bytes, |placed| placed.end) as u64,
        row_bytes: row_count * row_bytes,
        dropped: whole - keep,
    })
}
