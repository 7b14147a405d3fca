//! The fusion head: maps the embeddings of face, voice and text to logits of the labels.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

use super::add_row;

/// The layers of one modality in [`Head`]: two linear layers with a ReLU between them, from an
/// embedding to one logit per label.
#[derive(Module, Debug)]
struct Branch {
    hidden: Linear,
    logits: Linear,
    /// Log prior of the labels, `[1, labels]`, not trained. It is added to the logits if this is
    /// the only present modality. `None`: nothing is added.
    prior: Option<Param<Tensor<2>>>,
    /// The bound that [`Head::with_bounds`] sets, in nats; 0: the logits are not bounded.
    bound: f64,
}

impl Branch {
    /// Maps embeddings `[batch, dim]` to logits `[batch, labels]`, without prior and bound.
    fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.logits.forward(relu(self.hidden.forward(embedding)))
    }

    /// Raises logits that are more than `bound` below the largest logit of their row to that
    /// distance. [`Head::forward`] uses the result if other modalities are present.
    ///
    /// Only maximum, addition and ReLU are used. With ONNX Runtime's `Exp`, the bits of a row would
    /// depend on the other rows of a batch.
    fn bounded(&self, logits: Tensor<2>) -> Tensor<2> {
        let (largest, _) = logits.clone().max_dim_with_indices(1);
        let least = largest.sub_scalar(self.bound);
        relu(logits - least.clone()) + least
    }
}

/// The fusion head: the sum of the logits (in nats) of the present modalities: face, voice, text.
///
/// The sum is the logarithm of a product of experts, which is the optimal fusion if modalities are
/// independent given the label. In the training data they are independent: faces, voices and texts
/// of different people are joined by label. Training draws labels uniformly, so the sum contains no
/// label prior; [`Head::with_single_modality_prior`] adds one where a modality is alone.
#[derive(Module, Debug)]
pub struct Head {
    branches: Vec<Branch>,
}

impl Head {
    /// A head with random weights. `dims`: the length of each modality's embedding; `hidden`: the
    /// width of the hidden layer of each modality; `labels`: the number of labels.
    pub fn new(dims: &[usize], hidden: usize, labels: usize, device: &Device) -> Self {
        let branch = |dim: &usize| Branch {
            hidden: LinearConfig::new(*dim, hidden).init(device),
            logits: LinearConfig::new(hidden, labels).init(device),
            prior: None,
            bound: 0.0,
        };
        Head {
            branches: dims.iter().map(branch).collect(),
        }
    }

    /// Maps `embeddings`, one tensor `[batch, dim]` per modality, and `presence`, `[batch,
    /// modalities]` with 1 for present and 0 for absent, to logits `[batch, labels]`. An absent
    /// modality adds exactly 0, whatever its embedding is.
    pub fn forward(&self, embeddings: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let modalities = self.branches.len();
        let branch_logits: Vec<_> = self
            .branches
            .iter()
            .zip(embeddings)
            .map(|(branch, embedding)| branch.forward(embedding))
            .collect();
        let labels = branch_logits[0].dims()[1];
        // The sum of the picked columns of `presence`, repeated for each label. It is computed as a
        // product with a constant matrix, because the ONNX exporter does not support slices.
        let columns = |picked: &dyn Fn(usize) -> bool| {
            let ones: Vec<f32> = (0..modalities * labels)
                .map(|i| if picked(i / labels) { 1.0 } else { 0.0 })
                .collect();
            presence.clone().matmul(Tensor::from_data(
                TensorData::new(ones, [modalities, labels]),
                &presence.device(),
            ))
        };
        // 1 with one modality, 0 with several.
        let alone = relu(columns(&|_| true).mul_scalar(-1.0).add_scalar(2.0));
        let mut sum: Option<Tensor<2>> = None;
        for (i, (branch, logits)) in self.branches.iter().zip(branch_logits).enumerate() {
            let mut logits = if branch.bound > 0.0 {
                let bounded = branch.bounded(logits.clone());
                bounded.clone() + (logits - bounded) * alone.clone()
            } else {
                logits
            };
            if let Some(prior) = &branch.prior {
                logits = logits + alone.clone() * prior.val();
            }
            let gated = logits * columns(&|column| column == i);
            sum = Some(match sum {
                None => gated,
                Some(sum) => sum + gated,
            });
        }
        sum.expect("a modality at least")
    }

    /// Multiplies the logits of each modality by its entry of `factors`. Calibration on held-out
    /// data determines the factors.
    pub fn scaled(mut self, factors: &[f32]) -> Self {
        for (branch, factor) in self.branches.iter_mut().zip(factors.iter().copied()) {
            branch.logits.weight = branch.logits.weight.clone().map(|w| w.mul_scalar(factor));
            branch.logits.bias = branch
                .logits
                .bias
                .clone()
                .map(|bias| bias.map(|b| b.mul_scalar(factor)));
        }
        self
    }

    /// Sets one bound per modality, in nats; 0: no bound. Where several modalities are present, a
    /// logit of a modality counts as at most its bound below the modality's largest logit.
    ///
    /// The bound limits how far one modality can exclude a label that other modalities favour. A
    /// neutral face with a frightened voice is common; an unbounded product of experts treats the
    /// combination as impossible. The label with a modality's largest logit does not change.
    pub fn with_bounds(mut self, bounds: &[f64]) -> Self {
        for (branch, bound) in self.branches.iter_mut().zip(bounds) {
            branch.bound = *bound;
        }
        self
    }

    /// Adds `prior`, one log probability per label, to the logits of the modality with index
    /// `modality` wherever that modality is present.
    pub fn with_modality_prior(mut self, modality: usize, prior: &[f32], device: &Device) -> Self {
        let linear = &mut self.branches[modality].logits;
        linear.bias = linear.bias.clone().map(|bias| add_row(bias, prior, device));
        self
    }

    /// Adds `prior`, one log probability per label, to the logits of rows in which the modality
    /// with index `modality` is the only present one.
    pub fn with_single_modality_prior(
        mut self,
        modality: usize,
        prior: &[f32],
        device: &Device,
    ) -> Self {
        let row = Tensor::from_data(TensorData::new(prior.to_vec(), [1, prior.len()]), device);
        self.branches[modality].prior = Some(Param::from_tensor(row).set_require_grad(false));
        self
    }
}
