//! The index of a shard: a JSON Lines file with an optional header and a line for each finished
//! item.

use serde::{Deserialize, Serialize};

use super::{Entry, FileStamp};

/// The first line of an index whose targets use another list of labels than the store's first list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The labels that the targets in this index refer to.
    pub labels: Vec<String>,
}

impl Header {
    /// Parses a line of an index as a header; `None` if the line is not a header.
    pub fn parse(line: &[u8]) -> Option<Header> {
        serde_json::from_slice(line).ok()
    }

    /// The header at the start of the index `text`, and the length of its line in bytes with the
    /// newline. `None` if the index has no header.
    pub fn parse_start(text: &[u8]) -> Option<(Header, usize)> {
        let end = text.iter().position(|b| *b == b'\n')? + 1;
        Some((Header::parse(&text[..end])?, end))
    }

    /// The header as a line of JSON, with the newline.
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

/// A line of a shard's index: a finished item with the metadata of its rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The item's id.
    pub item: String,
    /// Why the item has no rows; `None` if it has rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The stamps of the recording's files at the time of extraction. Empty: unknown, as in stores
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<FileStamp>,
    /// Whether the recording has changed since the extraction and is to be extracted again. The
    /// rows of a stale line stay in the file and are not used.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    /// The item's rows, in the order of their values in the file of rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<StoredRow>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Line {
    /// The line as JSON, with the newline.
    pub fn text(&self) -> Vec<u8> {
        line(self)
    }
}

/// A row's metadata, and the CRC-32 of its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredRow {
    #[serde(flatten)]
    pub entry: Entry,
    /// Of the values' bytes in the file of rows.
    pub crc32: u32,
}

/// `content` as a line of JSON, with the newline.
fn line(content: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(content).expect("a line serialises");
    text.push(b'\n');
    text
}
