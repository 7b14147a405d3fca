//! ONet, MTCNN's last network: it computes face probability, box and five landmarks from a square
//! crop.
//!
//! The detector MTCNN uses it, and the tracker runs it on every frame.

use std::path::Path;

use super::provenance::open_graph;
use crate::clip::Landmarks;
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};

/// Side of ONet's input, in pixels.
pub const INPUT_SIDE: usize = 48;
/// Number of values of one input of ONet, `[3, 48, 48]`.
pub const INPUT_VALUES: usize = 3 * INPUT_SIDE * INPUT_SIDE;

/// The output of ONet for one crop. Coordinates are shares of the crop's side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refinement {
    /// Probability of a face, 0..1.
    pub score: f32,
    /// Offsets of the face's corners `x1, y1, x2, y2` from the corners of the crop.
    pub regression: [f32; 4],
    /// Landmarks from the top left corner of the crop.
    pub landmarks: Landmarks,
}

/// The network ONet. Owned by one thread.
#[derive(Debug)]
pub struct Refiner {
    graph: Graph,
}

impl Refiner {
    /// Opens `onet.onnx` in `dir`.
    ///
    /// # Errors
    /// The graph is missing, does not match `provenance.toml`, or cannot be opened.
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

    /// Runs ONet once on all `crops`: `[n, 3, 48, 48]`, planes R, G, B, with values `(v - 127.5) /
    /// 128` for `v` in 0..255. Returns one result for each crop; an empty list for no crops,
    /// without a run.
    ///
    /// # Errors
    /// The graph fails, or its outputs have other shapes.
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

/// The values of ONet's three outputs for `count` crops: regressions, landmarks, probabilities.
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
