//! Losses of pre-training and fine-tuning (`src/train/method.md` c). Pre-training minimises a
//! weighted mean of contrastive, clustering and reconstruction losses, or the loss of SimCLR.
//!
//! The comparison with the numbers of ConCluGen's authors (`src/train/parity`) calls the same
//! functions as training.

mod clustering;
mod contrastive;
pub(crate) mod kmeans;
mod labels;
mod pretext;
mod replicas;

pub use clustering::{ClusterMode, clustering_loss};
pub use contrastive::{MARGIN, masked_margin_softmax, pairs, simclr_logits, simclr_loss};
pub use kmeans::{Kmeans, Queue, kmeans_cosine};
pub use labels::label_loss;
pub use pretext::{
    Clusters, FeatureBatch, Outputs, PretextModel, StepLosses, merge, reconstruction_loss,
};
pub use replicas::Replicas;

use serde::{Deserialize, Serialize};

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
}

impl Objective {
    /// The name of the objective in recipes, logs and training curves.
    pub fn name(&self) -> &'static str {
        match self {
            Objective::Contrastive { .. } => "contrastive",
            Objective::Clustering { .. } => "clustering",
            Objective::Reconstruction { .. } => "reconstruction",
            Objective::Simclr { .. } => "simclr",
        }
    }
    /// The factor on the loss in the mean over all losses.
    pub fn weight(&self) -> f64 {
        match self {
            Objective::Contrastive { weight, .. }
            | Objective::Clustering { weight, .. }
            | Objective::Reconstruction { weight, .. }
            | Objective::Simclr { weight, .. } => *weight,
        }
    }
    /// Whether the loss is active in `epoch`, counted from 0.
    pub fn is_active(&self, epoch: usize) -> bool {
        !matches!(self, Objective::Clustering { start_epoch, .. } if epoch < *start_epoch)
    }
}
