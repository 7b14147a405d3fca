//! The heads that only pre-training uses: projection, cluster and reconstruction heads
//! (`src/train/method.md` b.3; in ConCluGen's code `pretraining_heads.py`).

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::gated::linear;
use super::representation::HeadsShape;

/// Settings of the heads of pre-training ([`PretextHeads`]).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretextShape {
    /// Length of a projection.
    pub projection: usize,
    /// Number of clusters, which are the outputs of the cluster head; 0: there is no cluster head.
    pub clusters: usize,
    /// Width of the hidden layer of a reconstruction head; 0: there are no reconstruction heads.
    pub reconstruction: usize,
    /// Whether the projection head ends in a ReLU, so that similarities of projections are not
    /// negative (as in ConCluGen's code).
    pub rectified_projection: bool,
    /// Whether reconstruction heads end in a ReLU, so that reconstructions are not negative (as in
    /// ConCluGen's code).
    pub rectified_reconstruction: bool,
    /// Initial scale and bias of the sigmoid alignment ([`Alignment`]); `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<[f64; 2]>,
}

/// The heads of pre-training: a projection head and a cluster head shared by all modalities, and a
/// reconstruction head per modality.
#[derive(Module, Debug)]
pub struct PretextHeads {
    /// First layer of the projection head, before batch normalisation and ReLU.
    pub(crate) narrow: Linear,
    pub(crate) norm: BatchNorm,
    /// Last layer of the projection head.
    pub(crate) project: Linear,
    /// The cluster head; `None`: there is none.
    pub(crate) cluster: Option<Linear>,
    /// One head per modality; empty: there are no reconstruction heads.
    pub(crate) reconstruct: Vec<ReconstructionHead>,
    /// Scale and bias of the sigmoid alignment; `None`: there is none.
    pub(crate) alignment: Option<Alignment>,
    rectified_projection: bool,
    rectified_reconstruction: bool,
}

/// Maps a representation to the embedding of its modality by one hidden layer.
#[derive(Module, Debug)]
pub struct ReconstructionHead {
    pub(crate) hidden: Linear,
    pub(crate) output: Linear,
}

/// Learned scale and bias of the logits of the sigmoid alignment, one value each: the logit of a
/// similarity `s` is `exp(log_scale) s + bias`.
#[derive(Module, Debug)]
pub struct Alignment {
    pub(crate) log_scale: Param<Tensor<1>>,
    pub(crate) bias: Param<Tensor<1>>,
}

impl Alignment {
    /// An alignment with this initial scale, above 0, and bias.
    fn new([scale, bias]: [f64; 2], device: &Device) -> Self {
        let value = |v: f64| Param::from_tensor(Tensor::from_floats([v as f32], device));
        Alignment {
            log_scale: value(scale.ln()),
            bias: value(bias),
        }
    }
}

impl PretextHeads {
    /// Heads with random weights, for representation heads of the shape `heads`.
    pub fn new(heads: &HeadsShape, shape: &PretextShape, device: &Device) -> Self {
        let narrow = (heads.representation / 8).max(1);
        let bound = 1.0 / (shape.projection as f64).sqrt();
        let cluster = LinearConfig::new(shape.projection, shape.clusters.max(1))
            .with_bias(false)
            .with_initializer(burn::module::Initializer::Uniform {
                min: -bound,
                max: bound,
            });
        let reconstruct = |dim: usize| ReconstructionHead {
            hidden: linear(heads.representation, shape.reconstruction, device),
            output: linear(shape.reconstruction, dim, device),
        };
        PretextHeads {
            narrow: linear(heads.representation, narrow, device),
            norm: BatchNormConfig::new(narrow).init(device),
            project: linear(narrow, shape.projection, device),
            cluster: (shape.clusters > 0).then(|| cluster.init(device)),
            reconstruct: if shape.reconstruction > 0 {
                heads
                    .modalities
                    .iter()
                    .map(|m| reconstruct(m.dim))
                    .collect()
            } else {
                Vec::new()
            },
            alignment: shape.alignment.map(|start| Alignment::new(start, device)),
            rectified_projection: shape.rectified_projection,
            rectified_reconstruction: shape.rectified_reconstruction,
        }
    }

    /// The first layer of the projection head. Maps representations `[batch, R]` to hidden values
    /// `[batch, R / 8]`; a row does not depend on the other rows.
    pub fn narrow(&self, representation: Tensor<2>) -> Tensor<2> {
        self.narrow.forward(representation)
    }

    /// The layers of the projection head after the first one. Maps results of [`Self::narrow`] to
    /// projections `[batch, P]`, which are not normalised to length 1. In training, batch
    /// normalisation uses the statistics of these rows, which are of one modality.
    pub fn project_narrowed(&self, narrowed: Tensor<2>) -> Tensor<2> {
        let projection = self.project.forward(relu(normalise(&self.norm, narrowed)));
        if self.rectified_projection {
            relu(projection)
        } else {
            projection
        }
    }

    /// Maps projections `[batch, P]`, not normalised to length 1, to cluster logits `[batch, K]`,
    /// with `K` = [`PretextShape::clusters`].
    ///
    /// # Panics
    /// There is no cluster head.
    pub fn cluster(&self, projection: Tensor<2>) -> Tensor<2> {
        self.cluster
            .as_ref()
            .expect("built with clusters")
            .forward(projection)
    }

    /// Maps representations `[batch, R]` of the modality with index `modality` to reconstructions
    /// `[batch, dim]` of its embeddings.
    ///
    /// # Panics
    /// There are no reconstruction heads, or none with this index.
    pub fn reconstruct(&self, modality: usize, representation: Tensor<2>) -> Tensor<2> {
        let head = &self.reconstruct[modality];
        let out = head
            .output
            .forward(relu(head.hidden.forward(representation)));
        if self.rectified_reconstruction {
            relu(out)
        } else {
            out
        }
    }
}

/// Applies batch normalisation. In training, the running variance is updated with the unbiased
/// variance of the batch, as in PyTorch; Burn's own update uses the biased variance.
fn normalise(norm: &BatchNorm, x: Tensor<2>) -> Tensor<2> {
    let count = x.dims()[0] as f64;
    if !x.device().is_autodiff() || !norm.training.is_enabled() || count < 2.0 {
        return norm.forward(x);
    }
    let device = x.device();
    let kept = norm
        .running_var
        .value_sync()
        .to_device(&device)
        .mul_scalar(1.0 - norm.momentum);
    let normalised = norm.forward(x);
    let joined = norm.running_var.value_sync().to_device(&device) - kept.clone();
    norm.running_var
        .update((kept + joined.mul_scalar(count / (count - 1.0))).detach());
    normalised
}

/// Divides each row of `x` by its Euclidean norm, or by 1e-12 if the norm is smaller.
pub fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    // The minimum is applied before the square root, whose derivative is infinite at zero.
    // Otherwise a row of zeros, which a ReLU can produce, would make every gradient NaN.
    let norm = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}
