//! Representation heads: one per modality, from the encoders' embeddings to one space
//! (`src/train/method.md` b.2).

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::gated::{GatedEmbeddingUnit, linear};
use crate::modality::Modality;

/// Settings of the representation heads. Batches, outputs and the concatenation have the order of
/// `modalities`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadsShape {
    pub modalities: Vec<ModalityShape>,
    /// Length of a representation.
    pub representation: usize,
    /// Whether each value of the embeddings is standardised first to mean 0 and deviation 1, by the
    /// statistics of the training stores. Not in the reference.
    pub standardise: bool,
}

/// A modality and the length of its embedding, which is the concatenation of its encoders'
/// embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModalityShape {
    pub modality: Modality,
    pub dim: usize,
}

/// Maps embeddings `[batch, dim]` of one modality to representations `[batch, R]` by a gated
/// embedding unit. For the voice, the unit keeps the width of the embedding, and a linear layer
/// without rectifier follows. As in the reference, only voice representations may be negative.
#[derive(Module, Debug)]
pub struct RepresentationHead {
    /// Mean and inverse deviation, `[1, dim]` each; not trained. `None`: no standardisation.
    pub(crate) standard: Option<Standard>,
    pub(crate) gated: GatedEmbeddingUnit,
    pub(crate) widen: Option<Linear>,
}

/// Mean and inverse deviation of each value of an embedding.
#[derive(Module, Debug)]
pub struct Standard {
    mean: Param<Tensor<2>>,
    inverse: Param<Tensor<2>>,
}

impl Standard {
    /// # Panics
    /// If the lengths differ.
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
    pub fn new(shape: ModalityShape, representation: usize, device: &Device) -> Self {
        let widen = shape.modality == Modality::Voice;
        let width = if widen { shape.dim } else { representation };
        RepresentationHead {
            standard: None,
            gated: GatedEmbeddingUnit::new(shape.dim, width, device),
            widen: widen.then(|| linear(shape.dim, representation, device)),
        }
    }

    /// Maps embeddings `[batch, dim]` to representations `[batch, R]`.
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

    /// Standardises embeddings; they are the input of the unit and the target of reconstruction.
    pub fn standardise(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.standard {
            Some(standard) => (x - standard.mean.val()) * standard.inverse.val(),
            None => x,
        }
    }
}

/// The representation heads of all modalities, in order.
#[derive(Module, Debug)]
pub struct RepresentationHeads {
    pub(crate) heads: Vec<RepresentationHead>,
}

impl RepresentationHeads {
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

    /// Sets mean and deviation of each value, per modality, if the heads standardise.
    pub fn with_statistics(mut self, statistics: &[(Vec<f32>, Vec<f32>)], device: &Device) -> Self {
        for (head, (mean, deviation)) in self.heads.iter_mut().zip(statistics) {
            if head.standard.is_some() {
                head.standard = Some(Standard::new(mean, deviation, device));
            }
        }
        self
    }

    /// The representations `[batch, R]` of the modality with index `modality`.
    pub fn forward(&self, modality: usize, x: Tensor<2>) -> Tensor<2> {
        self.heads[modality].forward(x)
    }
}
