//! The gated embedding unit (`src/train/method.md` b.2; in ConCluGen's code
//! `representation_heads.py`).

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

/// Gated embedding unit: maps `x` to `y` by `h = relu(W1 x + b1)`, `g = h * sigmoid(Wg h + bg)` and
/// `y = relu(W2 g + b2)`.
#[derive(Module, Debug)]
pub struct GatedEmbeddingUnit {
    pub(crate) hidden: Linear,
    pub(crate) gate: Linear,
    pub(crate) output: Linear,
}

impl GatedEmbeddingUnit {
    /// A unit with random weights. `input` and `output`: lengths of input and output vectors.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        GatedEmbeddingUnit {
            hidden: linear(input, output, device),
            gate: linear(output, output, device),
            output: linear(output, output, device),
        }
    }

    /// Length of an input vector.
    pub fn dim(&self) -> usize {
        self.hidden.weight.dims()[0]
    }

    /// Maps vectors `[batch, input]` to `[batch, output]`; the outputs are not negative.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let h = relu(self.hidden.forward(x));
        let gated = h.clone() * sigmoid(self.gate.forward(h));
        relu(self.output.forward(gated))
    }
}

/// A linear layer with PyTorch's initialisation: weights and biases are uniform within ±1 /
/// sqrt(`input`).
pub(crate) fn linear(input: usize, output: usize, device: &Device) -> Linear {
    let bound = 1.0 / (input as f64).sqrt();
    LinearConfig::new(input, output)
        .with_initializer(Initializer::Uniform {
            min: -bound,
            max: bound,
        })
        .init(device)
}
