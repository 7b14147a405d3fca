//! The model of pre-training: representation heads, heads of pre-training (pretext heads), and the
//! losses of one training step.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{ClusterMode, MARGIN, Needs, Objective, clustering_loss, masked_margin_softmax, pairs};
use crate::train::fit::tensor;
use crate::train::heads::{HeadsShape, PretextHeads, PretextShape, RepresentationHeads, unit_rows};

/// A batch: the embeddings of some clips. A modality contains only the clips that have an embedding
/// of this modality.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureBatch {
    /// Number of clips in the batch.
    pub count: usize,
    /// For each modality, the ascending indices (below `count`) of the clips that have it, and
    /// their embeddings, `[clips, dim]` row by row.
    pub modalities: Vec<(Vec<usize>, Vec<f32>)>,
}

/// The trained model of pre-training: representation heads, then projection, cluster and
/// reconstruction heads.
#[derive(Module, Debug)]
pub struct PretextModel {
    pub heads: RepresentationHeads,
    pub(crate) pretext: PretextHeads,
}

/// The outputs of [`PretextModel`] for one batch. Each list has one tensor per modality, with a row
/// for each clip that has this modality.
pub struct Outputs {
    /// Standardised embeddings, the targets of the reconstruction.
    pub embeddings: Vec<Tensor<2>>,
    /// Representations.
    pub representations: Vec<Tensor<2>>,
    /// Reconstructions of the embeddings; empty without the reconstruction objective.
    pub reconstructions: Vec<Tensor<2>>,
    /// Projections, not normalised to length 1; empty if no objective uses them.
    pub projections: Vec<Tensor<2>>,
    /// Cluster logits `[clips, clusters]`; empty without the clustering objective.
    pub cluster_logits: Vec<Tensor<2>>,
    /// The mean of each clip's cluster logits over its modalities, `[batch, clusters]`. `None`
    /// without the clustering objective.
    pub fused: Option<Tensor<2>>,
}

/// Outputs of which each row depends on its own clip only, and not on the rest of the batch. Each
/// list has one tensor per modality, as in [`Outputs`].
#[derive(Default)]
pub(super) struct PerClipOutputs {
    pub embeddings: Vec<Tensor<2>>,
    pub representations: Vec<Tensor<2>>,
    pub reconstructions: Vec<Tensor<2>>,
    /// Outputs of the first layer of the projection head, before batch normalisation.
    pub narrowed: Vec<Tensor<2>>,
    /// Whether there is a clustering objective.
    pub clusters: bool,
}

/// The result of k-means for one batch ([`super::Kmeans`]).
pub struct Clusters<'a> {
    /// Index of the cluster of each row: rows of the queue first, then one row per clip of the
    /// batch.
    pub labels: &'a [usize],
    /// The centroids `[clusters, clusters]`, row by row. K-means groups cluster logits, so a
    /// centroid has one value per cluster.
    pub centroids: &'a [f32],
}

/// What the losses of one training step depend on.
pub(super) struct LossInputs<'a> {
    /// The model's heads of pre-training.
    pub pretext: &'a PretextHeads,
    pub outputs: &'a Outputs,
    pub batch: &'a FeatureBatch,
    /// The result of k-means; `None` without the clustering objective.
    pub clusters: Option<&'a Clusters<'a>>,
    pub device: &'a Device,
}

/// The losses of one training step, as tensors with one value.
pub struct StepLosses {
    /// The loss that training minimises: the mean over active objectives of weight times loss.
    pub total: Tensor<1>,
    /// Name and unweighted loss of each active objective.
    pub each: Vec<(&'static str, Tensor<1>)>,
}

impl PretextModel {
    /// A model with random weights.
    pub fn new(heads: &HeadsShape, pretext: &PretextShape, device: &Device) -> Self {
        PretextModel {
            heads: RepresentationHeads::new(heads, device),
            pretext: PretextHeads::new(heads, pretext, device),
        }
    }

    /// The outputs for `batch` that the losses of `objectives` need.
    pub fn forward(
        &self,
        batch: &FeatureBatch,
        objectives: &[Objective],
        device: &Device,
    ) -> Outputs {
        self.batch_outputs(
            self.per_clip_outputs(batch, objectives, device),
            batch,
            device,
        )
    }

    /// The first part of [`Self::forward`]: outputs of which each row depends on its own clip only.
    /// They use nearly all weights and most of the computation, so replicas compute them in
    /// parallel.
    pub(super) fn per_clip_outputs(
        &self,
        batch: &FeatureBatch,
        objectives: &[Objective],
        device: &Device,
    ) -> PerClipOutputs {
        let needs = |what: fn(&Needs) -> bool| objectives.iter().any(|o| what(&o.needs()));
        let (clusters, projections) = (needs(|n| n.clusters), needs(|n| n.projections));
        let reconstructions = needs(|n| n.reconstructions);
        let mut outputs = PerClipOutputs {
            clusters,
            ..PerClipOutputs::default()
        };
        for (modality, (rows, values)) in batch.modalities.iter().enumerate() {
            let width = self.heads.heads[modality].dim();
            let embedding = tensor(values.clone(), [rows.len(), width], device);
            let representation = self.heads.forward(modality, embedding.clone());
            if projections {
                outputs
                    .narrowed
                    .push(self.pretext.narrow(representation.clone()));
            }
            if reconstructions {
                outputs
                    .reconstructions
                    .push(self.pretext.reconstruct(modality, representation.clone()));
            }
            outputs
                .embeddings
                .push(self.heads.heads[modality].standardise(embedding));
            outputs.representations.push(representation);
        }
        outputs
    }

    /// The second part of [`Self::forward`]: batch normalisation, which depends on all clips of the
    /// batch, and the layers after it.
    pub(super) fn batch_outputs(
        &self,
        outputs: PerClipOutputs,
        batch: &FeatureBatch,
        device: &Device,
    ) -> Outputs {
        let PerClipOutputs {
            embeddings,
            representations,
            reconstructions,
            narrowed,
            clusters,
        } = outputs;
        let projections: Vec<_> = narrowed
            .into_iter()
            .map(|x| self.pretext.project_narrowed(x))
            .collect();
        let cluster_logits: Vec<_> = projections
            .iter()
            .filter(|_| clusters)
            .map(|p| self.pretext.cluster(p.clone()))
            .collect();
        let fused = clusters.then(|| mean_over_modalities(&cluster_logits, batch, device));
        Outputs {
            embeddings,
            representations,
            reconstructions,
            projections,
            cluster_logits,
            fused,
        }
    }

    /// The losses of the objectives that are active in `epoch` (from 0). `clusters`: the result of
    /// k-means for [`Outputs::fused`]; with `None` the clustering loss is left out. A loss that no
    /// clip of the batch contributes to is left out too.
    pub fn losses(
        &self,
        outputs: &Outputs,
        batch: &FeatureBatch,
        objectives: &[Objective],
        epoch: usize,
        clusters: Option<&Clusters<'_>>,
        device: &Device,
    ) -> StepLosses {
        let inputs = LossInputs {
            pretext: &self.pretext,
            outputs,
            batch,
            clusters,
            device,
        };
        let mut each = Vec::new();
        let mut active: Vec<(f64, Tensor<1>)> = Vec::new();
        for objective in objectives.iter().filter(|o| o.is_active(epoch)) {
            let loss = objective.loss(&inputs);
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

/// The mean of weight times loss over `active`, the pairs of weight and loss; `None` if there are
/// none (`src/train/method.md` c.4; in ConCluGen's code `losses_merging_loss.py`).
pub fn merge(active: &[(f64, Tensor<1>)]) -> Option<Tensor<1>> {
    Some(
        sum(active
            .iter()
            .map(|(weight, loss)| loss.clone().mul_scalar(*weight)))?
        .div_scalar(active.len() as f64),
    )
}

/// The reconstruction loss: the sum over modalities of the mean squared error between
/// reconstructions and embeddings, `[clips, dim]` each (`src/train/method.md` c.3). `None` without
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

/// The sum of the losses; `None` without losses.
pub(super) fn sum(losses: impl Iterator<Item = Tensor<1>>) -> Option<Tensor<1>> {
    losses.reduce(|a, b| a + b)
}

/// The contrastive loss: the sum over pairs of modalities of [`masked_margin_softmax`] over the
/// clips that have both modalities of the pair. `None` if no pair has two such clips.
pub(super) fn contrastive(inputs: &LossInputs<'_>, temperature: f64) -> Option<Tensor<1>> {
    let projections = &inputs.outputs.projections;
    let unit: Vec<Tensor<2>> = projections.iter().map(|p| unit_rows(p.clone())).collect();
    sum(paired_clips(&unit, inputs).map(|(a, b)| {
        masked_margin_softmax(a.matmul(b.transpose()).div_scalar(temperature), MARGIN)
    }))
}

/// For each pair of modalities, the rows of the clips that have both: row `i` of both tensors is of
/// the same clip. `rows`: one tensor per modality, with a row for each clip that has this modality.
/// A pair with a single such clip is left out, because a clip alone has no negatives.
pub(super) fn paired_clips<'a>(
    rows: &'a [Tensor<2>],
    inputs: &'a LossInputs<'_>,
) -> impl Iterator<Item = (Tensor<2>, Tensor<2>)> + 'a {
    let (batch, device) = (inputs.batch, inputs.device);
    pairs(rows.len()).into_iter().filter_map(move |(i, j)| {
        let ((a, b), count) = common_clips(&batch.modalities[i].0, &batch.modalities[j].0);
        (count > 1 || batch.count == 1).then(|| {
            (
                pick(rows[i].clone(), a, device),
                pick(rows[j].clone(), b, device),
            )
        })
    })
}

/// Row indices of some clips in the tensor of one modality; `None`: all rows.
type RowSelection = Option<Vec<usize>>;

/// The clips that have both of two modalities: their rows in each modality, and their number. `a`
/// and `b`: the ascending indices of the clips that have the first and the second modality.
fn common_clips(a: &[usize], b: &[usize]) -> ((RowSelection, RowSelection), usize) {
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

/// The selected rows of `x`.
fn pick(x: Tensor<2>, rows: RowSelection, device: &Device) -> Tensor<2> {
    match rows {
        None => x,
        Some(rows) => x.select(0, indices(rows.into_iter(), device)),
    }
}

/// Indices as a tensor.
fn indices(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.map(|r| r as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// The mean of each clip's cluster logits over its modalities, `[batch, clusters]`; zeros for a
/// clip without any modality. `logits`: one tensor `[clips, clusters]` per modality.
fn mean_over_modalities(logits: &[Tensor<2>], batch: &FeatureBatch, device: &Device) -> Tensor<2> {
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
            // Clips without the modality get the appended row of zeros.
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

/// The clustering loss of the batch; `None` without clusters or cluster logits.
pub(super) fn cluster(inputs: &LossInputs<'_>, mode: ClusterMode) -> Option<Tensor<1>> {
    let (found, device) = (inputs.clusters?, inputs.device);
    let fused = inputs.outputs.fused.clone()?;
    let width = fused.dims()[1];
    let centroids = || {
        tensor(
            found.centroids.to_vec(),
            [found.centroids.len() / width, width],
            device,
        )
    };
    // The labels of the queue's rows come first, so the last ones are those of the batch.
    let labels = &found.labels[found.labels.len() - inputs.batch.count..];
    match mode {
        ClusterMode::Joint => Some(clustering_loss(fused, centroids(), labels, MARGIN)),
        ClusterMode::Individual => sum((inputs.outputs.cluster_logits.iter())
            .zip(&inputs.batch.modalities)
            .map(|(logits, (rows, _))| {
                let own: Vec<usize> = rows.iter().map(|clip| labels[*clip]).collect();
                clustering_loss(logits.clone(), centroids(), &own, MARGIN)
            })),
    }
}
