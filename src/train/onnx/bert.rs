//! BERT (Devlin et al. 2019) as a sentence encoder, node by node: layers, mean over the tokens, length 1.
//!
//! As `BertModel` of Hugging Face's transformers and the modules `Pooling` (mean of tokens) and `Normalize` of sentence-transformers
//! compute it, without dropout and with token type 0 throughout.

use anyhow::{Context, bail, ensure};
use safetensors::{Dtype, SafeTensors};

use super::{Attribute, Axis, GraphBuilder};

/// What the tensors' shapes do not say.
#[derive(Clone, Copy, Debug)]
pub struct Bert {
    pub layers: usize,
    pub heads: usize,
    /// Under the root of every layer normalisation.
    pub epsilon: f32,
}

impl Bert {
    /// The graph: `input_ids` and `attention_mask` `[batch, tokens]` of 64-bit integers → `embedding` `[batch, hidden]` of length 1.
    /// There may be as many tokens as the table of positions has rows.
    pub fn graph(self, name: &str, weights: &SafeTensors<'_>) -> anyhow::Result<GraphBuilder> {
        let mut net = Network { bert: self, hidden: 0, weights, graph: GraphBuilder::new(name) };
        let axes = [Axis::Named("batch"), Axis::Named("tokens")];
        net.graph.input_i64("input_ids", &axes);
        net.graph.input_i64("attention_mask", &axes);
        let mut last = net.embeddings()?;
        net.attention_bias();
        for layer in 0..self.layers {
            last = net.layer(&format!("encoder.layer.{layer}"), &last)?;
        }
        net.pool(&last);
        net.graph.output("embedding", &[Axis::Named("batch"), Axis::Fixed(net.hidden as i64)]);
        Ok(net.graph)
    }
}

struct Network<'a> {
    bert: Bert,
    hidden: usize,
    weights: &'a SafeTensors<'a>,
    graph: GraphBuilder,
}

impl Network<'_> {
    /// A tensor's shape and values, row by row.
    fn read(&self, name: &str) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
        let tensor = self.weights.tensor(name).with_context(|| format!("there is no {name}"))?;
        ensure!(tensor.dtype() == Dtype::F32, "{name} is {:?}, not F32", tensor.dtype());
        Ok((tensor.shape().to_vec(), tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    }

    fn matrix(&self, name: &str) -> anyhow::Result<([usize; 2], Vec<f32>)> {
        let (shape, values) = self.read(name)?;
        let [rows, columns] = shape[..] else { bail!("{name} is {shape:?}, not a matrix") };
        Ok(([rows, columns], values))
    }

    fn vector(&mut self, name: &str) -> anyhow::Result<String> {
        let (shape, values) = self.read(name)?;
        Ok(self.graph.constant(name, &shape, &values))
    }

    fn embeddings(&mut self) -> anyhow::Result<String> {
        let ([words, hidden], values) = self.matrix("embeddings.word_embeddings.weight")?;
        ensure!(hidden % self.bert.heads == 0, "{hidden} does not divide into {} heads", self.bert.heads);
        self.hidden = hidden;
        let table = self.graph.constant("embeddings.words", &[words, hidden], &values);
        // Every token is of type 0: its row is added to the positions here, once.
        let (_, types) = self.matrix("embeddings.token_type_embeddings.weight")?;
        let ([positions, width], mut values) = self.matrix("embeddings.position_embeddings.weight")?;
        ensure!(width == hidden && types.len() >= hidden, "the embeddings are of different widths");
        values.chunks_mut(hidden).for_each(|row| row.iter_mut().zip(&types).for_each(|(value, kind)| *value += kind));
        let positions = self.graph.constant("embeddings.positions", &[positions, hidden], &values);
        let words = self.graph.node("Gather", &[&table, "input_ids"], "words", &[]);
        let count = self.graph.node("Shape", &["input_ids"], "token_count", &[("start", Attribute::Int(1)), ("end", Attribute::Int(2))]);
        let (zero, axis) = (self.graph.constant_i64("first_position", &[0]), self.graph.constant_i64("position_axis", &[0]));
        let places = self.graph.node("Slice", &[&positions, &zero, &count, &axis], "places", &[]);
        let sum = self.graph.node("Add", &[&words, &places], "embedded", &[]);
        self.layer_norm("embeddings.LayerNorm", &sum)
    }

    /// `attention_bias` `[batch, 1, 1, tokens]`: 0 where there is a token, else the lowest number.
    fn attention_bias(&mut self) {
        self.graph.node("Cast", &["attention_mask"], "mask", &[("to", Attribute::Int(i64::from(super::FLOAT)))]);
        let axes = self.graph.constant_i64("bias_axes", &[1, 2]);
        self.graph.node("Unsqueeze", &["mask", &axes], "mask_4d", &[]);
        let (one, lowest) = (self.graph.constant("one", &[], &[1.0]), self.graph.constant("lowest", &[], &[f32::MIN]));
        self.graph.node("Sub", &[&one, "mask_4d"], "hidden_tokens", &[]);
        self.graph.node("Mul", &["hidden_tokens", &lowest], "attention_bias", &[]);
        // Shapes and numbers that every layer uses. 0: as the input has it.
        let (heads, size) = (self.bert.heads as i64, (self.hidden / self.bert.heads) as i64);
        self.graph.constant_i64("split_heads", &[0, 0, heads, size]);
        self.graph.constant_i64("join_heads", &[0, 0, heads * size]);
        self.graph.constant("attention_scale", &[], &[1.0 / (size as f32).sqrt()]);
        self.graph.constant("half", &[], &[0.5]);
        self.graph.constant("root_half", &[], &[std::f32::consts::FRAC_1_SQRT_2]);
    }

    /// `x W' + b`, PyTorch's `Linear`: the weight is `[out, in]` in the file and transposed here.
    fn dense(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let ([rows, columns], values) = self.matrix(&format!("{name}.weight"))?;
        let turned: Vec<f32> = (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied()).collect();
        let weight = self.graph.constant(&format!("{name}.weight"), &[columns, rows], &turned);
        let bias = self.vector(&format!("{name}.bias"))?;
        let product = self.graph.node("MatMul", &[input, &weight], &format!("{name}.product"), &[]);
        Ok(self.graph.node("Add", &[&product, &bias], &format!("{name}.out"), &[]))
    }

    fn layer_norm(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let (scale, bias) = (self.vector(&format!("{name}.weight"))?, self.vector(&format!("{name}.bias"))?);
        let settings = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(self.bert.epsilon))];
        Ok(self.graph.node("LayerNormalization", &[input, &scale, &bias], &format!("{name}.out"), &settings))
    }

    /// A dense layer whose output is `[batch, heads, …]` by `order` of `[batch, tokens, heads, size]`.
    fn heads(&mut self, name: &str, input: &str, order: &[i64]) -> anyhow::Result<String> {
        let all = self.dense(name, input)?;
        let split = self.graph.node("Reshape", &[&all, "split_heads"], &format!("{name}.split"), &[]);
        Ok(self.graph.node("Transpose", &[&split], &format!("{name}.heads"), &[("perm", Attribute::Ints(order))]))
    }

    fn layer(&mut self, name: &str, input: &str) -> anyhow::Result<String> {
        let query = self.heads(&format!("{name}.attention.self.query"), input, &[0, 2, 1, 3])?;
        let key = self.heads(&format!("{name}.attention.self.key"), input, &[0, 2, 3, 1])?;
        let value = self.heads(&format!("{name}.attention.self.value"), input, &[0, 2, 1, 3])?;
        let at = |step: &str| format!("{name}.attention.{step}");
        let product = self.graph.node("MatMul", &[&query, &key], &at("product"), &[]);
        let scaled = self.graph.node("Mul", &[&product, "attention_scale"], &at("scaled"), &[]);
        let masked = self.graph.node("Add", &[&scaled, "attention_bias"], &at("masked"), &[]);
        let shares = self.graph.node("Softmax", &[&masked], &at("shares"), &[("axis", Attribute::Int(-1))]);
        let context = self.graph.node("MatMul", &[&shares, &value], &at("context"), &[]);
        let turned = self.graph.node("Transpose", &[&context], &at("turned"), &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
        let joined = self.graph.node("Reshape", &[&turned, "join_heads"], &at("joined"), &[]);
        let attended = self.dense(&at("output.dense"), &joined)?;
        let sum = self.graph.node("Add", &[&attended, input], &at("sum"), &[]);
        let attended = self.layer_norm(&at("output.LayerNorm"), &sum)?;

        let wide = self.dense(&format!("{name}.intermediate.dense"), &attended)?;
        let wide = self.gelu(&format!("{name}.intermediate"), &wide);
        let narrow = self.dense(&format!("{name}.output.dense"), &wide)?;
        let sum = self.graph.node("Add", &[&narrow, &attended], &format!("{name}.sum"), &[]);
        self.layer_norm(&format!("{name}.output.LayerNorm"), &sum)
    }

    /// `x (1 + erf(x / √2)) / 2`, exact (Hendrycks and Gimpel 2016).
    fn gelu(&mut self, name: &str, input: &str) -> String {
        let scaled = self.graph.node("Mul", &[input, "root_half"], &format!("{name}.scaled"), &[]);
        let erf = self.graph.node("Erf", &[&scaled], &format!("{name}.erf"), &[]);
        let share = self.graph.node("Add", &[&erf, "one"], &format!("{name}.share"), &[]);
        let product = self.graph.node("Mul", &[input, &share], &format!("{name}.product"), &[]);
        self.graph.node("Mul", &[&product, "half"], &format!("{name}.gelu"), &[])
    }

    /// Mean over the tokens, then length 1.
    fn pool(&mut self, input: &str) {
        let (last, tokens) = (self.graph.constant_i64("last_axis", &[-1]), self.graph.constant_i64("token_axis", &[1]));
        let mask = self.graph.node("Unsqueeze", &["mask", &last], "mask_3d", &[]);
        let kept = self.graph.node("Mul", &[input, &mask], "kept", &[]);
        let sum = self.graph.node("ReduceSum", &[&kept, &tokens], "kept_sum", &[("keepdims", Attribute::Int(0))]);
        let count = self.graph.node("ReduceSum", &[&mask, &tokens], "kept_count", &[("keepdims", Attribute::Int(0))]);
        let floor = self.graph.constant("count_floor", &[], &[1e-9]);
        let count = self.graph.node("Max", &[&count, &floor], "count", &[]);
        let mean = self.graph.node("Div", &[&sum, &count], "mean", &[]);
        let length = self.graph.node("ReduceL2", &[&mean], "length", &[("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(1))]);
        let floor = self.graph.constant("length_floor", &[], &[1e-12]);
        let length = self.graph.node("Max", &[&length, &floor], "length_above_0", &[]);
        self.graph.node("Div", &[&mean, &length], "embedding", &[]);
    }
}
