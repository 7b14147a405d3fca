//! Losses of fine-tuning (`src/train/method.md` c.6): cross-entropy over exclusive classes, or
//! binary cross-entropy per label.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Int, Tensor, TensorData};

/// Cross-entropy of logits `[batch, classes]` with one class per row. With `weights`, one per
/// class, a row counts as much as its class does, and the sum is divided by the rows' weights
/// together.
///
/// # Panics
/// If there are not as many targets as rows, or a target is not below the number of weights.
pub fn weighted_cross_entropy(
    logits: Tensor<2>,
    targets: &[usize],
    weights: Option<&[f32]>,
) -> Tensor<1> {
    let [batch, _] = logits.dims();
    assert_eq!(batch, targets.len(), "one target per row");
    let device = logits.device();
    let indices: Vec<i32> = targets.iter().map(|t| *t as i32).collect();
    let picked = log_softmax(logits, 1).gather(
        1,
        Tensor::<2, Int>::from_data(TensorData::new(indices, [batch, 1]), &device),
    );
    let counts: Vec<f32> = targets
        .iter()
        .map(|t| weights.map_or(1.0, |w| w[*t]))
        .collect();
    let total: f64 = counts.iter().map(|c| f64::from(*c)).sum();
    (picked * Tensor::from_data(TensorData::new(counts, [batch, 1]), &device))
        .sum()
        .div_scalar(-total)
}

/// Binary cross-entropy of logits with targets of 0 and 1, `[batch, labels]` each, averaged over
/// both. `positive` multiplies the loss of each label's ones.
///
/// # Panics
/// If there are not as many weights as labels.
pub fn weighted_bce(logits: Tensor<2>, targets: Tensor<2>, positive: Option<&[f32]>) -> Tensor<1> {
    let labels = logits.dims()[1];
    let ones = targets.clone() * log_sigmoid(logits.clone());
    let ones = match positive {
        Some(weights) => {
            ones * Tensor::from_data(
                TensorData::new(weights.to_vec(), [1, labels]),
                &logits.device(),
            )
        }
        None => ones,
    };
    let zeros = (targets.neg() + 1.0) * log_sigmoid(logits.neg());
    (ones + zeros).mean().neg()
}
