//! Class weights of the classifier's loss.

use anyhow::{Context, ensure};

use crate::manifest::Task;
use crate::train::metrics::{Truth, weights};

use super::{ClassWeights, FinetuneRecipe};

/// The weight of each label in the loss, by [`FinetuneRecipe::class_weights`]; `None` without class
/// weights. `truth`: the labels of the training clips; `labels`: the number of labels.
///
/// # Errors
/// The recipe asks for the reference's weights, and ConCluGen has none for `dataset` or has them
/// for another number of labels.
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
