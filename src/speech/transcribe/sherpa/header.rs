//! The metadata of an ONNX file, read without its weights.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Longest accepted key or value of the metadata, in bytes. In published models the longest are
/// Paraformer's lists of means, with 8 kB.
const LONGEST_ENTRY: u64 = 1 << 20;
/// Number of the field `ModelProto.graph` in `onnx.proto`.
const MODEL_GRAPH: u64 = 7;
/// Number of the field `ModelProto.metadata_props`.
const MODEL_METADATA: u64 = 14;
/// Number of the field `GraphProto.output`.
const GRAPH_OUTPUT: u64 = 12;

/// The metadata of an ONNX file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Keys and values of `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Number of outputs of the graph.
    pub outputs: usize,
}

impl Header {
    /// Reads the metadata of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is not a complete ONNX file.
    pub fn read(path: &Path) -> io::Result<Header> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = FieldReader {
            file: BufReader::new(file),
            at: 0,
        };
        let mut header = Header::default();
        let mut has_graph = false;
        while reader.at < length {
            match reader.field(length)? {
                (MODEL_GRAPH, Some(end)) => {
                    has_graph = true;
                    while reader.at < end {
                        let (number, field_end) = reader.field(end)?;
                        header.outputs += usize::from(number == GRAPH_OUTPUT);
                        reader.skip_to(field_end)?;
                    }
                }
                (MODEL_METADATA, Some(end)) => {
                    let (key, value) = reader.entry(end)?;
                    header.metadata.insert(key, value);
                }
                (_, end) => reader.skip_to(end)?,
            }
        }
        if !has_graph {
            return Err(broken("it has no graph"));
        }
        Ok(header)
    }
}

/// The error for a file that is not a complete ONNX file.
fn broken(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A reader of protocol-buffer fields.
struct FieldReader {
    file: BufReader<File>,
    at: u64,
}

impl FieldReader {
    /// Reads the head of the next field: its number, and the byte offset at which its content ends.
    /// A varint is read completely and has no end. `limit`: byte offset that the field must not
    /// exceed.
    fn field(&mut self, limit: u64) -> io::Result<(u64, Option<u64>)> {
        let key = self.varint()?;
        let end = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => Some(self.at + 8),
            2 => {
                let length = self.varint()?;
                Some(
                    self.at
                        .checked_add(length)
                        .ok_or_else(|| broken("it is not an ONNX file"))?,
                )
            }
            5 => Some(self.at + 4),
            _ => return Err(broken("it is not an ONNX file")),
        };
        if end.unwrap_or(self.at) > limit {
            return Err(broken("it is not an ONNX file, or an incomplete one"));
        }
        Ok((key >> 3, end))
    }

    /// Reads a variable-length integer.
    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file
                .read_exact(&mut byte)
                .map_err(|_| broken("it is not an ONNX file, or an incomplete one"))?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("it is not an ONNX file"))
    }

    /// Skips the bytes up to the offset `end`; nothing for a varint.
    fn skip_to(&mut self, end: Option<u64>) -> io::Result<()> {
        if let Some(end) = end {
            self.file.seek_relative((end - self.at) as i64)?;
            self.at = end;
        }
        Ok(())
    }

    /// Reads a `StringStringEntryProto` that ends at byte offset `end`: its key and its value.
    fn entry(&mut self, end: u64) -> io::Result<(String, String)> {
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            match self.field(end)? {
                (number @ (1 | 2), Some(text_end)) => {
                    let length = text_end - self.at;
                    if length > LONGEST_ENTRY {
                        return Err(broken("an entry of its metadata is too long"));
                    }
                    let mut bytes = vec![0; length as usize];
                    self.file.read_exact(&mut bytes)?;
                    self.at = text_end;
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if number == 1 {
                        key = text
                    } else {
                        value = text
                    }
                }
                (_, other) => self.skip_to(other)?,
            }
        }
        Ok((key, value))
    }
}
