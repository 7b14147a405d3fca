//! The loss of fine-tuning (`src/train/method.md` c.6): cross-entropy for one label per clip,
//! binary cross-entropy for several.

use burn::tensor::activation::{log_softmax, softplus};
use burn::tensor::{Device, Tensor};

use crate::train::fit::tensor;
use crate::train::metrics::Truth;

/// Loss of `logits`, `[rows, labels]`, against the true labels of the rows, in nats. `weights`: one
/// value per label; `None`: all are 1.
///
/// [`Truth::Classes`]: mean cross-entropy over rows, in which each row has the weight of its label.
///
/// [`Truth::Labels`]: binary cross-entropy, averaged over rows and labels. The weight of a label is
/// a factor on the loss of its positive rows only (PyTorch's `pos_weight`).
///
/// # Panics
/// The number of targets does not match the rows, or a class is not below the number of labels.
pub fn label_loss(
    logits: Tensor<2>,
    truth: &Truth,
    weights: Option<&[f32]>,
    device: &Device,
) -> Tensor<1> {
    let [rows, labels] = logits.dims();
    match truth {
        Truth::Classes(classes) => {
            assert_eq!(rows, classes.len(), "one class per row");
            let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
            let sum: f32 = classes
                .iter()
                .map(|c| weight(*c))
                .sum::<f32>()
                .max(f32::MIN_POSITIVE);
            let mut targets = vec![0.0f32; rows * labels];
            classes
                .iter()
                .enumerate()
                .for_each(|(row, class)| targets[row * labels + class] = weight(*class) / sum);
            (log_softmax(logits, 1) * tensor(targets, [rows, labels], device))
                .sum()
                .neg()
        }
        Truth::Labels(holds) => {
            let (mut positive, mut negative) =
                (vec![0.0f32; holds.len()], vec![0.0f32; holds.len()]);
            for (i, holds) in holds.iter().enumerate() {
                if *holds {
                    positive[i] = weights.map_or(1.0, |w| w[i % labels])
                } else {
                    negative[i] = 1.0
                }
            }
            let shape = [rows, labels];
            // ln sigmoid(x) = x - softplus(x), ln (1 - sigmoid(x)) = -softplus(x).
            let soft_plus = softplus(logits.clone(), 1.0);
            let loss = tensor(positive, shape, device) * (soft_plus.clone() - logits)
                + tensor(negative, shape, device) * soft_plus;
            loss.mean()
        }
    }
}
