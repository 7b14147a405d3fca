//! Clustering loss: similarity of cluster logits to the centroids of k-means (`src/train/method.md`
//! c.2; in ConCluGen's code `clustering_loss.py`).

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which cluster logits the clustering loss compares with the centroids of k-means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterMode {
    /// The mean of a clip's cluster logits over its modalities.
    Joint,
    /// The cluster logits of each modality on their own; the losses of the modalities are summed.
    Individual,
}

/// Clustering loss: the mean cross-entropy of assigning each row of `features`, `[batch, dim]`, to
/// its cluster. `centroids`: `[clusters, dim]`, without a gradient; `labels`: index of the cluster
/// of each row.
///
/// The logits are the dot products of rows and centroids; `margin` is subtracted from the logit of
/// the row's own cluster.
pub fn clustering_loss(
    features: Tensor<2>,
    centroids: Tensor<2>,
    labels: &[usize],
    margin: f64,
) -> Tensor<1> {
    let [batch, _] = features.dims();
    let device = features.device();
    let clusters = centroids.dims()[0];
    let indices: Vec<i32> = labels.iter().map(|l| *l as i32).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(indices, [batch, 1]), &device);
    let margins = Tensor::<2>::zeros([batch, clusters], &device).scatter(
        1,
        labels.clone(),
        Tensor::full([batch, 1], margin, &device),
        IndexingUpdateOp::Add,
    );
    let similarity = features.matmul(centroids.transpose()) - margins;
    log_softmax(similarity, 1).gather(1, labels).mean().neg()
}
