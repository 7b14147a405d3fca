//! Computes embeddings without a cache, for the self-test and the trainer.

use std::sync::Arc;

use super::Embeddings;
use super::batch::{gather_frames, mean, run_crops, run_rows};
use super::text_embedding::text_embedding;
use crate::clip::Crop;
use crate::encode::EncodeError;
use crate::manifest::{EncoderKind, Manifest};
use crate::modality::Modality;
use crate::model::{Bundle, Encoder};
use crate::preprocess::LogMel;

/// Computes the embeddings of one clip's crops, sound and text, without a cache.
///
/// `samples` are mono at the manifest's rate. An encoder without input is missing from the result,
/// which is by encoder name. A `frame` encoder's embedding is the unweighted mean over `crops`.
///
/// # Errors
/// The tokenizer or a graph fails.
pub fn embed(
    bundle: &mut Bundle,
    crops: &[Arc<Crop>],
    samples: Option<&[f32]>,
    text: Option<&str>,
) -> Result<Embeddings, EncodeError> {
    let mut embeddings = Embeddings::new();
    let mel = bundle.manifest.audio.as_ref().map(LogMel::new);
    for encoder in &mut bundle.encoders {
        let embedding = match (encoder.entry.modality, encoder.entry.kind) {
            (Modality::Face, _) if crops.is_empty() => continue,
            (Modality::Face, EncoderKind::Frame) => {
                let all = frame_embeddings(encoder, &bundle.manifest, crops)?;
                mean(
                    encoder.entry.dim,
                    all.iter().map(|embedding| (1.0, embedding.as_slice())),
                )
            }
            (Modality::Face, _) => window_embedding(encoder, &bundle.manifest, crops)?,
            (Modality::Text, _) => {
                match text_embedding(encoder, bundle.tokenizer.as_ref(), text.unwrap_or_default())?
                {
                    Some(embedding) => embedding,
                    None => continue,
                }
            }
            _ => match samples {
                Some(samples) => voice_embedding(encoder, mel.as_ref(), samples)?,
                None => continue,
            },
        };
        embeddings.insert(encoder.entry.name.clone(), embedding);
    }
    Ok(embeddings)
}

/// The embedding of each crop by a `frame` encoder, in the order of `crops`.
pub(crate) fn frame_embeddings(
    encoder: &mut Encoder,
    manifest: &Manifest,
    crops: &[Arc<Crop>],
) -> Result<Vec<Vec<f32>>, EncodeError> {
    let crops: Vec<&Crop> = crops.iter().map(|crop| &**crop).collect();
    let (mut embeddings, mut input) = (Vec::with_capacity(crops.len()), Vec::new());
    run_crops(encoder, manifest, &crops, &mut input, |_, embedding| {
        embeddings.push(embedding.to_vec())
    })?;
    Ok(embeddings)
}

/// The embedding of all crops together, by an encoder that takes several frames.
fn window_embedding(
    encoder: &mut Encoder,
    manifest: &Manifest,
    crops: &[Arc<Crop>],
) -> Result<Vec<f32>, EncodeError> {
    let crops: Vec<&Crop> = crops.iter().map(|crop| &**crop).collect();
    let mut input = Vec::new();
    gather_frames(encoder, manifest, &crops, &mut input);
    let frames = encoder.entry.input[0].max(1);
    let crop = [crops[0].channels, crops[0].size, crops[0].size];
    one_row(encoder, &[&[frames], &crop[..]].concat(), &input)
}

/// The embedding of mono samples at the manifest's rate.
fn voice_embedding(
    encoder: &mut Encoder,
    mel: Option<&LogMel>,
    samples: &[f32],
) -> Result<Vec<f32>, EncodeError> {
    let mel = mel.expect("checked when the bundle was opened");
    let (values, frames) = mel.compute(samples);
    one_row(encoder, &[1, mel.mels(), frames], &values)
}

/// Runs an encoder on one input of shape `shape` (without the batch axis); returns its embedding.
fn one_row(
    encoder: &mut Encoder,
    shape: &[usize],
    values: &[f32],
) -> Result<Vec<f32>, EncodeError> {
    let mut row = Vec::new();
    run_rows(
        &mut encoder.graph,
        encoder.entry.dim,
        shape,
        values,
        |_, embedding| row = embedding.to_vec(),
    )?;
    Ok(row)
}
