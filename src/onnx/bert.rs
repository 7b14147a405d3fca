//! Builds the ONNX graph of BERT (Devlin et al. 2019) as a sentence encoder: transformer layers,
//! then the mean over the tokens, scaled to length 1.
//!
//! The graph computes the same as `BertModel` of Hugging Face's transformers with the modules
//! `Pooling` (mean of tokens) and `Normalize` of sentence-transformers, without dropout and with
//! token type 0.

use anyhow::{Context, bail, ensure};
use safetensors::{Dtype, SafeTensors};

use super::{Attribute, Axis, GraphBuilder};

/// Hyperparameters of a BERT network that the shapes of its weights do not determine.
#[derive(Clone, Copy, Debug)]
pub struct Bert {
    /// Number of transformer layers.
    pub layers: usize,
    /// Number of attention heads of a layer.
    pub heads: usize,
    /// Number added to the variance in the layer normalisations.
    pub epsilon: f32,
}

impl Bert {
    /// Builds the graph. Its inputs `input_ids` and `attention_mask` are `[batch, tokens]` of
    /// 64-bit integers, its output `embedding` is `[batch, hidden]`, each row of length 1. The
    /// position table in `weights` limits the number of tokens.
    ///
    /// # Errors
    /// `weights` lacks a tensor, or a tensor has another type or shape.
    pub fn graph(self, name: &str, weights: &SafeTensors<'_>) -> anyhow::Result<GraphBuilder> {
        let mut net = Network {
            bert: self,
            hidden: 0,
            weights,
            graph: GraphBuilder::new(name),
        };
        let axes = [Axis::Named("batch"), Axis::Named("tokens")];
        net.graph.input_i64("input_ids", &axes);
        net.graph.input_i64("attention_mask", &axes);
        let mut last = net.embeddings()?;
        net.attention_bias();
        for layer in 0..self.layers {
            last = net.layer(&format!("encoder.layer.{layer}"), &last)?;
        }
        net.pool(&last);
        net.graph.output(
            "embedding",
            &[Axis::Named("batch"), Axis::Fixed(net.hidden as i64)],
        );
        Ok(net.graph)
    }
}

/// The graph under construction, with the weights that its constants come from.
struct Network<'a> {
    bert: Bert,
    /// Length of a token's vector; 0 until [`Network::embeddings`] has read it.
    hidden: usize,
    weights: &'a SafeTensors<'a>,
    graph: GraphBuilder,
}

impl Network<'_> {
    /// Shape and values of a weight tensor, in row-major order.
    fn read(&self, name: &str) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
        let tensor = self
            .weights
            .tensor(name)
            .with_context(|| format!("there is no {name}"))?;
        ensure!(
            tensor.dtype() == Dtype::F32,
            "{name} is {:?}, not F32",
            tensor.dtype()
        );
        Ok((
            tensor.shape().to_vec(),
            tensor
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        ))
    }

    /// Shape `[rows, columns]` and values of a two-dimensional weight tensor, in row-major order.
    fn matrix(&self, name: &str) -> anyhow::Result<([usize; 2], Vec<f32>)> {
        let (shape, values) = self.read(name)?;
        let [rows, columns] = shape[..] else {
            bail!("{name} is {shape:?}, not a matrix")
        };
        Ok(([rows, columns], values))
    }

    /// Adds a weight tensor to the graph as a constant, and returns its name.
    fn vector(&mut self, name: &str) -> anyhow::Result<String> {
        let (shape, values) = self.read(name)?;
        Ok(self.graph.constant(name, &shape, &values))
    }

    /// Adds the sum of word, position and token-type embeddings with its layer normalisation;
    /// returns the name of the result, `[batch, tokens, hidden]`.
    fn embeddings(&mut self) -> anyhow::Result<String> {
        let ([words, hidden], values) = self.matrix("embeddings.word_embeddings.weight")?;
        ensure!(
            hidden % self.bert.heads == 0,
            "{hidden} does not divide into {} heads",
            self.bert.heads
        );
        self.hidden = hidden;
        let table = self
            .graph
            .constant("embeddings.words", &[words, hidden], &values);
        // Every token has type 0, so the embedding of this type is added to the position table
        // once.
        let (_, types) = self.matrix("embeddings.token_type_embeddings.weight")?;
        let ([positions, width], mut values) =
            self.matrix("embeddings.position_embeddings.weight")?;
        ensure!(
            width == hidden && types.len() >= hidden,
            "the embeddings are of different widths"
        );
        values.chunks_mut(hidden).for_each(|row| {
            row.iter_mut()
                .zip(&types)
                .for_each(|(value, kind)| *value += kind)
        });
        let positions = self
            .graph
            .constant("embeddings.positions", &[positions, hidden], &values);
        let words = self
            .graph
            .node("Gather", &[&table, "input_ids"], "words", &[]);
        let count = self.graph.node(
            "Shape",
            &["input_ids"],
            "token_count",
            &[("start", Attribute::Int(1)), ("end", Attribute::Int(2))],
        );
        let (zero, axis) = (
            self.graph.constant_i64("first_position", &[0]),
            self.graph.constant_i64("position_axis", &[0]),
        );
        let places = self
            .graph
            .node("Slice", &[&positions, &zero, &count, &axis], "places", &[]);
        let sum = self.graph.node("Add", &[&words, &places], "embedded", &[]);
        self.layer_norm("embeddings.LayerNorm", &sum)
    }

    /// Adds the tensor `attention_bias` `[batch, 1, 1, tokens]`: 0 for a token, the lowest float
    /// for padding. Also adds the constants that all layers share.
    fn attention_bias(&mut self) {
        self.graph.node(
            "Cast",
            &["attention_mask"],
            "mask",
            &[("to", Attribute::Int(i64::from(super::FLOAT)))],
        );
        let axes = self.graph.constant_i64("bias_axes", &[1, 2]);
        self.graph
            .node("Unsqueeze", &["mask", &axes], "mask_4d", &[]);
        let (one, lowest) = (
            self.graph.constant("one", &[], &[1.0]),
            self.graph.constant("lowest", &[], &[f32::MIN]),
        );
        self.graph
            .node("Sub", &[&one, "mask_4d"], "hidden_tokens", &[]);
        self.graph
            .node("Mul", &["hidden_tokens", &lowest], "attention_bias", &[]);
        // Constants that all layers share. A 0 in a shape keeps the length of the input's axis.
        let (heads, size) = (
            self.bert.heads as i64,
            (self.hidden / self.bert.heads) as i64,
        );
        self.graph.constant_i64("split_heads", &[0, 0, heads, size]);
        self.graph.constant_i64("join_heads", &[0, 0, heads * size]);
        self.graph
            .constant("attention_scale", &[], &[1.0 / (size as f32).sqrt()]);
        self.graph.constant("half", &[], &[0.5]);
        self.graph
            .constant("root_half", &[], &[std::f32::consts::FRAC_1_SQRT_2]);
    }

    /// Adds `x W' + b`, PyTorch's `Linear`, and returns the output's name. The weight is `[out,
    /// in]` in the file and is transposed here.
    fn dense(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let ([rows, columns], values) = self.matrix(&format!("{name}.weight"))?;
        let turned: Vec<f32> = (0..columns)
            .flat_map(|c| values.iter().skip(c).step_by(columns).copied())
            .collect();
        let weight = self
            .graph
            .constant(&format!("{name}.weight"), &[columns, rows], &turned);
        let bias = self.vector(&format!("{name}.bias"))?;
        let product = self
            .graph
            .node("MatMul", &[input, &weight], &format!("{name}.product"), &[]);
        Ok(self
            .graph
            .node("Add", &[&product, &bias], &format!("{name}.out"), &[]))
    }

    /// Adds a layer normalisation over the last axis, and returns the output's name.
    fn layer_norm(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let (scale, bias) = (
            self.vector(&format!("{name}.weight"))?,
            self.vector(&format!("{name}.bias"))?,
        );
        let settings = [
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(self.bert.epsilon)),
        ];
        Ok(self.graph.node(
            "LayerNormalization",
            &[input, &scale, &bias],
            &format!("{name}.out"),
            &settings,
        ))
    }

    /// Adds a dense layer whose output is split into `[batch, tokens, heads, size]` and permuted by
    /// `order`; returns the output's name.
    fn heads(&mut self, name: &str, input: &str, order: &[i64]) -> anyhow::Result<String> {
        let all = self.dense(name, input)?;
        let split = self.graph.node(
            "Reshape",
            &[&all, "split_heads"],
            &format!("{name}.split"),
            &[],
        );
        Ok(self.graph.node(
            "Transpose",
            &[&split],
            &format!("{name}.heads"),
            &[("perm", Attribute::Ints(order))],
        ))
    }

    /// Adds a transformer layer: attention and feed-forward network, each with a residual
    /// connection and a layer normalisation. Returns the output's name.
    fn layer(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let query = self.heads(
            &format!("{name}.attention.self.query"),
            input,
            &[0, 2, 1, 3],
        )?;
        let key = self.heads(&format!("{name}.attention.self.key"), input, &[0, 2, 3, 1])?;
        let value = self.heads(
            &format!("{name}.attention.self.value"),
            input,
            &[0, 2, 1, 3],
        )?;
        let at = |step: &str| format!("{name}.attention.{step}");
        let product = self
            .graph
            .node("MatMul", &[&query, &key], &at("product"), &[]);
        let scaled = self
            .graph
            .node("Mul", &[&product, "attention_scale"], &at("scaled"), &[]);
        let masked = self
            .graph
            .node("Add", &[&scaled, "attention_bias"], &at("masked"), &[]);
        let shares = self.graph.node(
            "Softmax",
            &[&masked],
            &at("shares"),
            &[("axis", Attribute::Int(-1))],
        );
        let context = self
            .graph
            .node("MatMul", &[&shares, &value], &at("context"), &[]);
        let turned = self.graph.node(
            "Transpose",
            &[&context],
            &at("turned"),
            &[("perm", Attribute::Ints(&[0, 2, 1, 3]))],
        );
        let joined = self
            .graph
            .node("Reshape", &[&turned, "join_heads"], &at("joined"), &[]);
        let attended = self.dense(&at("output.dense"), &joined)?;
        let sum = self.graph.node("Add", &[&attended, input], &at("sum"), &[]);
        let attended = self.layer_norm(&at("output.LayerNorm"), &sum)?;

        let wide = self.dense(&format!("{name}.intermediate.dense"), &attended)?;
        let wide = self.gelu(&format!("{name}.intermediate"), &wide);
        let narrow = self.dense(&format!("{name}.output.dense"), &wide)?;
        let sum = self
            .graph
            .node("Add", &[&narrow, &attended], &format!("{name}.sum"), &[]);
        self.layer_norm(&format!("{name}.output.LayerNorm"), &sum)
    }

    /// Adds the exact GELU, `x (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel 2016); returns the
    /// output's name.
    fn gelu(&mut self, name: &str, input: &str) -> String {
        let scaled = self
            .graph
            .node("Mul", &[input, "root_half"], &format!("{name}.scaled"), &[]);
        let erf = self
            .graph
            .node("Erf", &[&scaled], &format!("{name}.erf"), &[]);
        let share = self
            .graph
            .node("Add", &[&erf, "one"], &format!("{name}.share"), &[]);
        let product = self
            .graph
            .node("Mul", &[input, &share], &format!("{name}.product"), &[]);
        self.graph
            .node("Mul", &[&product, "half"], &format!("{name}.gelu"), &[])
    }

    /// Adds the output `embedding`: the mean over the tokens that the mask selects, scaled to
    /// length 1.
    fn pool(&mut self, input: &str) {
        let (last, tokens) = (
            self.graph.constant_i64("last_axis", &[-1]),
            self.graph.constant_i64("token_axis", &[1]),
        );
        let mask = self
            .graph
            .node("Unsqueeze", &["mask", &last], "mask_3d", &[]);
        let kept = self.graph.node("Mul", &[input, &mask], "kept", &[]);
        let sum = self.graph.node(
            "ReduceSum",
            &[&kept, &tokens],
            "kept_sum",
            &[("keepdims", Attribute::Int(0))],
        );
        let count = self.graph.node(
            "ReduceSum",
            &[&mask, &tokens],
            "kept_count",
            &[("keepdims", Attribute::Int(0))],
        );
        let floor = self.graph.constant("count_floor", &[], &[1e-9]);
        let count = self.graph.node("Max", &[&count, &floor], "count", &[]);
        let mean = self.graph.node("Div", &[&sum, &count], "mean", &[]);
        let length = self.graph.node(
            "ReduceL2",
            &[&mean],
            "length",
            &[
                ("axes", Attribute::Ints(&[1])),
                ("keepdims", Attribute::Int(1)),
            ],
        );
        let floor = self.graph.constant("length_floor", &[], &[1e-12]);
        let length = self
            .graph
            .node("Max", &[&length, &floor], "length_above_0", &[]);
        self.graph.node("Div", &[&mean, &length], "embedding", &[]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::encode::{Graph, Input, Provider, Runtime};
    use crate::model::golden::golden_samples;

    /// ONNX file of a network with one layer, two heads, hidden size 8, ten words and at most 16
    /// tokens. Its weights are pseudo-random with fixed seeds.
    pub(crate) fn tiny_bert() -> Vec<u8> {
        let (hidden, wide) = (8, 12);
        let mut tensors = Vec::new();
        let mut tensor = |name: &str, shape: &[usize], offset: f32| {
            let values = golden_samples(tensors.len() as u64 + 1, shape.iter().product());
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|v| (v * 3.0 + offset).to_le_bytes())
                .collect();
            tensors.push((name.to_owned(), shape.to_vec(), bytes));
        };
        tensor("embeddings.word_embeddings.weight", &[10, hidden], 0.0);
        tensor("embeddings.position_embeddings.weight", &[16, hidden], 0.0);
        tensor("embeddings.token_type_embeddings.weight", &[2, hidden], 0.0);
        let layer = "encoder.layer.0";
        for (name, [out, input]) in [
            ("attention.self.query", [hidden, hidden]),
            ("attention.self.key", [hidden, hidden]),
            ("attention.self.value", [hidden, hidden]),
            ("attention.output.dense", [hidden, hidden]),
            ("intermediate.dense", [wide, hidden]),
            ("output.dense", [hidden, wide]),
        ] {
            tensor(&format!("{layer}.{name}.weight"), &[out, input], 0.0);
            tensor(&format!("{layer}.{name}.bias"), &[out], 0.0);
        }
        for norm in [
            "embeddings.LayerNorm",
            "encoder.layer.0.attention.output.LayerNorm",
            "encoder.layer.0.output.LayerNorm",
        ] {
            tensor(&format!("{norm}.weight"), &[hidden], 1.0);
            tensor(&format!("{norm}.bias"), &[hidden], 0.0);
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name,
                safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        let file = safetensors::serialize(views, None).unwrap();
        let weights = SafeTensors::deserialize(&file).unwrap();
        Bert {
            layers: 1,
            heads: 2,
            epsilon: 1e-12,
        }
        .graph("tiny", &weights)
        .unwrap()
        .into_bytes("test")
    }

    #[test]
    fn padding_does_not_change_embeddings_and_each_has_length_one() {
        let bytes = tiny_bert();
        assert_eq!(bytes, tiny_bert());
        let mut graph =
            Graph::open(&Runtime::load().unwrap(), "tiny", &bytes, Provider::Cpu, 1).unwrap();
        let long = graph
            .run(&[
                Input::I64(&[1, 5], &[2, 4, 5, 6, 3]),
                Input::I64(&[1, 5], &[1; 5]),
            ])
            .unwrap()
            .swap_remove(0);
        let short = graph
            .run(&[
                Input::I64(&[1, 3], &[2, 8, 3]),
                Input::I64(&[1, 3], &[1; 3]),
            ])
            .unwrap()
            .swap_remove(0);
        let (ids, mask) = (
            [2, 4, 5, 6, 3, 2, 8, 3, 9, 0],
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
        );
        let both = graph
            .run(&[Input::I64(&[2, 5], &ids), Input::I64(&[2, 5], &mask)])
            .unwrap()
            .swap_remove(0);
        assert_eq!(both.shape, [2, 8]);
        for (alone, batched) in [long, short].iter().zip(both.values.chunks(8)) {
            assert!((alone.values.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
            for (a, b) in alone.values.iter().zip(batched) {
                assert!((a - b).abs() < 1e-5, "{a} alone, {b} in a batch");
            }
        }
        assert!(
            both.values[..8]
                .iter()
                .zip(&both.values[8..])
                .any(|(a, b)| (a - b).abs() > 0.05),
            "two utterances, one embedding"
        );
    }

    #[test]
    fn a_missing_tensor_is_named_in_the_error() {
        let empty = safetensors::serialize(
            Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(),
            None,
        )
        .unwrap();
        let refusal = Bert {
            layers: 1,
            heads: 2,
            epsilon: 1e-12,
        }
        .graph("tiny", &SafeTensors::deserialize(&empty).unwrap())
        .unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("embeddings.word_embeddings.weight"),
            "{refusal}"
        );
    }
}
