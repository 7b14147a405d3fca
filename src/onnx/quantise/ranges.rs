//! Observes the value ranges of a graph's tensors, and derives their quantisation steps.

use std::collections::BTreeMap;

use super::*;

/// Number of histogram bins between the least and the greatest value of a tensor.
const BINS: usize = 4096;

/// Quantisation of a tensor: `value = scale * (q - zero)` with `q` in 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    /// Difference of two adjacent values.
    pub scale: f32,
    /// The integer that represents the value 0.
    pub zero: u8,
}

impl Step {
    /// The step for values from `low` to `high`. 0 is represented exactly. If no value is negative,
    /// `zero` is 0, so that ONNX Runtime can fuse a preceding Relu.
    pub fn for_range(low: f32, high: f32) -> Step {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if scale < f32::MIN_POSITIVE {
            return Step {
                scale: 1.0,
                zero: 0,
            };
        }
        Step {
            scale,
            zero: (-low / scale).round() as u8,
        }
    }
}

/// Histogram of a tensor's values: [`BINS`] bins of equal width from `low` to `high`.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<u64>,
}

impl Histogram {
    /// Widens the range to include `values`.
    fn widen(&mut self, values: &[f32]) {
        for value in values {
            (self.low, self.high) = (self.low.min(*value), self.high.max(*value));
        }
    }

    /// Counts `values` into the bins; the range must include them.
    fn count(&mut self, values: &[f32]) {
        let bins = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for value in values {
            self.counts[(((value - self.low) * bins) as usize).min(BINS - 1)] += 1;
        }
    }

    /// The step for a range that clips at most the share `beyond` (in [0, 1]) of the values at each
    /// end.
    pub fn step(&self, beyond: f64) -> Step {
        let most = (self.counts.iter().sum::<u64>() as f64 * beyond) as u64;
        let empty = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut outside = 0;
            counts
                .take_while(|count| (outside += *count, outside <= most).1)
                .count()
        };
        let width = (self.high - self.low) / BINS as f32;
        let (below, above) = match most {
            0 => (0, 0),
            _ => (
                empty(&mut self.counts.iter()),
                empty(&mut self.counts.iter().rev()),
            ),
        };
        Step::for_range(
            self.low + below as f32 * width,
            self.high - above as f32 * width,
        )
    }
}

/// Runs a float graph on `inputs` and returns the histogram of each tensor in `names`, by name.
pub(super) fn observe(
    runtime: &Runtime,
    model: &ModelProto,
    names: &[String],
    inputs: &[&Example],
) -> anyhow::Result<BTreeMap<String, Histogram>> {
    let mut observed = model.clone();
    let graph = observed.graph.as_mut().context("the file holds no graph")?;
    let input_name = graph
        .input
        .first()
        .map(|input| input.name.clone())
        .context("the graph has no input")?;
    let own_outputs = graph.output.len();
    let inner: Vec<&String> = names.iter().filter(|name| **name != input_name).collect();
    graph.output.extend(inner.iter().map(|name| {
        let tensor_type = Some(TensorType {
            elem_type: FLOAT,
            shape: None,
        });
        ValueInfoProto {
            name: name.to_string(),
            r#type: Some(TypeProto { tensor_type }),
        }
    }));
    let mut opened = Graph::open(
        runtime,
        "ranges",
        &observed.encode_to_vec(),
        Provider::Cpu,
        1,
    )?;
    let empty = || Histogram {
        low: f32::INFINITY,
        high: f32::NEG_INFINITY,
        counts: vec![0; BINS],
    };
    let mut histograms: BTreeMap<String, Histogram> =
        names.iter().map(|name| (name.clone(), empty())).collect();
    // The first pass determines the ranges, the second one counts.
    for pass in [Histogram::widen, Histogram::count] {
        for example in inputs {
            let outputs = opened.run(&[example.input()])?;
            for (name, output) in inner.iter().zip(&outputs[own_outputs..]) {
                pass(
                    histograms.get_mut(*name).expect("made above"),
                    &output.values,
                );
            }
            if let Some(histogram) = histograms.get_mut(&input_name) {
                pass(histogram, &example.values);
            }
        }
    }
    Ok(histograms)
}
