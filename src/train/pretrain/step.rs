//! One training step of pre-training, and the batch that it takes.
//!
//! A step calls [`forward`], [`Forward::losses`] and [`update`]. The comparison with the numbers of
//! ConCluGen's authors (`src/train/parity/step.rs`) calls the same three functions.

use anyhow::ensure;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Gradients};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::train::features::Features;
use crate::train::fit::values;
use crate::train::objective::{
    Clusters, FeatureBatch, Kmeans, Objective, Outputs, PretextModel, Queue, Replicas, StepLosses,
    kmeans_cosine,
};

use super::PretrainRecipe;

/// The batch with the clips in `rows` of the features. With the objective SimCLR it contains
/// several augmented views of each clip, view after view. `epoch` and `index` (of the batch in the
/// epoch) determine which views are drawn.
///
/// # Errors
/// A row cannot be read, or a clip has too few augmented views.
pub(super) fn batch_of(
    recipe: &PretrainRecipe,
    features: &Features,
    rows: &[usize],
    epoch: usize,
    index: usize,
) -> anyhow::Result<FeatureBatch> {
    let Some(views) = recipe.objectives.iter().find_map(|o| {
        if let Objective::Simclr { views, .. } = o {
            Some(*views)
        } else {
            None
        }
    }) else {
        return features.batch(rows);
    };
    // The views of a clip are adjacent in a store, so the other views of a drawn row are its
    // neighbours.
    let mut rng =
        StdRng::seed_from_u64(recipe.seed ^ ((epoch as u64 + 1) << 40) ^ ((index as u64 + 1) << 8));
    let mut by_view = vec![Vec::new(); views];
    for row in rows {
        let same = |other: usize| {
            features.entry(other).id == features.entry(*row).id && features.entry(other).view > 0
        };
        let first = (0..=*row)
            .rev()
            .take_while(|r| same(*r))
            .last()
            .unwrap_or(*row);
        let all: Vec<usize> = (first..features.count()).take_while(|r| same(*r)).collect();
        ensure!(
            all.len() >= views,
            "{} has {} augmented views, {views} are needed",
            features.entry(*row).id,
            all.len()
        );
        let offset = rng.random_range(0..all.len());
        by_view
            .iter_mut()
            .enumerate()
            .for_each(|(view, rows)| rows.push(all[(offset + view) % all.len()]));
    }
    features.batch(&by_view.concat())
}

/// The outputs of the model for one batch, and the result of k-means.
pub(crate) struct Forward {
    pub outputs: Outputs,
    /// Clusters of the cluster logits; `None` without the clustering objective.
    pub kmeans: Option<Kmeans>,
}

/// Computes the outputs of `learner` for one batch, and clusters its cluster logits by k-means.
/// With `replicas`, each device computes a part of the clips.
///
/// `queue`: rows of earlier batches for k-means; `None` without the clustering objective.
/// `initial(rows, clusters)` returns the indices of the rows that are the initial centroids.
///
/// # Errors
/// The device fails.
pub(crate) fn forward(
    learner: &PretextModel,
    replicas: Option<&Replicas>,
    batch: &FeatureBatch,
    objectives: &[Objective],
    queue: Option<&mut Queue>,
    initial: impl FnOnce(usize, usize) -> Vec<usize>,
    device: &Device,
) -> anyhow::Result<Forward> {
    let outputs = match replicas {
        None => learner.forward(batch, objectives, device),
        Some(replicas) => replicas.forward(learner, batch, objectives, device),
    };
    let mut kmeans = None;
    if let (Some(fused), Some(queue)) = (&outputs.fused, queue) {
        // As in ConCluGen's code, k-means runs and the queue is filled also in epochs in which the
        // clustering loss is not yet active.
        let clusters = fused.dims()[1];
        let input = queue.push(&values(fused.clone().detach())?);
        let initial = initial(input.len() / clusters, clusters);
        kmeans = Some(kmeans_cosine(&input, clusters, &initial));
    }
    Ok(Forward { outputs, kmeans })
}

impl Forward {
    /// The losses of the objectives that are active in `epoch`, which is counted from 0.
    pub fn losses(
        &self,
        learner: &PretextModel,
        batch: &FeatureBatch,
        objectives: &[Objective],
        epoch: usize,
        device: &Device,
    ) -> StepLosses {
        let clusters = self.kmeans.as_ref().map(|found| Clusters {
            labels: &found.labels,
            centroids: &found.centroids,
        });
        let clusters = clusters.as_ref();
        learner.losses(&self.outputs, batch, objectives, epoch, clusters, device)
    }
}

/// Applies one step of the optimiser with `gradients` at the learning rate `rate`, and returns the
/// updated model. With `replicas`, the gradients of all devices are added up.
pub(crate) fn update(
    learner: PretextModel,
    replicas: Option<Replicas>,
    optimizer: &mut ModuleOptimizer,
    gradients: Gradients,
    rate: f64,
    device: &Device,
) -> PretextModel {
    match replicas {
        None => {
            let gradients = GradientsParams::from_grads(gradients, &learner);
            optimizer.step(rate, learner, gradients)
        }
        Some(replicas) => {
            let gradients = replicas.gradients(gradients, &learner, device);
            drop(replicas);
            optimizer.step_multi(rate, learner, gradients)
        }
    }
}

/// One training step: forward pass, k-means, losses, gradients, optimiser. Returns the updated
/// model, and name and value of each active loss, the last of which is `total`.
///
/// The weights stay unchanged if no loss is active or a loss is not finite. `epoch` and `step`
/// (from 0) seed the choice of the initial centroids; `rate`: learning rate. The model is on the
/// first of `devices`; further devices each compute a part of the clips.
///
/// # Errors
/// A device fails.
#[allow(clippy::too_many_arguments)]
pub fn train_step(
    recipe: &PretrainRecipe,
    learner: PretextModel,
    optimizer: &mut ModuleOptimizer,
    batch: &FeatureBatch,
    epoch: usize,
    step: usize,
    queue: Option<&mut Queue>,
    rate: f64,
    devices: &[Device],
) -> anyhow::Result<(PretextModel, Vec<(&'static str, f64)>)> {
    let device = &devices[0];
    let replicas = (devices.len() > 1).then(|| Replicas::new(&learner, &devices[1..]));
    let initial = |rows: usize, clusters: usize| {
        let mut rng =
            StdRng::seed_from_u64(recipe.seed ^ 0x6b6d_6561 ^ ((epoch as u64) << 32) ^ step as u64);
        (0..clusters).map(|_| rng.random_range(0..rows)).collect()
    };
    let objectives = &recipe.objectives;
    let forward = forward(
        &learner,
        replicas.as_ref(),
        batch,
        objectives,
        queue,
        initial,
        device,
    )?;
    let step_losses = forward.losses(&learner, batch, objectives, epoch, device);
    let mut losses = Vec::new();
    for (name, loss) in step_losses
        .each
        .iter()
        .chain([&("total", step_losses.total.clone())])
    {
        losses.push((*name, f64::from(values(loss.clone())?[0])));
    }
    drop(forward);
    // There is no loss if no two clips of a small batch have the same two modalities.
    if step_losses.each.is_empty() || losses.iter().any(|(_, value)| !value.is_finite()) {
        return Ok((learner, losses));
    }
    let gradients = step_losses.total.backward();
    let learner = update(learner, replicas, optimizer, gradients, rate, device);
    Ok((learner, losses))
}
