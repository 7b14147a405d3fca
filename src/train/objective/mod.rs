//! Losses of pre-training: any sum of contrastive, clustering and reconstruction loss, or SimCLR;
//! and the loss of fine-tuning (`src/train/method.md` c).
//!
//! Training calls these functions, and the comparison with the authors' numbers calls the same ones
//! (`src/train/parity`).

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

/// The queue of k-means for batches of `batch` clips; `None` without clustering. A new one begins
/// each epoch.
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

/// A loss and its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Objective {
    /// Masked margin softmax over pairs of modalities.
    Contrastive {
        weight: f64,
        /// Similarities are divided by this. The reference: 1.
        temperature: f64,
    },
    /// Cross-entropy against the clusters of online k-means.
    Clustering {
        weight: f64,
        mode: ClusterMode,
        clusters: usize,
        /// Number of earlier batches that k-means uses in addition to the current one.
        queue: usize,
        /// One of this many rows of the queue is kept; 1: all.
        queue_reduction: usize,
        /// First epoch, from 0, in which the loss is active. Before it, the mean over losses does
        /// not include it.
        start_epoch: usize,
    },
    /// Mean squared error of each modality's embedding, reconstructed from its own representation.
    Reconstruction {
        weight: f64,
        /// Width of the heads' hidden layer.
        hidden: usize,
        /// Whether the heads end in a rectifier, as in the reference, so that reconstructions are
        /// not negative.
        rectified: bool,
    },
    /// NT-Xent between augmented views of the first modality.
    Simclr {
        weight: f64,
        temperature: f64,
        views: usize,
    },
}

impl Objective {
    /// The name in recipes and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Objective::Contrastive { .. } => "contrastive",
            Objective::Clustering { .. } => "clustering",
            Objective::Reconstruction { .. } => "reconstruction",
            Objective::Simclr { .. } => "simclr",
        }
    }
    /// The factor on the loss in the sum of all losses.
    pub fn weight(&self) -> f64 {
        match self {
            Objective::Contrastive { weight, .. }
            | Objective::Clustering { weight, .. }
            | Objective::Reconstruction { weight, .. }
            | Objective::Simclr { weight, .. } => *weight,
        }
    }
    /// Whether the loss is active in this epoch.
    pub fn is_active(&self, epoch: usize) -> bool {
        !matches!(self, Objective::Clustering { start_epoch, .. } if epoch < *start_epoch)
    }
}
