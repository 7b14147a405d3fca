//! Opens the graph files of the face networks, and checks them against the `provenance.toml` in
//! their folder.

use std::collections::BTreeMap;
use std::path::Path;

use crate::encode::{EncodeError, Graph, Provider, Runtime};
use crate::manifest::hex_sha256;

/// The content of `provenance.toml`, which `expressd-train import mtcnn` writes into the folder of
/// the graphs.
#[derive(serde::Deserialize)]
struct Provenance {
    /// SHA-256 of each graph in hexadecimal, by file name.
    written: BTreeMap<String, String>,
}

/// Opens the graph `<name>.onnx` in the folder `dir`.
///
/// # Errors
/// The graph or `provenance.toml` cannot be read, or the graph does not match its hash there. A
/// folder without `provenance.toml` is not checked.
pub(super) fn open_graph(
    runtime: &Runtime,
    dir: &Path,
    name: &str,
    provider: Provider,
    threads: usize,
) -> Result<Graph, EncodeError> {
    let path = dir.join(name).with_extension("onnx");
    let bytes = std::fs::read(&path).map_err(|source| EncodeError::NoGraph {
        path: path.clone(),
        source,
    })?;
    let named_by = dir.join("provenance.toml");
    let unreadable = |reason: &dyn std::fmt::Display| EncodeError::BadProvenance {
        path: named_by.clone(),
        reason: reason.to_string().into(),
    };
    let provenance = match std::fs::read_to_string(&named_by) {
        Ok(text) => {
            Some(toml::from_str::<Provenance>(&text).map_err(|e| unreadable(&e.message()))?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(&error)),
    };
    if let Some(expected) = provenance
        .as_ref()
        .and_then(|provenance| provenance.written.get(&format!("{name}.onnx")))
    {
        let found = hex_sha256(&bytes);
        if found != *expected {
            return Err(EncodeError::WrongHash {
                path,
                named_by,
                found: found.into(),
                expected: expected.as_str().into(),
            });
        }
    }
    Graph::open(runtime, name, &bytes, provider, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_with_a_changed_bit_is_refused_by_its_hash() {
        let runtime = Runtime::load().unwrap();
        let (ours, copy) = (
            crate::testing::project("models/mtcnn"),
            tempfile::tempdir().unwrap(),
        );
        for name in ["pnet.onnx", "provenance.toml"] {
            std::fs::copy(ours.join(name), copy.path().join(name)).unwrap();
        }
        let open = || open_graph(&runtime, copy.path(), "pnet", Provider::Cpu, 1);
        open().unwrap();
        let path = copy.path().join("pnet.onnx");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = open().unwrap_err();
        assert!(
            matches!(&error, EncodeError::WrongHash { .. })
                && error.to_string().contains("pnet.onnx"),
            "{error}"
        );
        // A folder without provenance is not checked.
        std::fs::remove_file(copy.path().join("provenance.toml")).unwrap();
        assert!(!matches!(open(), Err(EncodeError::WrongHash { .. })));
    }

    #[test]
    fn a_damaged_provenance_is_an_error_and_not_a_missing_one() {
        let runtime = Runtime::load().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let graph = crate::testing::project("models/mtcnn/pnet.onnx");
        std::fs::copy(graph, copy.path().join("pnet.onnx")).unwrap();
        for damaged in [&b"[written"[..], b"written = 1", b"\xff\xfe"] {
            std::fs::write(copy.path().join("provenance.toml"), damaged).unwrap();
            let error = open_graph(&runtime, copy.path(), "pnet", Provider::Cpu, 1).unwrap_err();
            assert!(
                matches!(&error, EncodeError::BadProvenance { .. })
                    && error.to_string().contains("provenance.toml"),
                "{error}"
            );
        }
    }
}
