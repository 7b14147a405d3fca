//! The classifier over representations, its input tensors and its logits.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand::rngs::StdRng;

use crate::train::features::Features;
use crate::train::fit::{device, tensor, values};
use crate::train::heads::{ClassificationHead, ClassifierShape, HeadsShape, RepresentationHeads};

/// Representation heads and classifier. `evaluate` and `export` use the same `forward`.
#[derive(Module, Debug)]
pub struct Recognition {
    pub heads: RepresentationHeads,
    pub classifier: ClassificationHead,
}

impl Recognition {
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

    /// Maps the embeddings of each modality, `[batch, dim]` with zeros where absent, and the
    /// presence, `[batch, modalities]`, to logits `[batch, labels]`.
    pub fn forward(&self, embeddings: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let modalities = embeddings.len();
        let representations = embeddings.into_iter().enumerate().map(|(modality, x)| {
            let representation = self.heads.forward(modality, x);
            let width = representation.dims()[1];
            // The modality's column of presence, as wide as a representation: a product with a
            // constant, which the exporter takes.
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

/// The embeddings of all encoders and the presence, for `rows` of the features. Only modalities
/// marked in `shown` are present; with a generator, some of them are hidden at random.
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

/// The logits of clips, `[clips, labels]`, from the modalities marked in `shown`.
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
