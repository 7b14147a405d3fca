//! MTCNN's last network: from a square crop to probability, box and five landmarks. It ends the detector's cascade, and it follows faces.

use std::collections::BTreeMap;
use std::path::Path;

use super::detect::{Detection, is_mtcnn};
use super::pose::detected_facing;
use super::yunet::CropDetector;
use crate::clip::Landmarks;
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};
use crate::manifest::hex_sha256;

/// Side of the network's input.
pub const INPUT_SIDE: usize = 48;
/// Values of one input: three planes.
pub const INPUT_VALUES: usize = 3 * INPUT_SIDE * INPUT_SIDE;

/// What the network says of one crop, in shares of the crop's sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refinement {
    /// That this is a face, 0..1.
    pub score: f32,
    /// How far the corners `x1, y1, x2, y2` are from the crop's own.
    pub regression: [f32; 4],
    pub landmarks: Landmarks,
}

/// ONet.
#[derive(Debug)]
pub struct Refiner {
    graph: Graph,
}

impl Refiner {
    /// Opens `onet.onnx` in `dir`.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<Refiner, EncodeError> {
        Ok(Refiner {
            graph: open_graph(runtime, dir, "onet", provider, threads)?,
        })
    }

    /// Runs on crops `[n, 3, 48, 48]` of `(value - 127.5) / 128`, all in one run. Nothing is run for no crop.
    pub fn refine(&mut self, crops: &[f32]) -> Result<Vec<Refinement>, EncodeError> {
        let count = crops.len() / INPUT_VALUES;
        if count == 0 {
            return Ok(Vec::new());
        }
        let outputs = self
            .graph
            .run(&[Input::F32(&[count, 3, INPUT_SIDE, INPUT_SIDE], crops)])?;
        let [regressions, landmarks, probabilities] = three(&self.graph, &outputs, count)?;
        Ok((0..count)
            .map(|i| {
                let points = &landmarks[i * 10..i * 10 + 10];
                Refinement {
                    score: probabilities[2 * i + 1],
                    regression: std::array::from_fn(|k| regressions[4 * i + k]),
                    landmarks: std::array::from_fn(|k| [points[k], points[5 + k]]),
                }
            })
            .collect())
    }
}

fn three<'a>(
    graph: &Graph,
    outputs: &'a [crate::encode::Output],
    count: usize,
) -> Result<[&'a [f32]; 3], EncodeError> {
    match outputs {
        [a, b, c]
            if a.values.len() == 4 * count
                && b.values.len() == 10 * count
                && c.values.len() == 2 * count =>
        {
            Ok([&a.values, &b.values, &c.values])
        }
        _ => Err(EncodeError::WrongOutput {
            graph: graph.name().to_owned(),
            found: format!("{:?}", outputs.iter().map(|o| &o.shape).collect::<Vec<_>>()),
            expected: format!("[{count}, 4], [{count}, 10] and [{count}, 2]"),
        }),
    }
}

/// The networks that follow faces from frame to frame.
#[derive(Debug)]
pub struct Follower {
    pub(super) refiner: Refiner,
    /// Finds a face where the refiner recognises none. Not with MTCNN as detector: what MTCNN
    /// finds, its last network recognises.
    pub(super) crops: Option<CropDetector>,
}

impl Follower {
    /// Opens `onet.onnx` in `tracker`, and `yunet.onnx` in `detector` if that is the detector
    /// there.
    ///
    /// # Errors
    /// A graph that is missing, is another than its `provenance.toml` says, or cannot be opened.
    pub fn open(
        runtime: &Runtime,
        tracker: &Path,
        detector: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<Follower, EncodeError> {
        Ok(Follower {
            refiner: Refiner::open(runtime, tracker, provider, threads)?,
            crops: if is_mtcnn(detector) {
                None
            } else {
                Some(CropDetector::open(runtime, detector, provider, threads)?)
            },
        })
    }
}

impl Follower {
    /// 1 for a detected face towards the camera, 0 for a profile. Always 1 with MTCNN, beside which
    /// the tracker's landmarks alone decide.
    pub(super) fn facing(&self, detection: &Detection) -> f32 {
        if self.crops.is_some() {
            detected_facing(&detection.landmarks)
        } else {
            1.0
        }
    }
}

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
