//! Folds a batch normalisation, which is an affine map per channel, into the convolution before it.

use anyhow::Context;

use super::*;

/// Folds each BatchNormalization into the preceding convolution. Skipped are convolutions with
/// variable weights and those whose output another node reads.
pub(super) fn fold(mut model: ModelProto) -> anyhow::Result<ModelProto> {
    let graph = model.graph.as_mut().context("the file holds no graph")?;
    let mut place = 0;
    while place < graph.node.len() {
        match folded(graph, place) {
            None => place += 1,
            Some((conv, node, weight, bias)) => {
                graph.node[conv] = node;
                graph.initializer.extend([weight, bias]);
                graph.node.remove(place);
            }
        }
    }
    drop_unread(graph);
    Ok(model)
}

/// Folds the node at the index `place`, if it is a foldable BatchNormalization. Returns the index
/// of the convolution before it, the convolution that replaces both nodes, and its weight and bias.
fn folded(
    graph: &GraphProto,
    place: usize,
) -> Option<(usize, NodeProto, TensorProto, TensorProto)> {
    let norm = &graph.node[place];
    let [input, others @ ..] = &norm.input[..] else {
        return None;
    };
    if norm.op_type != "BatchNormalization"
        || norm.output.len() != 1
        || norm
            .attribute
            .iter()
            .any(|a| a.name == "training_mode" && a.i == Some(1))
    {
        return None;
    }
    let epsilon = norm
        .attribute
        .iter()
        .find(|a| a.name == "epsilon")
        .and_then(|a| a.f)
        .unwrap_or(1e-5);
    let constants: Vec<Vec<f32>> = others
        .iter()
        .map(|name| Some(constant(graph, name)?.1))
        .collect::<Option<_>>()?;
    let [gamma, beta, mean, variance] = &constants[..] else {
        return None;
    };
    let at = graph
        .node
        .iter()
        .position(|node| node.op_type == "Conv" && node.output.first() == Some(input))?;
    if is_output(graph, input) || readers(graph, input) != [place] {
        return None;
    }
    let conv = &graph.node[at];
    let (shape, mut weight) = constant(graph, conv.input.get(1)?)?;
    let channels = usize::try_from(*shape.first()?)
        .ok()
        .filter(|channels| *channels > 0 && *channels == gamma.len())?;
    let mut bias = match conv.input.get(2) {
        Some(name) => constant(graph, name)?.1,
        None => vec![0.0; channels],
    };
    let length = weight.len() / channels;
    for channel in 0..channels {
        let factor =
            f64::from(gamma[channel]) / (f64::from(variance[channel]) + f64::from(epsilon)).sqrt();
        weight[channel * length..][..length]
            .iter_mut()
            .for_each(|w| *w = (f64::from(*w) * factor) as f32);
        bias[channel] = ((f64::from(bias[channel]) - f64::from(mean[channel])) * factor
            + f64::from(beta[channel])) as f32;
    }
    let output = &norm.output[0];
    let (weight, bias) = (
        float_constant(&format!("{output}.folded_weight"), shape, &weight),
        float_constant(&format!("{output}.folded_bias"), &[channels as i64], &bias),
    );
    let node = NodeProto {
        input: vec![
            conv.input[0].clone(),
            weight.name.clone(),
            bias.name.clone(),
        ],
        output: vec![output.clone()],
        ..conv.clone()
    };
    Some((at, node, weight, bias))
}

/// A constant of 32-bit floats.
fn float_constant(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto {
        dims: shape.to_vec(),
        data_type: FLOAT,
        name: name.into(),
        raw_data,
        ..Default::default()
    }
}
