//! Clustering loss: cluster logits against the centroids of k-means (`src/train/method.md` c.2;
//! reference `clustering_loss.py`).

use burn::tensor::activation::log_softmax;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Which vectors are compared with the centroids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterMode {
    /// The mean of the modalities' cluster logits.
    Joint,
    /// The cluster logits of each modality; their losses are summed.
    Individual,
}

/// Cross-entropy of `S = f C^T` with a margin, which is subtracted from the label's entry.
/// `features`: `[batch, dim]`; `centroids`: `[clusters, dim]`, without a gradient; `labels`: the
/// cluster of each row.
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
