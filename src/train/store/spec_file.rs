//! `store.json`: the properties of a store on disk.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{RECORDING, SCHEMA, Shard, StoreError, StoreSpec, WINDOW, files};

/// The content of `store.json`: the store's properties and its first list of labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SpecFile {
    #[serde(flatten)]
    pub spec: StoreSpec,
    /// The store's first list of labels, which the targets of an index without a header use.
    /// `None`: it is `spec.labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_labels: Option<Vec<String>>,
}

impl SpecFile {
    /// The path of `store.json` in the store's folder `dir`.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("store.json")
    }

    /// Reads the `store.json` of the store in `dir`.
    ///
    /// # Errors
    /// The file is missing or malformed, or its schema is newer than [`SCHEMA`].
    pub fn read(dir: &Path) -> Result<SpecFile, StoreError> {
        let path = SpecFile::path(dir);
        let text = std::fs::read(&path).map_err(StoreError::disk(&path))?;
        let malformed = |what: String| StoreError::Malformed {
            path: path.clone(),
            what,
        };
        // `first_labels` is removed by hand: serde cannot combine `flatten` with
        // `deny_unknown_fields`.
        let parse = || -> serde_json::Result<SpecFile> {
            let mut all: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(&text)?;
            let first_labels = all
                .remove("first_labels")
                .map(serde_json::from_value)
                .transpose()?;
            let spec = serde_json::from_value(all.into())?;
            Ok(SpecFile { spec, first_labels })
        };
        let found = parse().map_err(|error| malformed(error.to_string()))?;
        let schema = found.spec.schema;
        if !(1..=SCHEMA).contains(&schema) {
            return Err(malformed(format!(
                "its schema is {schema}, this program reads 1 to {SCHEMA}"
            )));
        }
        Ok(found)
    }

    /// The labels that the targets of an index without a header use.
    pub fn labels_without_header(&self) -> &[String] {
        self.first_labels.as_deref().unwrap_or(&self.spec.labels)
    }

    /// The same properties with another list of labels. The store's first list is kept for indices
    /// without a header.
    pub fn with_labels(self, labels: &[String]) -> SpecFile {
        // If the first list is empty, no row has a target that needs it.
        let first = self.first_labels.unwrap_or(self.spec.labels);
        SpecFile {
            first_labels: (!first.is_empty()).then_some(first),
            spec: StoreSpec {
                labels: labels.to_vec(),
                ..self.spec
            },
        }
    }

    /// Writes the file unless it exists. Several machines may begin shards at the same time; the
    /// first file is kept. `shard`: the shard of the caller.
    pub fn create(&self, dir: &Path, shard: Shard) -> Result<(), StoreError> {
        let path = SpecFile::path(dir);
        files::create(&path, &temporary(dir, shard), &self.text()).map_err(StoreError::disk(&path))
    }

    /// Replaces the file atomically. `shard`: the shard of the caller.
    pub fn replace(&self, dir: &Path, shard: Shard) -> Result<(), StoreError> {
        let path = SpecFile::path(dir);
        files::replace(&path, &temporary(dir, shard), &self.text()).map_err(StoreError::disk(&path))
    }

    /// The file's content as JSON, with the schema of this version.
    fn text(&self) -> Vec<u8> {
        let current = SpecFile {
            spec: StoreSpec {
                schema: SCHEMA,
                ..self.spec.clone()
            },
            first_labels: self.first_labels.clone(),
        };
        serde_json::to_vec_pretty(&current).expect("a spec serialises")
    }
}

/// A path of a temporary file that no other writer of the store uses. Processes in different
/// containers may have equal process ids, but they write different shards.
fn temporary(dir: &Path, shard: Shard) -> PathBuf {
    dir.join(format!("store.json.{shard}.{}.tmp", std::process::id()))
}

/// Creates `store.json` from `spec`, or compares `spec` with the existing file; only the labels may
/// differ. Returns the content of the file.
///
/// # Errors
/// [`StoreError::Different`]: the store was made with other properties.
pub(super) fn agree(dir: &Path, spec: &StoreSpec, shard: Shard) -> Result<SpecFile, StoreError> {
    if !SpecFile::path(dir).exists() {
        let new = SpecFile {
            spec: spec.clone(),
            first_labels: None,
        };
        new.create(dir, shard)?;
    }
    let file = SpecFile::read(dir)?;
    let found = &file.spec;
    let refuse = |what: String| {
        Err(StoreError::Different {
            path: dir.to_owned(),
            what,
        })
    };
    let different = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        refuse(format!("its {what} is {theirs:?}, not {ours:?}"))
    };
    if found.fingerprint != spec.fingerprint {
        return different("fingerprint", &spec.fingerprint, &found.fingerprint);
    }
    if found.dataset != spec.dataset {
        return different("data set", &spec.dataset, &found.dataset);
    }
    if found.labels != spec.labels && spec.labels.is_empty() {
        return refuse(format!(
            "its labels are {}, and the data set has none (any more)",
            found.labels.join(", ")
        ));
    }
    if found.clips == "recording" && spec.clips == RECORDING {
        return refuse(
            "an earlier version made a recording's row of the last faces of its windows, this one \
             makes it of all: extract into another store"
                .into(),
        );
    }
    if found.clips == RECORDING && spec.clips == WINDOW {
        return refuse(
            "it has a row per recording (--clips recording, the default of earlier versions), and \
             a row per window was asked for: add --clips recording to continue it, or extract into \
             another store for a bundle that is served live"
                .into(),
        );
    }
    if found.clips != spec.clips {
        return different("clips rule", &spec.clips, &found.clips);
    }
    // A store of an earlier version has no window here; its fingerprint covers the window.
    if found.window.is_some() && spec.window.is_some() && found.window != spec.window {
        return different("window", &spec.window, &found.window);
    }
    if found.views != spec.views {
        return different("number of views", &spec.views, &found.views);
    }
    if found.schema < 2 && shard.count > 1 {
        return refuse(
            "an earlier version dealt its items to shards by their places in the listing, this \
             one deals them by their ids"
                .into(),
        );
    }
    if found.encoders != spec.encoders {
        return different("encoders", &spec.encoders, &found.encoders);
    }
    Ok(file)
}
