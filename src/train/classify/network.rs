//! The network of `finetune` (representation heads and classifier), its inputs and its logits.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand::rngs::StdRng;

use crate::train::features::Features;
use crate::train::fit::{device, tensor, values};
use crate::train::heads::{ClassificationHead, ClassifierShape, HeadsShape, RepresentationHeads};

/// Representation heads and classifier: embeddings to logits. Training, `evaluate` and `export` use
/// its one `forward`.
#[derive(Module, Debug)]
pub struct Recognition {
    pub heads: RepresentationHeads,
    pub classifier: ClassificationHead,
}

impl Recognition {
    /// A network with random weights. `labels`: the number of labels.
    pub fn new(
        heads: &HeadsShape,
        shape: &ClassifierShape,
        labels: usize,
        device: &Device,
    ) -> Self {
        let classifier = ClassificationHead::new(
            shape,
            heads.modalities.len(),
            heads.representation,
            labels,
            device,
        );
        Recognition {
            heads: RepresentationHeads::new(heads, device),
            classifier,
        }
    }

    /// Maps `embeddings`, one tensor `[batch, dim]` per modality with zeros where it is absent, and
    /// `presence`, `[batch, modalities]` with 1 for present and 0 for absent, to logits `[batch,
    /// labels]`.
    pub fn forward(&self, embeddings: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let modalities = embeddings.len();
        let representations = embeddings.into_iter().enumerate().map(|(modality, x)| {
            let representation = self.heads.forward(modality, x);
            let width = representation.dims()[1];
            // The modality's column of `presence`, repeated to the width of a representation. It is
            // a product with a constant matrix, because the ONNX exporter supports no slices.
            let ones: Vec<f32> = (0..modalities * width)
                .map(|i| if i / width == modality { 1.0 } else { 0.0 })
                .collect();
            representation
                * presence.clone().matmul(Tensor::from_data(
                    TensorData::new(ones, [modalities, width]),
                    &presence.device(),
                ))
        });
        self.classifier
            .forward(representations.collect(), presence.clone())
    }
}

/// The inputs of [`Recognition::forward`] for `rows` of the features: the embeddings of each
/// modality, and the presence. Only modalities that are marked in `shown` are present.
///
/// `hide`: a random generator and the probability with which each modality of a row is marked as
/// absent (modality dropout); one modality of each row is always kept.
///
/// # Errors
/// A row cannot be read from its store, or contains a value that is not finite.
pub fn inputs(
    features: &Features,
    rows: &[usize],
    shown: &[bool],
    device: &Device,
    mut hide: Option<(&mut StdRng, f64)>,
) -> anyhow::Result<(Vec<Tensor<2>>, Tensor<2>)> {
    let modalities = features.modalities();
    let mut presence = vec![0.0f32; rows.len() * modalities.len()];
    for (place, row) in rows.iter().enumerate() {
        let mut present: Vec<usize> = (0..modalities.len())
            .filter(|m| shown[*m] && features.has(*row, *m))
            .collect();
        if let Some((rng, share)) = &mut hide {
            let kept: Vec<usize> = present
                .iter()
                .copied()
                .filter(|_| rng.random::<f64>() >= *share)
                .collect();
            present = if kept.is_empty() && !present.is_empty() {
                vec![present[rng.random_range(0..present.len())]]
            } else {
                kept
            };
        }
        present
            .iter()
            .for_each(|m| presence[place * modalities.len() + m] = 1.0);
    }
    let batch = features.batch(rows)?;
    let embeddings = modalities
        .iter()
        .zip(batch.modalities)
        .map(|(shape, (present, found))| {
            let mut all = vec![0.0f32; rows.len() * shape.dim];
            for (place, values) in present.iter().zip(found.chunks(shape.dim)) {
                all[place * shape.dim..][..shape.dim].copy_from_slice(values);
            }
            tensor(all, [rows.len(), shape.dim], device)
        });
    Ok((
        embeddings.collect(),
        tensor(presence, [rows.len(), modalities.len()], device),
    ))
}

/// The logits of the clips in `rows`, `[rows, labels]` row by row, from the modalities that are
/// marked in `shown`.
///
/// # Errors
/// A row cannot be read from its store, or contains a value that is not finite.
pub fn logits(
    net: &Recognition,
    features: &Features,
    rows: &[usize],
    shown: &[bool],
) -> anyhow::Result<Vec<f32>> {
    let mut all = Vec::new();
    for rows in rows.chunks(512) {
        let (embeddings, presence) = inputs(features, rows, shown, &device(), None)?;
        all.extend(values(net.forward(embeddings, presence))?);
    }
    Ok(all)
}
