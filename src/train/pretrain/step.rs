//! One training step, and the batch and the k-means queue that it takes.

use anyhow::ensure;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::train::features::Features;
use crate::train::fit::values;
use crate::train::objective::{
    Clusters, FeatureBatch, Objective, PretextModel, Queue, Replicas, kmeans_cosine,
};

use super::PretrainRecipe;

pub(super) fn queue(recipe: &PretrainRecipe, batch: usize) -> Option<Queue> {
    recipe.objectives.iter().find_map(|o| match o {
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
    // Views of a clip are adjacent in a store: the drawn row is one view, its neighbours are the
    // others. Rows are ordered view after view.
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

/// One step: forward, k-means, losses, gradients, AdamW. Returns each loss and the total. The model
/// is on the first of `devices`; if there are more, each takes its part of the clips.
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
    let outputs = match &replicas {
        None => learner.forward(batch, &recipe.objectives, device),
        Some(replicas) => replicas.forward(&learner, batch, &recipe.objectives, device),
    };
    let mut found = None;
    if let (Some(fused), Some(queue)) = (&outputs.fused, queue) {
        // K-means runs, and the queue fills, before clustering counts: as in the reference.
        let clusters = fused.dims()[1];
        let input = queue.push(&values(fused.clone().detach())?);
        let rows = input.len() / clusters;
        let mut rng =
            StdRng::seed_from_u64(recipe.seed ^ 0x6b6d_6561 ^ ((epoch as u64) << 32) ^ step as u64);
        let initial: Vec<usize> = (0..clusters).map(|_| rng.random_range(0..rows)).collect();
        found = Some(kmeans_cosine(&input, clusters, &initial));
    }
    let clusters = found.as_ref().map(|f| Clusters {
        labels: &f.labels,
        centroids: &f.centroids,
    });
    let step_losses = learner.losses(
        &outputs,
        batch,
        &recipe.objectives,
        epoch,
        clusters.as_ref(),
        device,
    );
    let mut losses = Vec::new();
    for (name, loss) in step_losses
        .each
        .iter()
        .chain([&("total", step_losses.total.clone())])
    {
        losses.push((*name, f64::from(values(loss.clone())?[0])));
    }
    drop(outputs);
    // No loss: no two clips of a small batch have the same two modalities.
    if step_losses.each.is_empty() || losses.iter().any(|(_, value)| !value.is_finite()) {
        return Ok((learner, losses));
    }
    let gradients = step_losses.total.backward();
    let learner = match replicas {
        None => {
            let gradients = GradientsParams::from_grads(gradients, &learner);
            optimizer.step(rate, learner, gradients)
        }
        Some(replicas) => {
            let gradients = replicas.gradients(gradients, &learner, device);
            drop(replicas);
            optimizer.step_multi(rate, learner, gradients)
        }
    };
    Ok((learner, losses))
}
