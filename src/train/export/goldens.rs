//! The goldens of a bundle: inputs and outputs of its graphs, computed at export.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use crate::encode::{Graph, Precision};
use crate::modality::Modality;
use crate::model::golden::{GoldenCase, Goldens, golden_crop, golden_samples};
use crate::preprocess::{LogMel, normalise};
use crate::recognize::text_embedding;
use crate::train::fusion::HeadBatch;
use crate::train::opened_bundle::OpenedBundle;

/// Computes the goldens of the bundle in the folder `bundle`: the outputs of its graphs for
/// generated inputs. The cases are: a face; a voice; a face and a voice; one face frame and a short
/// voice; a text; all three modalities.
///
/// # Errors
/// A graph cannot be opened or run, or the bundle lacks an encoder of face, voice or text.
pub(super) fn goldens(bundle: &Path) -> anyhow::Result<Goldens> {
    let (mut opened, mut light) = (
        OpenedBundle::open_in(bundle, Precision::Fp32)?,
        OpenedBundle::open(bundle)?,
    );
    let face = opened.manifest.face.clone().context("no [face]")?;
    let audio = opened.manifest.audio.clone().context("no [audio]")?;
    let mel = LogMel::new(&audio);
    let mut cases = Vec::new();
    let inputs = [
        (1, 3, 0, None),
        (2, 0, 32_000, None),
        (3, 5, 32_000, None),
        (4, 1, 12_000, None),
        (5, 0, 0, Some("What a lovely day!")),
        (6, 2, 32_000, Some("I did not expect that.")),
    ];
    for (seed, face_frames, voice_samples, text) in inputs {
        let (mut embeddings, mut int8) = (BTreeMap::new(), BTreeMap::new());
        if face_frames > 0 {
            let dim = opened
                .manifest
                .encoder("face")
                .context("no face encoder")?
                .dim;
            let mean = |graph: &mut Graph| -> anyhow::Result<Vec<f32>> {
                let mut mean = vec![0.0f32; dim];
                for frame in 0..face_frames {
                    let input = normalise(
                        &golden_crop(seed, frame as u32, face.size, face.channels),
                        &face.normalise,
                    );
                    let [embedding, _] = OpenedBundle::encode(
                        graph,
                        &[face.channels, face.size, face.size],
                        &input,
                    )?;
                    mean.iter_mut()
                        .zip(&embedding.values)
                        .for_each(|(m, v)| *m += v / face_frames as f32);
                }
                Ok(mean)
            };
            embeddings.insert("face".to_owned(), mean(&mut opened.face)?);
            if light.face.precision() == Precision::Int8 {
                int8.insert("face".to_owned(), mean(&mut light.face)?);
            }
        }
        if voice_samples > 0 {
            let (input, frames) = mel.compute(&golden_samples(seed, voice_samples));
            let [embedding, _] =
                OpenedBundle::encode(&mut opened.voice, &[1, audio.mels, frames], &input)?;
            embeddings.insert("voice".to_owned(), embedding.values);
            if light.voice.precision() == Precision::Int8 {
                let [embedding, _] =
                    OpenedBundle::encode(&mut light.voice, &[1, audio.mels, frames], &input)?;
                int8.insert("voice".to_owned(), embedding.values);
            }
        }
        if let Some(text) = text {
            let embedding = text_embedding(
                &mut opened.words.encoder,
                Some(&opened.words.tokenizer),
                text,
            )?
            .context("the golden words have no token")?;
            embeddings.insert("text".to_owned(), embedding);
        }
        let input = |modality: Modality| -> anyhow::Result<Vec<f32>> {
            let dim = opened
                .manifest
                .encoder(modality.name())
                .with_context(|| format!("no encoder {}", modality.name()))?
                .dim;
            Ok(embeddings
                .get(modality.name())
                .cloned()
                .unwrap_or_else(|| vec![0.0; dim]))
        };
        let presence = Modality::ALL
            .map(|m| f32::from(embeddings.contains_key(m.name())))
            .to_vec();
        let embedded = Modality::ALL
            .into_iter()
            .map(input)
            .collect::<anyhow::Result<_>>()?;
        let logits = opened.fuse(&HeadBatch {
            count: 1,
            embeddings: embedded,
            presence,
            targets: vec![],
        })?;
        cases.push(GoldenCase {
            seed,
            face_frames,
            voice_samples,
            text: text.map(str::to_owned),
            embeddings,
            int8,
            logits,
            also: Default::default(),
        });
    }
    Ok(Goldens { cases })
}
