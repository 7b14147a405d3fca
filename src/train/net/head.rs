//! The fusion head.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};

use super::add_row;

/// One modality's evidence for each label.
#[derive(Module, Debug)]
struct Branch {
    hidden: Linear,
    logits: Linear,
    /// `[1, labels]`, added where this modality is alone; not trained.
    prior: Option<Param<Tensor<2>>>,
    /// See [`Head::with_bounds`]; 0: none.
    bound: f64,
}

impl Branch {
    fn forward(&self, embedding: Tensor<2>) -> Tensor<2> {
        self.logits.forward(relu(self.hidden.forward(embedding)))
    }

    /// `evidence` beside other modalities' evidence.
    ///
    /// Maximum, addition and ReLU alone: a row's bits do not depend on the other rows of a batch,
    /// as they would with ONNX Runtime's `Exp`.
    fn bounded(&self, evidence: Tensor<2>) -> Tensor<2> {
        let (largest, _) = evidence.clone().max_dim_with_indices(1);
        let least = largest.sub_scalar(self.bound);
        relu(evidence - least.clone()) + least
    }
}

/// The fusion head: the weighted sum of the evidence of face, voice and words, each gated by its
/// presence.
///
/// The sum is the product of the experts' likelihoods: the right fusion if modalities are
/// independent given the label. So they are in the training data: faces, voices and words of
/// different people, joined by label. Labels are drawn uniformly, so the sum holds no prior;
/// [`Head::with_single_modality_prior`] adds one where a modality is alone.
#[derive(Module, Debug)]
pub struct Head {
    branches: Vec<Branch>,
}

impl Head {
    /// One branch for each of `dims`, the lengths of the modalities' embeddings.
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

    /// Embeddings `[batch, dim]` and presence `[batch, modalities]` of 0 and 1 to logits `[batch,
    /// labels]`.
    ///
    /// An absent modality adds exactly nothing, whatever its embedding is.
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

    /// The same head with each modality's evidence multiplied by a factor (calibration on held-out
    /// data).
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

    /// The same head; beside other modalities, no label's evidence is lower than that of the
    /// modality's most favoured label by more than `bounds`, in nats, one for each modality; 0: no
    /// bound.
    ///
    /// This limits how much one modality can exclude a label that the others favour: a neutral face
    /// beside a frightened voice is common, and an unbounded product of experts takes it for
    /// impossible. The label that a modality favours most stays the same.
    pub fn with_bounds(mut self, bounds: &[f64]) -> Self {
        for (branch, bound) in self.branches.iter_mut().zip(bounds) {
            branch.bound = *bound;
        }
        self
    }

    /// The same head with `prior` added to one modality's evidence where it is present.
    pub fn with_modality_prior(mut self, modality: usize, prior: &[f32], device: &Device) -> Self {
        let linear = &mut self.branches[modality].logits;
        linear.bias = linear.bias.clone().map(|bias| add_row(bias, prior, device));
        self
    }

    /// The same head; its logits get `prior` added where only this modality is present.
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
