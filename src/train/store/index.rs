//! The lines of a shard's index.

use serde::{Deserialize, Serialize};

use super::{Entry, FileStamp};

/// The first line of an index whose targets do not index the list that the store began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The labels that this shard's targets index.
    pub labels: Vec<String>,
}

impl Header {
    /// The header in a line of an index, if it is one.
    pub fn parse(line: &[u8]) -> Option<Header> {
        serde_json::from_slice(line).ok()
    }

    /// The header at the start of an index, and its length with the line's end.
    pub fn of(text: &[u8]) -> Option<(Header, usize)> {
        let end = text.iter().position(|b| *b == b'\n')? + 1;
        Some((Header::parse(&text[..end])?, end))
    }

    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

/// One line of a shard's index: a finished item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub item: String,
    /// Why it gave no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The recording's files as they were read. Empty: unknown, as in stores of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<FileStamp>,
    /// The recording has changed since: its rows stay in their places and are not used.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<StoredRow>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Line {
    /// The line's text, its end included.
    pub fn text(&self) -> Vec<u8> {
        line(self)
    }
}

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
