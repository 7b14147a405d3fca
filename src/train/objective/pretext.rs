//! The model of pre-training: representation heads, pre-training heads, and the losses of one step.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    ClusterMode, MARGIN, Objective, clustering_loss, masked_margin_softmax, pairs, simclr_loss,
};
use crate::train::fit::tensor;
use crate::train::heads::{HeadsShape, PretextHeads, PretextShape, RepresentationHeads, unit_rows};

/// The embeddings of some clips. Each modality contains only the clips that have an embedding of
/// it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureBatch {
    /// Number of clips in the batch.
    pub count: usize,
    /// Per modality: the ascending indices of the clips that have it, and their embeddings, row by
    /// row.
    pub modalities: Vec<(Vec<usize>, Vec<f32>)>,
}

/// Representation heads followed by the heads of pre-training.
#[derive(Module, Debug)]
pub struct PretextModel {
    pub heads: RepresentationHeads,
    pub(crate) pretext: PretextHeads,
}

/// The outputs of a step, per modality, for the clips that have it.
pub struct Outputs {
    /// Standardised embeddings, the targets of the reconstruction.
    pub embeddings: Vec<Tensor<2>>,
    pub representations: Vec<Tensor<2>>,
    /// Reconstructions from the representations; empty without that objective.
    pub reconstructions: Vec<Tensor<2>>,
    /// Projections, not normalised.
    pub projections: Vec<Tensor<2>>,
    /// Cluster logits `[present, clusters]`; empty without clustering.
    pub cluster_logits: Vec<Tensor<2>>,
    /// Mean cluster logits over the modalities of each clip, `[batch, clusters]`.
    pub fused: Option<Tensor<2>>,
}

/// Outputs per modality that depend on single clips only.
#[derive(Default)]
pub(super) struct Parts {
    pub embeddings: Vec<Tensor<2>>,
    pub representations: Vec<Tensor<2>>,
    pub reconstructions: Vec<Tensor<2>>,
    /// Outputs of the projection's first layer, before batch normalisation.
    pub narrowed: Vec<Tensor<2>>,
    /// Whether there is a clustering loss.
    pub clusters: bool,
}

/// The result of k-means for one batch.
pub struct Clusters<'a> {
    /// The cluster of each row.
    pub labels: &'a [usize],
    /// The centroids `[clusters, clusters]`, row by row. The rows that k-means gets are cluster
    /// logits, so a centroid has one value per cluster.
    pub centroids: &'a [f32],
}

/// The losses of one step.
pub struct StepLosses {
    /// The minimised loss: the mean over active objectives of weight times loss.
    pub total: Tensor<1>,
    /// The unweighted loss of each active objective, by its name.
    pub each: Vec<(&'static str, Tensor<1>)>,
}

impl PretextModel {
    pub fn new(heads: &HeadsShape, pretext: &PretextShape, device: &Device) -> Self {
        PretextModel {
            heads: RepresentationHeads::new(heads, device),
            pretext: PretextHeads::new(heads, pretext, device),
        }
    }

    /// Everything that the objectives need.
    pub fn forward(
        &self,
        batch: &FeatureBatch,
        objectives: &[Objective],
        device: &Device,
    ) -> Outputs {
        self.join(self.parts(batch, objectives, device), batch, device)
    }

    /// The outputs that do not depend on the rest of the batch: they use nearly all weights and
    /// most of the computation.
    pub(super) fn parts(
        &self,
        batch: &FeatureBatch,
        objectives: &[Objective],
        device: &Device,
    ) -> Parts {
        let wants = |names: &[&str]| objectives.iter().any(|o| names.contains(&o.name()));
        let mut parts = Parts {
            clusters: wants(&["clustering"]),
            ..Parts::default()
        };
        for (modality, (rows, values)) in batch.modalities.iter().enumerate() {
            let width = self.heads.heads[modality].dim();
            let embedding = tensor(values.clone(), [rows.len(), width], device);
            let representation = self.heads.forward(modality, embedding.clone());
            if wants(&["contrastive", "clustering", "simclr"]) {
                parts
                    .narrowed
                    .push(self.pretext.narrow(representation.clone()));
            }
            if wants(&["reconstruction"]) {
                parts
                    .reconstructions
                    .push(self.pretext.reconstruct(modality, representation.clone()));
            }
            parts
                .embeddings
                .push(self.heads.heads[modality].standardise(embedding));
            parts.representations.push(representation);
        }
        parts
    }

    /// The outputs that depend on the whole batch: batch normalisation by its statistics, and later
    /// layers.
    pub(super) fn join(&self, parts: Parts, batch: &FeatureBatch, device: &Device) -> Outputs {
        let Parts {
            embeddings,
            representations,
            reconstructions,
            narrowed,
            clusters,
        } = parts;
        let projections: Vec<_> = narrowed
            .into_iter()
            .map(|x| self.pretext.project_narrowed(x))
            .collect();
        let cluster_logits: Vec<_> = projections
            .iter()
            .filter(|_| clusters)
            .map(|p| self.pretext.cluster(p.clone()))
            .collect();
        let fused = clusters.then(|| fuse(&cluster_logits, batch, device));
        Outputs {
            embeddings,
            representations,
            reconstructions,
            projections,
            cluster_logits,
            fused,
        }
    }

    /// The losses of a step. `clusters`: the result of k-means for [`Outputs::fused`]; without it
    /// the clustering loss is left out.
    pub fn losses(
        &self,
        outputs: &Outputs,
        batch: &FeatureBatch,
        objectives: &[Objective],
        epoch: usize,
        clusters: Option<&Clusters<'_>>,
        device: &Device,
    ) -> StepLosses {
        let mut each = Vec::new();
        let mut active: Vec<(f64, Tensor<1>)> = Vec::new();
        for objective in objectives.iter().filter(|o| o.is_active(epoch)) {
            let loss = match objective {
                Objective::Contrastive { temperature, .. } => {
                    contrastive(outputs, batch, *temperature, device)
                }
                Objective::Clustering { mode, .. } => {
                    clusters.and_then(|found| cluster(outputs, batch, *mode, found, device))
                }
                Objective::Reconstruction { .. } => {
                    reconstruction_loss(&outputs.reconstructions, &outputs.embeddings)
                }
                Objective::Simclr {
                    temperature, views, ..
                } => Some(simclr_loss(
                    unit_rows(outputs.projections[0].clone()),
                    *views,
                    *temperature,
                )),
            };
            if let Some(loss) = loss {
                each.push((objective.name(), loss.clone()));
                active.push((objective.weight(), loss));
            }
        }
        StepLosses {
            total: merge(&active).unwrap_or_else(|| Tensor::zeros([1], device)),
            each,
        }
    }
}

/// The mean over active losses of weight times loss; `None` if no loss is active
/// (`src/train/method.md` c.4; reference `losses_merging_loss.py`).
pub fn merge(active: &[(f64, Tensor<1>)]) -> Option<Tensor<1>> {
    Some(
        sum(active
            .iter()
            .map(|(weight, loss)| loss.clone().mul_scalar(*weight)))?
        .div_scalar(active.len() as f64),
    )
}

/// The sum over modalities of the mean squared error (`src/train/method.md` c.3); `None` without
/// modalities.
pub fn reconstruction_loss(
    reconstructions: &[Tensor<2>],
    embeddings: &[Tensor<2>],
) -> Option<Tensor<1>> {
    sum(reconstructions
        .iter()
        .zip(embeddings)
        .map(|(r, e)| (r.clone() - e.clone()).square().mean()))
}

fn sum(losses: impl Iterator<Item = Tensor<1>>) -> Option<Tensor<1>> {
    losses.reduce(|a, b| a + b)
}

/// The sum over pairs of modalities of the contrastive loss, each over the clips that have both.
fn contrastive(
    outputs: &Outputs,
    batch: &FeatureBatch,
    temperature: f64,
    device: &Device,
) -> Option<Tensor<1>> {
    let unit: Vec<Tensor<2>> = outputs
        .projections
        .iter()
        .map(|p| unit_rows(p.clone()))
        .collect();
    sum(pairs(unit.len()).into_iter().filter_map(|(i, j)| {
        let ((a, b), count) = common(&batch.modalities[i].0, &batch.modalities[j].0);
        // A single clip has no negatives.
        (count > 1 || batch.count == 1).then(|| {
            let (a, b) = (
                pick(unit[i].clone(), a, device),
                pick(unit[j].clone(), b, device),
            );
            masked_margin_softmax(a.matmul(b.transpose()).div_scalar(temperature), MARGIN)
        })
    }))
}

/// Indices of clips in a batch; `None`: all clips.
type Places = Option<Vec<usize>>;

/// The indices, in either modality, of the clips that have both modalities, and the number of these
/// clips.
fn common(a: &[usize], b: &[usize]) -> ((Places, Places), usize) {
    if a == b {
        return ((None, None), a.len());
    }
    let places = |x: &[usize], y: &[usize]| {
        x.iter()
            .enumerate()
            .filter(|(_, clip)| y.binary_search(clip).is_ok())
            .map(|(i, _)| i)
            .collect::<Vec<_>>()
    };
    let (x, y) = (places(a, b), places(b, a));
    let count = x.len();
    ((Some(x), Some(y)), count)
}

fn pick(x: Tensor<2>, rows: Option<Vec<usize>>, device: &Device) -> Tensor<2> {
    match rows {
        None => x,
        Some(rows) => x.select(0, indices(rows.into_iter(), device)),
    }
}

fn indices(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.map(|r| r as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// The mean over the modalities of each clip: `[batch, clusters]`, zero for a clip without any.
fn fuse(logits: &[Tensor<2>], batch: &FeatureBatch, device: &Device) -> Tensor<2> {
    let whole = batch
        .modalities
        .iter()
        .all(|(rows, _)| rows.len() == batch.count);
    if whole {
        let sum = logits
            .iter()
            .cloned()
            .reduce(|a, b| a + b)
            .expect("at least one modality");
        return sum.div_scalar(logits.len() as f64);
    }
    let clusters = logits[0].dims()[1];
    let mut counts = vec![0.0f32; batch.count];
    let spread: Vec<Tensor<2>> = logits
        .iter()
        .zip(&batch.modalities)
        .map(|(logits, (rows, _))| {
            // Clips without the modality take a row of zeros after the others.
            let mut places = vec![rows.len(); batch.count];
            for (place, clip) in rows.iter().enumerate() {
                places[*clip] = place;
                counts[*clip] += 1.0;
            }
            let padded = Tensor::cat(
                vec![logits.clone(), Tensor::zeros([1, clusters], device)],
                0,
            );
            padded.select(0, indices(places.into_iter(), device))
        })
        .collect();
    let counts = counts.iter().map(|c| c.max(1.0)).collect();
    spread
        .into_iter()
        .reduce(|a, b| a + b)
        .expect("at least one modality")
        / tensor(counts, [batch.count, 1], device)
}

fn cluster(
    outputs: &Outputs,
    batch: &FeatureBatch,
    mode: ClusterMode,
    found: &Clusters<'_>,
    device: &Device,
) -> Option<Tensor<1>> {
    let fused = outputs.fused.clone()?;
    let width = fused.dims()[1];
    let centroids = || {
        tensor(
            found.centroids.to_vec(),
            [found.centroids.len() / width, width],
            device,
        )
    };
    // The last labels are the batch's: the queue's come before them.
    let labels = &found.labels[found.labels.len() - batch.count..];
    match mode {
        ClusterMode::Joint => Some(clustering_loss(fused, centroids(), labels, MARGIN)),
        ClusterMode::Individual => {
            sum(outputs
                .cluster_logits
                .iter()
                .zip(&batch.modalities)
                .map(|(logits, (rows, _))| {
                    let own: Vec<usize> = rows.iter().map(|clip| labels[*clip]).collect();
                    clustering_loss(logits.clone(), centroids(), &own, MARGIN)
                }))
        }
    }
}
