//! Training on several devices: each device has a copy of the weights and computes a part of the
//! clips of each batch.
//!
//! Objectives compare every clip with every other clip, and batch normalisation uses the statistics
//! of the whole batch. Therefore devices compute only outputs that depend on single clips, which
//! use nearly all weights and most of the computation. The outputs are gathered on the first
//! device, which computes the losses. One backward pass covers all devices, so gradients equal
//! those of one device. With PyTorch's DistributedDataParallel, the statistics would be those of
//! parts of the batch.

use burn::module::Module;
use burn::optim::{GradientsParams, MultiGradientsParams};
use burn::tensor::{Device, Gradients, Tensor};

use super::pretext::PerClipOutputs;
use super::{FeatureBatch, Objective, Outputs, PretextModel};

/// Copies of a model on further devices, for one training step.
pub struct Replicas {
    copies: Vec<(PretextModel, Device)>,
}

impl Replicas {
    /// Copies `model` to each of the devices `others`. Each copy has its own autodiff graph.
    pub fn new(model: &PretextModel, others: &[Device]) -> Replicas {
        Replicas {
            copies: others
                .iter()
                .map(|device| (model.clone().fork(device), device.clone()))
                .collect(),
        }
    }

    /// The outputs of [`PretextModel::forward`] on `device`. `model` and its copies each compute an
    /// equal part of the clips.
    pub fn forward(
        &self,
        model: &PretextModel,
        batch: &FeatureBatch,
        objectives: &[Objective],
        device: &Device,
    ) -> Outputs {
        let pieces = split(batch, 1 + self.copies.len());
        // All devices start before the first outputs are gathered, so they compute in parallel.
        let mut all = vec![model.per_clip_outputs(&pieces[0], objectives, device)];
        all.extend(
            self.copies
                .iter()
                .zip(&pieces[1..])
                .map(|((copy, there), piece)| copy.per_clip_outputs(piece, objectives, there)),
        );
        model.batch_outputs(gather(all, device), batch, device)
    }

    /// The gradients of `model` (on `device`) and of all copies, taken from `gradients`. The
    /// optimiser adds them up.
    pub fn gradients(
        &self,
        mut gradients: Gradients,
        model: &PretextModel,
        device: &Device,
    ) -> MultiGradientsParams {
        let mut grads = vec![(
            GradientsParams::from_module(&mut gradients, model),
            device.clone(),
        )];
        grads.extend(self.copies.iter().map(|(copy, there)| {
            (
                GradientsParams::from_module(&mut gradients, copy),
                there.clone(),
            )
        }));
        MultiGradientsParams { grads }
    }
}

/// Divides the clips of `batch` into `parts` contiguous parts of nearly equal size, whose
/// concatenation is the batch. Indices of clips in a part start at 0.
fn split(batch: &FeatureBatch, parts: usize) -> Vec<FeatureBatch> {
    let bound = |part: usize| batch.count * part / parts;
    (0..parts)
        .map(|part| {
            let (from, to) = (bound(part), bound(part + 1));
            let piece = |(rows, values): &(Vec<usize>, Vec<f32>)| {
                let width = values.len() / rows.len().max(1);
                let (first, last) = (
                    rows.partition_point(|r| *r < from),
                    rows.partition_point(|r| *r < to),
                );
                (
                    rows[first..last].iter().map(|r| r - from).collect(),
                    values[first * width..last * width].to_vec(),
                )
            };
            FeatureBatch {
                count: to - from,
                modalities: batch.modalities.iter().map(piece).collect(),
            }
        })
        .collect()
}

/// Concatenates the outputs of the parts of a batch on `device`.
fn gather(parts: Vec<PerClipOutputs>, device: &Device) -> PerClipOutputs {
    let clusters = parts[0].clusters;
    let join = |of: fn(&PerClipOutputs) -> &Vec<Tensor<2>>| {
        let here = |modality: usize| {
            parts
                .iter()
                .map(|part| of(part)[modality].clone().to_device(device))
                .filter(|t| t.dims()[0] > 0)
                .collect::<Vec<_>>()
        };
        (0..of(&parts[0]).len())
            .map(|modality| match here(modality) {
                // No clip of the batch has this modality.
                none if none.is_empty() => of(&parts[0])[modality].clone(),
                some => Tensor::cat(some, 0),
            })
            .collect()
    };
    PerClipOutputs {
        embeddings: join(|p| &p.embeddings),
        representations: join(|p| &p.representations),
        reconstructions: join(|p| &p.reconstructions),
        narrowed: join(|p| &p.narrowed),
        clusters,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_concatenated_parts_of_a_split_batch_are_the_batch(
            present in prop::collection::vec(prop::collection::vec(any::<bool>(), 12), 1..4),
            parts in 1usize..6,
        ) {
            let modalities: Vec<(Vec<usize>, Vec<f32>)> = present.iter().map(|has| {
                let rows: Vec<usize> = (0..12).filter(|i| has[*i]).collect();
                let values = rows.iter().flat_map(|r| [*r as f32, 0.5]).collect();
                (rows, values)
            }).collect();
            let batch = FeatureBatch { count: 12, modalities };
            let pieces = split(&batch, parts);
            prop_assert_eq!(pieces.iter().map(|p| p.count).sum::<usize>(), 12);
            for (modality, (rows, values)) in batch.modalities.iter().enumerate() {
                let mut first = 0;
                let (mut all_rows, mut all_values) = (Vec::new(), Vec::new());
                for piece in &pieces {
                    prop_assert!(piece.modalities[modality].0.iter().all(|r| *r < piece.count));
                    all_rows.extend(piece.modalities[modality].0.iter().map(|r| r + first));
                    all_values.extend_from_slice(&piece.modalities[modality].1);
                    first += piece.count;
                }
                prop_assert_eq!(&all_rows, rows);
                prop_assert_eq!(&all_values, values);
            }
        }
    }
}
