//! ONet, MTCNN's last network: square crops to face probability, box regression and five landmarks.
//!
//! It ends the detector's cascade, and the tracker runs it on every frame.

use std::path::Path;

use super::provenance::open_graph;
use crate::clip::Landmarks;
use crate::encode::{EncodeError, Graph, Input, Provider, Runtime};

/// Side of the network's input.
pub const INPUT_SIDE: usize = 48;
/// Number of values of an input `[3, 48, 48]`.
pub const INPUT_VALUES: usize = 3 * INPUT_SIDE * INPUT_SIDE;

/// Output of the network for one crop, in shares of the crop's sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refinement {
    /// Probability of a face, 0..1.
    pub score: f32,
    /// Offsets of the corners `x1, y1, x2, y2` from the crop's own.
    pub regression: [f32; 4],
    pub landmarks: Landmarks,
}

/// ONet. Owned by one thread.
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

    /// Runs on crops `[n, 3, 48, 48]` of `(value - 127.5) / 128`, all in one run. Does not run for
    /// zero crops.
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
