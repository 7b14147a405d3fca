//! A convolutional graph in eight bits: convolutions, and what lies between them, on integers; the rest as it was.
//!
//! Static quantisation in ONNX's QDQ form (Jacob et al. 2018, arXiv 1712.05877): QuantizeLinear and DequantizeLinear around what ONNX
//! Runtime's CPU provider has integer kernels for, and it joins each such group into one. Activations are unsigned, a scale and a zero
//! point for each tensor, their ranges found by running the float graph. Weights are signed and symmetric, a scale for each output
//! channel, and of seven bits: without VNNI the provider adds two products `u8 * i8` in 16 bits, which saturate beyond
//! 2 * 255 * 64, so that the same graph would answer otherwise on an older processor (ONNX Runtime's documentation, "reduce_range").

mod fold;
mod place;
mod ranges;
#[cfg(test)]
mod tests;

use anyhow::{Context, ensure};
use prost::Message;

use super::FLOAT;
use super::proto::*;
use crate::encode::{Graph, Input, Provider, Runtime};

/// One input of a graph that has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Example {
    /// As a graph takes it.
    pub fn input(&self) -> Input<'_> {
        Input::F32(&self.shape, &self.values)
    }
}

/// A graph in eight bits.
#[derive(Clone, Debug)]
pub struct Quantised {
    pub bytes: Vec<u8>,
    /// The share of values beyond each end of a tensor's range, which are cut off; 0: none.
    pub beyond: f64,
    /// Mean square difference of the first output from the float graph's, as a share of that output's mean square, on inputs that
    /// ranges were not taken from.
    pub error: f64,
}

/// What is tried of [`Quantised::beyond`]: finer steps for most values against a few that are cut off.
const BEYOND: [f64; 4] = [0.0, 1e-5, 1e-4, 1e-3];

/// Puts a float graph of one input into eight bits, by what `inputs` make of it: two of three give the ranges, the third says which
/// way of taking them errs least.
///
/// # Errors
/// Bytes that are no such graph, operators that it can not see through (branches, loops), and less than three inputs.
pub fn quantise(runtime: &Runtime, bytes: &[u8], inputs: &[Example]) -> anyhow::Result<Quantised> {
    ensure!(
        inputs.len() >= 3,
        "{} inputs are too few to take ranges from",
        inputs.len()
    );
    let folded = fold::fold(read(bytes)?)?;
    let plan = place::Plan::of(folded.graph.as_ref().context("the file holds no graph")?)?;
    let (mut seen, mut tried) = (Vec::new(), Vec::new());
    for (i, example) in inputs.iter().enumerate() {
        if i % 3 == 2 { &mut tried } else { &mut seen }.push(example);
    }
    let spread = ranges::observe(runtime, &folded, &plan.observed(), &seen)?;
    let expected = first_outputs(runtime, bytes, &tried)?;
    let power: f64 = expected.iter().map(|v| f64::from(*v).powi(2)).sum();
    let mut best: Option<Quantised> = None;
    for beyond in BEYOND {
        let steps = spread
            .iter()
            .map(|(name, histogram)| (name.clone(), histogram.step(beyond)))
            .collect();
        let bytes = plan.write(&folded, &steps)?.encode_to_vec();
        let found = first_outputs(runtime, &bytes, &tried)?;
        ensure!(
            found.len() == expected.len(),
            "in eight bits the graph gives {} values, expected {}",
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
    best.context("nothing was tried")
}

fn read(bytes: &[u8]) -> anyhow::Result<ModelProto> {
    let model = ModelProto::decode(bytes).context("this is no ONNX file")?;
    let opset = model
        .opset_import
        .iter()
        .find(|set| matches!(&*set.domain, "" | "ai.onnx"))
        .map_or(0, |set| set.version);
    ensure!(
        opset >= 13,
        "operator set {opset} is too old: quantised weights by channel came with 13"
    );
    let graph = model.graph.as_ref().context("the file holds no graph")?;
    // Their bodies are graphs of their own, which this reader leaves out.
    let nested = graph
        .node
        .iter()
        .find(|node| matches!(&*node.op_type, "If" | "Loop" | "Scan"));
    ensure!(
        nested.is_none(),
        "a graph with {} is not understood",
        nested.map_or("", |node| &node.op_type)
    );
    Ok(model)
}

/// The first output for every input, one after the other.
fn first_outputs(runtime: &Runtime, bytes: &[u8], inputs: &[&Example]) -> anyhow::Result<Vec<f32>> {
    let mut graph = Graph::open(runtime, "trial", bytes, Provider::Cpu, 1)?;
    let mut all = Vec::new();
    for example in inputs {
        all.extend(graph.run(&[example.input()])?.swap_remove(0).values);
    }
    Ok(all)
}

/// A constant's values, where it is one of floats.
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

/// Places of the nodes that read a tensor.
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

/// Leaves out the constants that nothing reads.
fn drop_unread(graph: &mut GraphProto) {
    let mut constants = std::mem::take(&mut graph.initializer);
    constants.retain(|tensor| {
        is_output(graph, &tensor.name) || !readers(graph, &tensor.name).is_empty()
    });
    graph.initializer = constants;
}
