//! The classifier over concatenated representations (`src/train/method.md` b.4; in ConCluGen's code
//! `classification_head.py`).

use burn::module::{Initializer, Module};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of a [`ClassificationHead`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierShape {
    /// Number of linear layers, at least 1; 1 is the paper's linear evaluation.
    pub layers: usize,
    /// Length of the output of every layer except the last one.
    pub hidden: usize,
    /// Probability of dropping an input value of a layer in training.
    pub dropout: f64,
    /// Whether the presence of each modality, 0 or 1, is a further input. The representation of an
    /// absent modality is zero. Without this input (as in ConCluGen), the classifier cannot
    /// distinguish an absent modality from a present one whose representation is zero.
    pub presence: bool,
}

/// The classifier: maps the concatenated representations of the modalities to logits. Dropout
/// precedes each linear layer; a ReLU stands between two linear layers.
#[derive(Module, Debug)]
pub struct ClassificationHead {
    pub(crate) layers: Vec<Linear>,
    /// Adds a learned function of the presence to the first layer; `None`: presence is no input.
    pub(crate) presence: Option<Linear>,
    dropout: Dropout,
}

impl ClassificationHead {
    /// A classifier with random weights. `modalities`: their number; `representation`: length of a
    /// modality's representation; `labels`: number of labels.
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

    /// Maps `representations`, one tensor `[batch, R]` per modality, and `presence`, `[batch,
    /// modalities]` with 1 for present and 0 for absent, to logits `[batch, labels]`.
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
