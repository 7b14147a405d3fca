//! Selects the nodes that run on integers, and writes the graph with QuantizeLinear and
//! DequantizeLinear around them.

use std::collections::{BTreeMap, BTreeSet};

use super::ranges::Step;
use super::*;

// Codes of `TensorProto.DataType` in `onnx.proto`.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;
/// Largest absolute value of an integer weight: seven bits (see the parent module).
const LARGEST: f32 = 64.0;

/// The nodes and tensors of a graph that run on integers. Nodes are indices in `GraphProto::node`,
/// tensors are names.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Indices of the nodes with integer inputs and outputs.
    integer: BTreeSet<usize>,
    /// Float tensors that integer nodes read; each is quantised where it is produced.
    entries: BTreeSet<String>,
    /// Outputs of integer nodes, after their Relu if one follows. The value is the tensor whose
    /// range determines the step: the output itself, or the input of a MaxPool.
    made: BTreeMap<String, String>,
}

/// Output of the node at the index `place`, or of the Relu that is its only reader. `None` if the
/// node has several outputs, or the output is one of the graph's.
fn activation_output(graph: &GraphProto, place: usize) -> Option<&str> {
    let [output] = &graph.node[place].output[..] else {
        return None;
    };
    if is_output(graph, output) {
        return None;
    }
    match readers(graph, output)[..] {
        [reader] if graph.node[reader].op_type == "Relu" => {
            let output = &graph.node[reader].output[0];
            (!is_output(graph, output)).then_some(output)
        }
        _ => Some(output),
    }
}

impl Plan {
    /// Selects the convolutions with constant weights, and the Add and MaxPool nodes that read only
    /// outputs of selected nodes. An Add or MaxPool whose output no selected node reads stays
    /// float, where int8 would add error without gain.
    ///
    /// # Errors
    /// The graph has no convolution with constant weights.
    pub fn new(graph: &GraphProto) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        for (place, node) in graph.node.iter().enumerate() {
            let Some(output) = activation_output(graph, place) else {
                continue;
            };
            match &*node.op_type {
                "Conv"
                    if node
                        .input
                        .iter()
                        .skip(1)
                        .all(|name| constant(graph, name).is_some()) =>
                {
                    let input = &node.input[0];
                    if !plan.made.contains_key(input) {
                        plan.entries.insert(input.clone());
                    }
                    plan.made.insert(output.into(), output.into());
                }
                "Add" if node.input.iter().all(|name| plan.made.contains_key(name)) => {
                    plan.made.insert(output.into(), output.into());
                }
                "MaxPool" if plan.made.contains_key(&node.input[0]) && output == node.output[0] => {
                    plan.made
                        .insert(output.into(), plan.made[&node.input[0]].clone());
                }
                _ => continue,
            }
            plan.integer.insert(place);
        }
        ensure!(
            !plan.integer.is_empty(),
            "the graph has no convolution of constant weights"
        );
        for place in plan
            .integer
            .clone()
            .into_iter()
            .rev()
            .filter(|place| graph.node[*place].op_type != "Conv")
        {
            let output = activation_output(graph, place)
                .expect("seen above")
                .to_owned();
            if !readers(graph, &output)
                .iter()
                .any(|reader| plan.integer.contains(reader))
            {
                plan.integer.remove(&place);
                plan.made.remove(&output);
            }
        }
        Ok(plan)
    }

    /// Names of the tensors whose value ranges determine the steps, without duplicates.
    pub fn observed(&self) -> Vec<String> {
        self.entries
            .iter()
            .chain(self.made.values())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect()
    }

    /// Writes the graph with QuantizeLinear and DequantizeLinear around integer nodes. `steps` has
    /// an entry for each name of [`Plan::observed`].
    pub fn write(
        &self,
        model: &ModelProto,
        steps: &BTreeMap<String, Step>,
    ) -> anyhow::Result<ModelProto> {
        let mut written = model.clone();
        written.producer_name = "expressd".into();
        let graph = written.graph.as_mut().context("the file holds no graph")?;
        let nodes = std::mem::take(&mut graph.node);
        let step_of = |tensor: &str| steps[self.made.get(tensor).map_or(tensor, String::as_str)];
        for tensor in self
            .entries
            .iter()
            .filter(|entry| nodes.iter().all(|node| !node.output.contains(entry)))
        {
            self.round(graph, tensor, step_of(tensor));
        }
        for (place, mut node) in nodes.into_iter().enumerate() {
            let integer = self.integer.contains(&place);
            let step = node
                .input
                .first()
                .filter(|_| integer && node.op_type == "Conv")
                .map(|input| step_of(input));
            for input in &mut node.input {
                if self.made.contains_key(input) || (integer && self.entries.contains(input)) {
                    *input = rounded(input);
                }
            }
            if let Some(step) = step {
                self.weights(graph, &mut node, step)?;
            }
            let outputs = node.output.clone();
            graph.node.push(node);
            for tensor in outputs
                .iter()
                .filter(|tensor| self.made.contains_key(*tensor) || self.entries.contains(*tensor))
            {
                self.round(graph, tensor, step_of(tensor));
            }
        }
        drop_unread(graph);
        Ok(written)
    }

    /// Adds a QuantizeLinear and a DequantizeLinear node that round `tensor` to `step`.
    fn round(&self, graph: &mut GraphProto, tensor: &str, step: Step) {
        let (scale, zero) = (format!("{tensor}.scale"), format!("{tensor}.zero"));
        graph.initializer.push(tensor_of(
            &scale,
            &[],
            FLOAT,
            step.scale.to_le_bytes().to_vec(),
        ));
        graph
            .initializer
            .push(tensor_of(&zero, &[], UINT8, vec![step.zero]));
        let integers = format!("{tensor}.integers");
        graph.node.push(quantisation_node(
            "QuantizeLinear",
            [tensor, &scale, &zero],
            &integers,
            None,
        ));
        graph.node.push(quantisation_node(
            "DequantizeLinear",
            [&integers, &scale, &zero],
            &rounded(tensor),
            None,
        ));
    }

    /// Replaces a convolution's weight and bias by integer constants. A bias gets the scale of the
    /// integer sums that it is added to: the input's scale times the weight's.
    fn weights(
        &self,
        graph: &mut GraphProto,
        conv: &mut NodeProto,
        input: Step,
    ) -> anyhow::Result<()> {
        let (shape, weight) = constant(graph, &conv.input[1]).context("seen when planned")?;
        let shape = shape.to_vec();
        let bias = conv
            .input
            .get(2)
            .map(|name| {
                Ok::<_, anyhow::Error>(constant(graph, name).context("seen when planned")?.1)
            })
            .transpose()?;
        let channels = shape[0] as usize;
        let length = (weight.len() / channels.max(1)).max(1);
        let scales: Vec<f32> = weight
            .chunks(length)
            .enumerate()
            .map(|(channel, weights)| {
                let largest = weights
                    .iter()
                    .fold(0.0f32, |largest, w| largest.max(w.abs()))
                    / LARGEST;
                // The scale has a minimum. Otherwise the bias would overflow 32 bits if all weights
                // of a channel are near zero.
                let coarse = bias.as_ref().map_or(0.0, |bias| {
                    bias[channel].abs() / input.scale / (1 << 30) as f32
                });
                let scale = largest.max(coarse);
                if scale < f32::MIN_POSITIVE {
                    1.0
                } else {
                    scale
                }
            })
            .collect();
        let name = conv.output[0].clone();
        let integers = weight
            .chunks(length)
            .zip(&scales)
            .flat_map(|(weights, scale)| {
                weights.iter().map(move |w| (w / scale).round() as i8 as u8)
            })
            .collect();
        let vector = |values: &[f32]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let mut add = |part: &str,
                       values: Vec<u8>,
                       kind: i32,
                       shape: &[i64],
                       zero: Vec<u8>,
                       scales: &[f32]| {
            let [integers, scale, zeros, output] = ["integers", "scale", "zero", "rounded"]
                .map(|what| format!("{name}.{part}.{what}"));
            graph
                .initializer
                .push(tensor_of(&integers, shape, kind, values));
            graph
                .initializer
                .push(tensor_of(&scale, &[channels as i64], FLOAT, vector(scales)));
            graph
                .initializer
                .push(tensor_of(&zeros, &[channels as i64], kind, zero));
            graph.node.push(quantisation_node(
                "DequantizeLinear",
                [&integers, &scale, &zeros],
                &output,
                Some(0),
            ));
            output
        };
        conv.input[1] = add("weight", integers, INT8, &shape, vec![0; channels], &scales);
        if let Some(bias) = bias {
            let scales: Vec<f32> = scales.iter().map(|scale| scale * input.scale).collect();
            let integers = bias
                .iter()
                .zip(&scales)
                .flat_map(|(b, scale)| ((b / scale).round() as i32).to_le_bytes())
                .collect();
            conv.input[2] = add(
                "bias",
                integers,
                INT32,
                &[channels as i64],
                vec![0; 4 * channels],
                &scales,
            );
        }
        Ok(())
    }
}

/// Name of the dequantised copy of `tensor`.
fn rounded(tensor: &str) -> String {
    format!("{tensor}.rounded")
}

/// A constant; `data_type` is a code of `TensorProto.DataType`, `raw_data` is little-endian.
fn tensor_of(name: &str, shape: &[i64], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type,
        name: name.into(),
        raw_data,
        ..Default::default()
    }
}

/// A QuantizeLinear or DequantizeLinear node; `input` is tensor, scale and zero point, `axis` that
/// of the channels (`None`: one scale for the tensor).
fn quantisation_node(
    operator: &str,
    input: [&str; 3],
    output: &str,
    axis: Option<i64>,
) -> NodeProto {
    let axis = axis.map(|axis| AttributeProto {
        name: "axis".into(),
        i: Some(axis),
        r#type: 2,
        ..Default::default()
    });
    let input = input.map(str::to_owned).to_vec();
    NodeProto {
        input,
        output: vec![output.into()],
        name: output.into(),
        op_type: operator.into(),
        attribute: axis.into_iter().collect(),
        ..Default::default()
    }
}
