//! Graph files of the face networks, checked against the `provenance.toml` beside them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::encode::{EncodeError, Graph, Provider, Runtime};
use crate::manifest::hex_sha256;

/// What a conversion left beside the graphs that it wrote (`expressd-train import mtcnn`): the hash of each.
#[derive(serde::Deserialize)]
struct Provenance {
    written: BTreeMap<String, String>,
}

/// Opens `<name>.onnx` in `dir`. Where a `provenance.toml` beside it names its hash, it must have that.
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
    let told_by = dir.join("provenance.toml");
    let provenance = std::fs::read_to_string(&told_by)
        .ok()
        .and_then(|text| toml::from_str::<Provenance>(&text).ok());
    if let Some(expected) = provenance
        .as_ref()
        .and_then(|provenance| provenance.written.get(&format!("{name}.onnx")))
    {
        let found = hex_sha256(&bytes);
        if found != *expected {
            return Err(EncodeError::WrongHash {
                path,
                told_by,
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
    fn a_flipped_byte_in_a_converted_graph_is_told() {
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
        let told = open().unwrap_err();
        assert!(
            matches!(&told, EncodeError::WrongHash { .. })
                && told.to_string().contains("pnet.onnx"),
            "{told}"
        );
        // A folder of one's own without provenance is its owner's matter.
        std::fs::remove_file(copy.path().join("provenance.toml")).unwrap();
        assert!(!matches!(open(), Err(EncodeError::WrongHash { .. })));
    }
}
