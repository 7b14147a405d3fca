//! The classifier over concatenated representations (`src/train/method.md` b.4; reference
//! `classification_head.py`).

use burn::module::{Initializer, Module};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierShape {
    /// Number of linear layers; 1 is the paper's linear evaluation.
    pub layers: usize,
    /// Width of the layers between the first and the last.
    pub hidden: usize,
    pub dropout: f64,
    /// Whether the presence of each modality, 0 or 1, is a further input. Representations are zero
    /// where it is 0. Without this input (as in the reference), an absent modality looks like an
    /// uninformative one.
    pub presence: bool,
}

/// The classifier: concatenated representations to logits. Its first layer is linear; each further
/// layer is a rectifier, dropout and a linear layer.
#[derive(Module, Debug)]
pub struct ClassificationHead {
    pub(crate) layers: Vec<Linear>,
    pub(crate) presence: Option<Linear>,
    dropout: Dropout,
}

impl ClassificationHead {
    pub fn new(
        shape: &ClassifierShape,
        modalities: usize,
        representation: usize,
        labels: usize,
        device: &Device,
    ) -> Self {
        let widths: Vec<usize> = (0..=shape.layers)
            .map(|i| match i {
                0 => modalities * representation,
                i if i == shape.layers => labels,
                _ => shape.hidden,
            })
            .collect();
        let layer = |from: usize, to: usize| {
            let weights = Initializer::KaimingNormal {
                gain: std::f64::consts::SQRT_2,
                fan_out_only: false,
            };
            LinearConfig::new(from, to)
                .with_initializer(weights)
                .init(device)
        };
        let beside = LinearConfig::new(modalities, widths[1])
            .with_bias(false)
            .with_initializer(Initializer::Zeros);
        ClassificationHead {
            layers: widths.windows(2).map(|w| layer(w[0], w[1])).collect(),
            presence: shape.presence.then(|| beside.init(device)),
            dropout: DropoutConfig::new(shape.dropout).init(),
        }
    }

    /// Maps the representations of each modality, `[batch, R]`, and the presence of 0 and 1,
    /// `[batch, modalities]`, to logits `[batch, labels]`.
    pub fn forward(&self, representations: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let mut x = self.dropout.forward(Tensor::cat(representations, 1));
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = self.dropout.forward(relu(x));
            }
            x = layer.forward(x);
            if let (0, Some(beside)) = (i, &self.presence) {
                x = x + beside.forward(presence.clone());
            }
        }
        x
    }
}
