//! Representation heads: one network per modality, which maps its embeddings to vectors
//! (representations) of the same length for all modalities (`src/train/method.md` b.2).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::gated::{GatedEmbeddingUnit, linear};
use crate::modality::Modality;

/// Settings of [`RepresentationHeads`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsShape {
    /// The modalities. Inputs, outputs and their concatenation have this order.
    pub modalities: Vec<ModalityShape>,
    /// Length `R` of a representation.
    pub representation: usize,
    /// Whether each value of an embedding is first standardised to mean 0 and deviation 1, by the
    /// statistics of the training stores. ConCluGen has no such step.
    pub standardise: bool,
}

/// A modality and the length of its embedding, which is the concatenation of its encoders'
/// embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModalityShape {
    pub modality: Modality,
    /// Length of the concatenated embeddings.
    pub dim: usize,
}

/// The network of one modality: maps embeddings `[batch, dim]` to representations `[batch, R]` by a
/// gated embedding unit. For the voice, the unit keeps the length of the embedding, and a linear
/// layer follows. As in ConCluGen, only voice representations may therefore be negative.
#[derive(Module, Debug)]
pub struct RepresentationHead {
    /// Standardisation of the embeddings, not trained. `None`: embeddings are not standardised.
    pub(crate) standard: Option<Standard>,
    pub(crate) gated: GatedEmbeddingUnit,
    /// The linear layer of the voice; `None` for other modalities.
    pub(crate) widen: Option<Linear>,
}

/// Mean and inverse standard deviation of each value of an embedding, `[1, dim]` each, not trained.
#[derive(Module, Debug)]
pub struct Standard {
    mean: Param<Tensor<2>>,
    inverse: Param<Tensor<2>>,
}

impl Standard {
    /// Standardisation by `mean` and standard `deviation`, which have one value per value of an
    /// embedding. A deviation below 1e-6 counts as 1e-6.
    ///
    /// # Panics
    /// The lengths differ.
    pub fn new(mean: &[f32], deviation: &[f32], device: &Device) -> Self {
        let inverse: Vec<f32> = deviation.iter().map(|d| 1.0 / d.max(1e-6)).collect();
        let row = |values: Vec<f32>| {
            let width = values.len();
            Param::from_tensor(Tensor::from_data(
                TensorData::new(values, [1, width]),
                device,
            ))
            .set_require_grad(false)
        };
        assert_eq!(mean.len(), deviation.len());
        Standard {
            mean: row(mean.to_vec()),
            inverse: row(inverse),
        }
    }
}

impl RepresentationHead {
    /// A head with random weights and without standardisation.
    pub fn new(shape: ModalityShape, representation: usize, device: &Device) -> Self {
        let widen = shape.modality == Modality::Voice;
        let width = if widen { shape.dim } else { representation };
        RepresentationHead {
            standard: None,
            gated: GatedEmbeddingUnit::new(shape.dim, width, device),
            widen: widen.then(|| linear(shape.dim, representation, device)),
        }
    }

    /// Maps embeddings `[batch, dim]`, not yet standardised, to representations `[batch, R]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = self.gated.forward(self.standardise(x));
        match &self.widen {
            Some(widen) => widen.forward(y),
            None => y,
        }
    }

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.gated.dim()
    }

    /// Standardises embeddings `[batch, dim]`, or returns them unchanged without standardisation.
    /// The result is the input of the gated unit, and the target of reconstruction.
    pub fn standardise(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.standard {
            Some(standard) => (x - standard.mean.val()) * standard.inverse.val(),
            None => x,
        }
    }
}

/// The representation heads of all modalities, in the order of [`HeadsShape::modalities`].
#[derive(Module, Debug)]
pub struct RepresentationHeads {
    pub(crate) heads: Vec<RepresentationHead>,
}

impl RepresentationHeads {
    /// Heads with random weights. If they standardise, means are 0 and deviations 1 until
    /// [`Self::with_statistics`] sets them.
    pub fn new(shape: &HeadsShape, device: &Device) -> Self {
        let heads = shape
            .modalities
            .iter()
            .map(|m| {
                let mut head = RepresentationHead::new(*m, shape.representation, device);
                if shape.standardise {
                    head.standard =
                        Some(Standard::new(&vec![0.0; m.dim], &vec![1.0; m.dim], device));
                }
                head
            })
            .collect();
        RepresentationHeads { heads }
    }

    /// Sets the statistics of standardisation; without effect on heads that do not standardise.
    /// `statistics`: for each modality, mean and standard deviation of each value of an embedding.
    pub fn with_statistics(mut self, statistics: &[(Vec<f32>, Vec<f32>)], device: &Device) -> Self {
        for (head, (mean, deviation)) in self.heads.iter_mut().zip(statistics) {
            if head.standard.is_some() {
                head.standard = Some(Standard::new(mean, deviation, device));
            }
        }
        self
    }

    /// Maps embeddings `[batch, dim]` of the modality with index `modality` to representations
    /// `[batch, R]`.
    pub fn forward(&self, modality: usize, x: Tensor<2>) -> Tensor<2> {
        self.heads[modality].forward(x)
    }
}
