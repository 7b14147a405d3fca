//! The lines of a shard's index.

use serde::{Deserialize, Serialize};

use super::{Entry, FileStamp};

/// The first line of an index, if its targets do not use the store's first list of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The labels that the targets of this shard index.
    pub labels: Vec<String>,
}

impl Header {
    /// The header in a line of an index; `None` if the line is not a header.
    pub fn parse(line: &[u8]) -> Option<Header> {
        serde_json::from_slice(line).ok()
    }

    /// The header at the start of an index, and the length of its line in bytes, newline included;
    /// `None` if there is no header.
    pub fn parse_start(text: &[u8]) -> Option<(Header, usize)> {
        let end = text.iter().position(|b| *b == b'\n')? + 1;
        Some((Header::parse(&text[..end])?, end))
    }

    /// The header as JSON, newline included.
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

/// One line of a shard's index: a finished item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub item: String,
    /// The reason if the item has no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The stamps of the recording's files when they were read. Empty: unknown, as in stores of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<FileStamp>,
    /// Whether the recording has changed since. The rows then stay in the file and are not used.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<StoredRow>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Line {
    /// The line as JSON, newline included.
    pub fn text(&self) -> Vec<u8> {
        line(self)
    }
}

/// A row's metadata, and the checksum of its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredRow {
    #[serde(flatten)]
    pub entry: Entry,
    pub crc32: u32,
}

fn line(content: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(content).expect("a line serialises");
    text.push(b'\n');
    text
}
