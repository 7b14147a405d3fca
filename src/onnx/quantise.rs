//! Static int8 quantisation of a convolutional graph. Convolutions and the operators between them
//! run on integers, all other operators in fp32.
//!
//! The result is in ONNX's QDQ form (Jacob et al. 2018, arXiv 1712.05877): QuantizeLinear and
//! DequantizeLinear stand around the operators for which ONNX Runtime's CPU provider has integer
//! kernels. The provider fuses each such group. Activations are unsigned, with a scale and a zero
//! point per tensor; their ranges come from runs of the float graph. Weights are signed and
//! symmetric, with a scale per output channel, and have seven bits. The seven bits avoid
//! saturation: without VNNI the provider adds two products `u8 * i8` in 16 bits, which saturate
//! beyond 2 * 255 * 64. The same graph would give other results on an older processor (ONNX
//! Runtime's documentation, "reduce_range").

mod fold;
mod plan;
mod ranges;
#[cfg(test)]
mod tests;

use anyhow::{Context, ensure};
use prost::Message;

use super::FLOAT;
use super::proto::*;
use crate::encode::{Graph, Input, Provider, Runtime};

/// Value for the only input of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub values: Vec<f32>,
}

impl Example {
    /// Borrows this example as an argument of [`Graph::run`].
    pub fn input(&self) -> Input<'_> {
        Input::F32(&self.shape, &self.values)
    }
}

/// An int8 graph and its measured error.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The graph as an ONNX file.
    pub bytes: Vec<u8>,
    /// Share of values, in [0, 1], that are clipped at each end of a tensor's range; 0: no
    /// clipping.
    pub beyond: f64,
    /// Mean squared error of the graph's first output against that of the float graph, divided by
    /// the mean square of the latter. Measured on inputs that did not determine the ranges.
    pub error: f64,
}

/// Candidates for [`Quantised::beyond`]. Clipping more values makes the quantisation steps smaller.
const BEYOND: [f64; 4] = [0.0, 1e-5, 1e-4, 1e-3];

/// Quantises a float graph with one input. Two of every three `inputs` determine the value ranges;
/// the third selects the share of clipped values that gives the least error.
///
/// # Errors
/// `bytes` is not an ONNX file with a convolution, its operator set is below 13, an operator has
/// subgraphs (branches, loops), or there are fewer than three inputs.
pub fn quantise(runtime: &Runtime, bytes: &[u8], inputs: &[Example]) -> anyhow::Result<Quantised> {
    ensure!(
        inputs.len() >= 3,
        "{} inputs are too few for a calibration",
        inputs.len()
    );
    let folded = fold::fold(read(bytes)?)?;
    let plan = plan::Plan::new(folded.graph.as_ref().context("the file holds no graph")?)?;
    let (mut calibration, mut held_out) = (Vec::new(), Vec::new());
    for (i, example) in inputs.iter().enumerate() {
        if i % 3 == 2 {
            &mut held_out
        } else {
            &mut calibration
        }
        .push(example);
    }
    let histograms = ranges::observe(runtime, &folded, &plan.observed(), &calibration)?;
    let expected = first_outputs(runtime, bytes, &held_out)?;
    let power: f64 = expected.iter().map(|v| f64::from(*v).powi(2)).sum();
    let mut best: Option<Quantised> = None;
    for beyond in BEYOND {
        let steps = histograms
            .iter()
            .map(|(name, histogram)| (name.clone(), histogram.step(beyond)))
            .collect();
        let bytes = plan.write(&folded, &steps)?.encode_to_vec();
        let found = first_outputs(runtime, &bytes, &held_out)?;
        ensure!(
            found.len() == expected.len(),
            "the int8 graph returns {} values, expected {}",
            found.len(),
            expected.len()
        );
        let error = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            / power.max(f64::MIN_POSITIVE);
        if best.as_ref().is_none_or(|best| error < best.error) {
            best = Some(Quantised {
                bytes,
                beyond,
                error,
            });
        }
    }
    best.context("no quantisation was tried")
}

/// Decodes an ONNX file; fails for an operator set below 13 and for operators with subgraphs.
fn read(bytes: &[u8]) -> anyhow::Result<ModelProto> {
    let model = ModelProto::decode(bytes).context("this is not an ONNX file")?;
    let opset = model
        .opset_import
        .iter()
        .find(|set| matches!(&*set.domain, "" | "ai.onnx"))
        .map_or(0, |set| set.version);
    ensure!(
        opset >= 13,
        "operator set {opset} is too old: per-channel quantised weights need 13"
    );
    let graph = model.graph.as_ref().context("the file holds no graph")?;
    // The bodies of these operators are subgraphs, which the quantisation does not visit.
    let nested = graph
        .node
        .iter()
        .find(|node| matches!(&*node.op_type, "If" | "Loop" | "Scan"));
    ensure!(
        nested.is_none(),
        "a graph with the operator {} is not supported",
        nested.map_or("", |node| &node.op_type)
    );
    Ok(model)
}

/// Runs the graph on every input; returns the first outputs, concatenated.
fn first_outputs(runtime: &Runtime, bytes: &[u8], inputs: &[&Example]) -> anyhow::Result<Vec<f32>> {
    let mut graph = Graph::open(runtime, "trial", bytes, Provider::Cpu, 1)?;
    let mut all = Vec::new();
    for example in inputs {
        all.extend(graph.run(&[example.input()])?.swap_remove(0).values);
    }
    Ok(all)
}

/// Shape and values of a constant of 32-bit floats; `None` if `name` is not such a constant.
fn constant<'a>(graph: &'a GraphProto, name: &str) -> Option<(&'a [i64], Vec<f32>)> {
    let tensor = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name == name && tensor.data_type == FLOAT)?;
    let raw = || {
        tensor
            .raw_data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    };
    let values: Vec<f32> = if tensor.float_data.is_empty() {
        raw()
    } else {
        tensor.float_data.clone()
    };
    (values.len() as i64 == tensor.dims.iter().product::<i64>())
        .then_some((&tensor.dims[..], values))
}

/// Indices in `graph.node` of the nodes that read `tensor`.
fn readers(graph: &GraphProto, tensor: &str) -> Vec<usize> {
    graph
        .node
        .iter()
        .enumerate()
        .filter(|(_, node)| node.input.iter().any(|input| input == tensor))
        .map(|(i, _)| i)
        .collect()
}

fn is_output(graph: &GraphProto, tensor: &str) -> bool {
    graph.output.iter().any(|output| output.name == tensor)
}

/// Removes the constants that no node reads and that are not outputs of the graph.
fn drop_unread(graph: &mut GraphProto) {
    let mut constants = std::mem::take(&mut graph.initializer);
    constants.retain(|tensor| {
        is_output(graph, &tensor.name) || !readers(graph, &tensor.name).is_empty()
    });
    graph.initializer = constants;
}
