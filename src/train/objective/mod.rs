//! Losses of pre-training and fine-tuning (`src/train/method.md` c). Pre-training minimises a
//! weighted mean of contrastive, clustering and reconstruction losses, or the loss of SimCLR,
//! SigLIP or VICReg.
//!
//! A new loss is a file here, a variant of [`Objective`] below with its arm in each method, and a
//! recipe in `config/train/`. A loss with weights of its own also adds them to
//! [`PretextHeads`](crate::train::heads::PretextHeads).
//!
//! The comparison with the numbers of ConCluGen's authors (`src/train/parity`) calls the same
//! functions as training.

mod clustering;
mod contrastive;
pub(crate) mod kmeans;
mod labels;
mod pretext;
mod replicas;
mod siglip;
mod vicreg;

pub use clustering::{ClusterMode, clustering_loss};
pub use contrastive::{MARGIN, masked_margin_softmax, pairs, simclr_logits, simclr_loss};
pub use kmeans::{Kmeans, Queue, kmeans_cosine};
pub use labels::label_loss;
pub use pretext::{
    Clusters, FeatureBatch, Outputs, PretextModel, StepLosses, merge, reconstruction_loss,
};
pub use replicas::Replicas;
pub use siglip::siglip_loss;
pub use vicreg::{VicregWeights, vicreg_loss};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::train::heads::{PretextShape, unit_rows};
use pretext::LossInputs;

/// An empty queue of k-means with the settings of the clustering objective, for batches of `batch`
/// clips; `None` without that objective. Each epoch starts with an empty queue.
pub fn queue(objectives: &[Objective], batch: usize) -> Option<Queue> {
    objectives.iter().find_map(|o| match o {
        Objective::Clustering {
            queue,
            clusters,
            queue_reduction,
            ..
        } => Some(Queue::new(
            *queue,
            batch,
            *clusters,
            (*queue_reduction > 1).then_some(*queue_reduction),
        )),
        _ => None,
    })
}

/// A loss of pre-training with its settings: an entry `[[objective]]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Objective {
    /// Masked margin softmax over pairs of modalities ([`masked_margin_softmax`]).
    Contrastive {
        weight: f64,
        /// Divisor of the similarities; 1 in ConCluGen's code.
        temperature: f64,
    },
    /// Cross-entropy against the clusters of online k-means ([`clustering_loss`]).
    Clustering {
        weight: f64,
        mode: ClusterMode,
        /// Number of clusters.
        clusters: usize,
        /// Number of earlier batches that k-means uses in addition to the current one.
        queue: usize,
        /// Of this many rows of a batch, the queue keeps one; 1: it keeps all rows.
        queue_reduction: usize,
        /// Epoch (from 0) from which on the loss is active. Before, the mean over the losses does
        /// not include this loss.
        start_epoch: usize,
    },
    /// Mean squared error of each modality's embedding, reconstructed from its own representation.
    Reconstruction {
        weight: f64,
        /// Width of the hidden layer of the reconstruction heads.
        hidden: usize,
        /// Whether reconstruction heads end in a ReLU, as in ConCluGen's code, so that
        /// reconstructions are not negative.
        rectified: bool,
    },
    /// NT-Xent between augmented views of the first modality ([`simclr_loss`]).
    Simclr {
        weight: f64,
        /// Divisor of the similarities.
        temperature: f64,
        /// Number of views of each clip in a batch.
        views: usize,
    },
    /// Sigmoid alignment of pairs of modalities ([`siglip_loss`]).
    Siglip {
        weight: f64,
        /// Initial factor on the similarities; it is learned. 10 in the paper.
        scale: f64,
        /// Initial bias of the logits; it is learned. -10 in the paper.
        bias: f64,
    },
    /// Invariance, variance and covariance of pairs of modalities ([`vicreg_loss`]).
    Vicreg {
        weight: f64,
        /// Factor on the invariance term; 25 in the paper.
        invariance: f64,
        /// Factor on the variance term; 25 in the paper.
        variance: f64,
        /// Factor on the covariance term; 1 in the paper.
        covariance: f64,
    },
}

/// The outputs of the heads of pre-training that an objective uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub projections: bool,
    pub clusters: bool,
    pub reconstructions: bool,
}

/// The settings of a recipe that determine which objectives it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectiveSetting {
    /// Number of modalities.
    pub modalities: usize,
    /// Number of objectives.
    pub objectives: usize,
    /// Whether the defects of ConCluGen's code are kept.
    pub reference: bool,
    /// Whether projections end in a ReLU.
    pub rectified_projection: bool,
}

impl Objective {
    /// The name of the objective in recipes, logs and training curves.
    pub fn name(&self) -> &'static str {
        match self {
            Objective::Contrastive { .. } => "contrastive",
            Objective::Clustering { .. } => "clustering",
            Objective::Reconstruction { .. } => "reconstruction",
            Objective::Simclr { .. } => "simclr",
            Objective::Siglip { .. } => "siglip",
            Objective::Vicreg { .. } => "vicreg",
        }
    }
    /// The factor on the loss in the mean over all losses.
    pub fn weight(&self) -> f64 {
        match self {
            Objective::Contrastive { weight, .. }
            | Objective::Clustering { weight, .. }
            | Objective::Reconstruction { weight, .. }
            | Objective::Simclr { weight, .. }
            | Objective::Siglip { weight, .. }
            | Objective::Vicreg { weight, .. } => *weight,
        }
    }
    /// Whether the loss is active in `epoch`, counted from 0.
    pub fn is_active(&self, epoch: usize) -> bool {
        !matches!(self, Objective::Clustering { start_epoch, .. } if epoch < *start_epoch)
    }

    /// The outputs of the heads of pre-training that the loss uses.
    pub fn needs(&self) -> Needs {
        let projections = Needs {
            projections: true,
            ..Needs::default()
        };
        match self {
            Objective::Contrastive { .. }
            | Objective::Simclr { .. }
            | Objective::Siglip { .. }
            | Objective::Vicreg { .. } => projections,
            Objective::Clustering { .. } => Needs {
                clusters: true,
                ..projections
            },
            Objective::Reconstruction { .. } => Needs {
                reconstructions: true,
                ..Needs::default()
            },
        }
    }

    /// Sets the sizes and initial values of the heads of pre-training that the loss uses.
    pub fn set_shape(&self, shape: &mut PretextShape) {
        match self {
            Objective::Clustering { clusters, .. } => shape.clusters = *clusters,
            Objective::Reconstruction {
                hidden, rectified, ..
            } => (shape.reconstruction, shape.rectified_reconstruction) = (*hidden, *rectified),
            Objective::Siglip { scale, bias, .. } => shape.alignment = Some([*scale, *bias]),
            Objective::Contrastive { .. } | Objective::Simclr { .. } | Objective::Vicreg { .. } => {
            }
        }
    }

    /// Every invalid setting in a recipe with the settings `recipe`, one sentence each.
    pub fn faults(&self, recipe: &ObjectiveSetting) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: &str| faults.extend(wrong.then(|| text.to_owned()));
        let (name, weight) = (self.name(), self.weight());
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        fault(
            !is_positive(weight),
            &format!("weight of {name} is {weight}, permitted are numbers above 0"),
        );
        let compares_modalities = matches!(
            self,
            Objective::Contrastive { .. } | Objective::Siglip { .. } | Objective::Vicreg { .. }
        );
        fault(
            compares_modalities && recipe.modalities < 2,
            &format!("{name} needs two modalities"),
        );
        match self {
            Objective::Contrastive { temperature, .. } | Objective::Simclr { temperature, .. } => {
                fault(
                    !is_positive(*temperature),
                    &format!(
                        "temperature of {name} is {temperature}, permitted are numbers above 0"
                    ),
                );
                fault(
                    matches!(self, Objective::Simclr { .. }) && recipe.objectives > 1,
                    "simclr stands alone",
                );
            }
            Objective::Clustering {
                clusters,
                queue_reduction,
                ..
            } => {
                fault(*clusters < 2, "clusters must be at least 2");
                fault(
                    *queue_reduction == 0,
                    "queue_reduction is 0, permitted are numbers from 1, which keeps all rows",
                );
            }
            Objective::Reconstruction {
                hidden, rectified, ..
            } => {
                fault(*hidden == 0, "hidden must be at least 1");
                fault(
                    recipe.reference && !rectified,
                    "profile reference has rectified reconstructions",
                );
            }
            Objective::Siglip { scale, bias, .. } => {
                fault(
                    !is_positive(*scale),
                    &format!("scale of {name} is {scale}, permitted are numbers above 0"),
                );
                fault(
                    !bias.is_finite(),
                    &format!("bias of {name} is {bias}, permitted are finite numbers"),
                );
            }
            Objective::Vicreg {
                invariance,
                variance,
                covariance,
                ..
            } => {
                let factors = [
                    ("invariance", *invariance),
                    ("variance", *variance),
                    ("covariance", *covariance),
                ];
                for (key, value) in factors {
                    fault(
                        !(value >= 0.0 && value.is_finite()),
                        &format!("{key} of {name} is {value}, permitted are numbers from 0"),
                    );
                }
                fault(
                    factors.iter().all(|(_, value)| *value == 0.0),
                    "vicreg has no term: one of invariance, variance, covariance must be above 0",
                );
                fault(
                    recipe.rectified_projection,
                    "vicreg needs rectified_projection = false, so that values vary around 0",
                );
            }
        }
        faults
    }

    /// The loss of a batch; `None` if no clip of the batch contributes to it.
    fn loss(&self, inputs: &LossInputs<'_>) -> Option<Tensor<1>> {
        let outputs = inputs.outputs;
        match self {
            Objective::Contrastive { temperature, .. } => {
                pretext::contrastive(inputs, *temperature)
            }
            Objective::Clustering { mode, .. } => pretext::cluster(inputs, *mode),
            Objective::Reconstruction { .. } => {
                reconstruction_loss(&outputs.reconstructions, &outputs.embeddings)
            }
            Objective::Simclr {
                temperature, views, ..
            } => Some(simclr_loss(
                unit_rows(outputs.projections[0].clone()),
                *views,
                *temperature,
            )),
            Objective::Siglip { .. } => siglip::loss(inputs),
            Objective::Vicreg {
                invariance,
                variance,
                covariance,
                ..
            } => vicreg::loss(
                inputs,
                VicregWeights {
                    invariance: *invariance,
                    variance: *variance,
                    covariance: *covariance,
                },
            ),
        }
    }
}
