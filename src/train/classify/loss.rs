//! The classifier's loss and its class weights.

use anyhow::{Context, ensure};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};

use crate::manifest::Task;
use crate::train::fit::tensor;
use crate::train::metrics::{Truth, weights};

use super::{ClassWeights, FinetuneRecipe};

pub(super) fn class_weights(
    recipe: &FinetuneRecipe,
    dataset: &str,
    labels: usize,
    truth: &Truth,
) -> anyhow::Result<Option<Vec<f32>>> {
    let counts = weights::count_labels(labels, truth);
    let items = match truth {
        Truth::Classes(classes) => classes.len(),
        Truth::Labels(holds) => holds.len() / labels,
    };
    let found = match (recipe.class_weights, recipe.task) {
        (ClassWeights::None, _) => return Ok(None),
        (ClassWeights::Inverse, Task::Single) => weights::inverse_frequency_weights(&counts),
        (ClassWeights::Inverse, Task::Multi) => weights::positive_weights(&counts, items),
        (ClassWeights::Reference, _) => weights::reference_weights(dataset, &counts)
            .with_context(|| format!("the reference has no class weights for {dataset}"))?,
    };
    ensure!(
        found.len() == labels,
        "the reference's weights are for {} labels, here are {labels}",
        found.len()
    );
    Ok(Some(found.iter().map(|w| *w as f32).collect()))
}

/// Weighted cross-entropy (mean over weights) or binary cross-entropy (`src/train/method.md` c.6).
pub(super) fn label_loss(
    logits: Tensor<2>,
    truth: &Truth,
    weights: Option<&[f32]>,
    device: &Device,
) -> Tensor<1> {
    let [rows, labels] = logits.dims();
    match truth {
        Truth::Classes(classes) => {
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
            let soft_plus = burn::tensor::activation::softplus(logits.clone(), 1.0);
            let loss = tensor(positive, shape, device) * (soft_plus.clone() - logits)
                + tensor(negative, shape, device) * soft_plus;
            loss.mean()
        }
    }
}
