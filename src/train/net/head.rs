//! The fusion head.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

use super::add_row;

/// Maps one modality's embedding to its evidence for each label.
#[derive(Module, Debug)]
struct Branch {
    hidden: Linear,
    logits: Linear,
    /// `[1, labels]`, added if this is the only present modality; not trained.
    prior: Option<Param<Tensor<2>>>,
    /// The bound of [`Head::with_bounds`], in nats; 0: none.
    bound: f64,
}

impl Branch {
    fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.logits.forward(relu(self.hidden.forward(embedding)))
    }

    /// The evidence beside other modalities, with the bound applied.
    ///
    /// Uses only maximum, addition and ReLU. With ONNX Runtime's `Exp`, the bits of a row would
    /// depend on the other rows of a batch.
    fn bounded(&self, evidence: Tensor<2>) -> Tensor<2> {
        let (largest, _) = evidence.clone().max_dim_with_indices(1);
        let least = largest.sub_scalar(self.bound);
        relu(evidence - least.clone()) + least
    }
}

/// The fusion head: the sum of the evidence of face, voice and text, in nats, each weighted and
/// gated by its presence.
///
/// The sum is the logarithm of a product of experts, which is the optimal fusion if modalities are
/// independent given the label. In the training data they are: faces, voices and texts of different
/// people are joined by label. Labels are drawn uniformly, so the sum holds no prior;
/// [`Head::with_single_modality_prior`] adds one if a modality is alone.
#[derive(Module, Debug)]
pub struct Head {
    branches: Vec<Branch>,
}

impl Head {
    /// A head with random weights: one branch per entry of `dims`, the lengths of the modalities'
    /// embeddings.
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

    /// Maps embeddings `[batch, dim]` of each modality and the presence of 0 and 1, `[batch,
    /// modalities]`, to logits `[batch, labels]`. An absent modality adds exactly 0, whatever its
    /// embedding is.
    pub fn forward(&self, embeddings: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let modalities = self.branches.len();
        let evidence: Vec<_> = self
            .branches
            .iter()
            .zip(embeddings)
            .map(|(branch, embedding)| branch.forward(embedding))
            .collect();
        let labels = evidence[0].dims()[1];
        // Columns of `presence`, added up, as wide as the labels: a product with a constant, since
        // the ONNX exporter takes no slices.
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
        for (i, (branch, evidence)) in self.branches.iter().zip(evidence).enumerate() {
            let mut evidence = if branch.bound > 0.0 {
                let bounded = branch.bounded(evidence.clone());
                bounded.clone() + (evidence - bounded) * alone.clone()
            } else {
                evidence
            };
            if let Some(prior) = &branch.prior {
                evidence = evidence + alone.clone() * prior.val();
            }
            let gated = evidence * columns(&|column| column == i);
            sum = Some(match sum {
                None => gated,
                Some(sum) => sum + gated,
            });
        }
        sum.expect("a modality at least")
    }

    /// Multiplies the evidence of each modality by its factor (calibration on held-out data).
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

    /// Bounds the evidence of each modality beside others: the evidence for a label is at most its
    /// bound, in nats, below that for the modality's most favoured label. `bounds` has one value
    /// per modality; 0: no bound.
    ///
    /// The bound limits how far one modality can exclude a label that others favour. A neutral face
    /// with a frightened voice is common; an unbounded product of experts treats it as impossible.
    /// The most favoured label of a modality does not change.
    pub fn with_bounds(mut self, bounds: &[f64]) -> Self {
        for (branch, bound) in self.branches.iter_mut().zip(bounds) {
            branch.bound = *bound;
        }
        self
    }

    /// Adds `prior`, one value per label, to the evidence of one modality wherever it is present.
    pub fn with_modality_prior(mut self, modality: usize, prior: &[f32], device: &Device) -> Self {
        let linear = &mut self.branches[modality].logits;
        linear.bias = linear.bias.clone().map(|bias| add_row(bias, prior, device));
        self
    }

    /// Adds `prior`, one value per label, to the logits where this modality is the only present
    /// one.
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
