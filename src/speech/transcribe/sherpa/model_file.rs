//! One ONNX file of a model, and checks of its metadata.

use std::path::Path;

use super::header::Header;
use crate::speech::TranscribeError;

/// Remedy in the errors for folders without a usable model.
pub(super) const REMEDY: &str = "name the unpacked folder of a streaming model for sherpa-onnx";

/// A model file with its metadata.
pub(super) struct ModelFile<'a> {
    /// Path of the file.
    pub path: &'a Path,
    pub header: Header,
}

impl<'a> ModelFile<'a> {
    /// Reads the metadata of the file at `path`.
    pub fn read(path: &'a Path) -> Result<Self, TranscribeError> {
        Ok(ModelFile {
            path,
            header: read_header(path)?,
        })
    }

    /// Checks that the metadata have a valid value for each of `keys`.
    ///
    /// # Errors
    /// The metadata lack a key, or a value is out of range.
    pub fn require(&self, keys: &[&str]) -> Result<(), TranscribeError> {
        for key in keys {
            let Some(value) = self.header.metadata.get(*key) else {
                return Err(unusable(
                    self.path,
                    format!(
                        "its metadata has no {key}: it is not a streaming model, or an old export"
                    ),
                ));
            };
            let mut numbers = value.split(',').map(str::trim);
            let fine = if matches!(*key, "neg_mean" | "inv_stddev") {
                numbers.all(|number| number.parse::<f32>().is_ok())
            } else {
                let least = if matches!(
                    *key,
                    "T" | "decode_chunk_len"
                        | "window_size"
                        | "chunk_shift"
                        | "subsampling_factor"
                        | "frame_length_ms"
                ) {
                    1
                } else {
                    0
                };
                numbers.all(|number| number.parse::<i32>().is_ok_and(|number| number >= least))
            };
            if !fine {
                return Err(unusable(
                    self.path,
                    format!("its metadata's {key} is not a valid number"),
                ));
            }
        }
        Ok(())
    }

    /// The value of the metadata key `key` as an integer.
    pub fn number(&self, key: &str) -> Result<i64, TranscribeError> {
        let value = self
            .header
            .metadata
            .get(key)
            .and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| {
            unusable(
                self.path,
                format!("its metadata's {key} is not a valid number"),
            )
        })
    }
}

/// The error for a file that sherpa-onnx would not accept.
pub(super) fn unusable(path: &Path, problem: String) -> TranscribeError {
    TranscribeError::Unusable {
        path: path.to_owned(),
        problem,
        remedy: REMEDY,
    }
}

/// Reads the metadata of the file at `path`; the error names the file.
pub(super) fn read_header(path: &Path) -> Result<Header, TranscribeError> {
    Header::read(path).map_err(|error| unusable(path, error.to_string()))
}
