//! A bundle opened by the trainer, for evaluation.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::encode::{Graph, GraphFiles, Input, Output, Precision, Provider, Runtime};
use crate::manifest::{EncoderEntry, FacePreprocessing, Manifest, hex_sha256};
use crate::model::Encoder;
use crate::preprocess::Tokenizer;
use crate::train::fusion::HeadBatch;
use crate::train::sentences::SentenceEncoder;

/// A bundle's manifest and graphs, opened on a CPU as the daemon opens them. Each file is checked
/// against its hash.
pub struct OpenedBundle {
    /// The bundle's `manifest.toml`.
    pub manifest: Manifest,
    /// The face encoder.
    pub face: Graph,
    /// The voice encoder.
    pub voice: Graph,
    /// The text encoder.
    pub words: SentenceEncoder,
    /// The head: from embeddings and presence to logits.
    pub head: Graph,
}

/// A copy of the manifest's entry of the encoder `name`.
///
/// # Errors
/// The manifest has no such encoder.
pub fn entry(manifest: &Manifest, name: &str) -> anyhow::Result<EncoderEntry> {
    manifest
        .encoder(name)
        .cloned()
        .with_context(|| format!("no encoder {name} in the bundle"))
}

impl OpenedBundle {
    /// Opens the bundle in `folder` with its int8 encoders, if it has any.
    ///
    /// # Errors
    /// A file is missing or has another hash than in the manifest, or a network is missing.
    pub fn open(folder: &Path) -> anyhow::Result<OpenedBundle> {
        OpenedBundle::open_in(folder, Precision::Int8)
    }

    /// Opens the bundle in `folder`. Its int8 encoders are used if `precision` is int8.
    ///
    /// # Errors
    /// A file is missing or has another hash than in the manifest, or a network is missing.
    pub fn open_in(folder: &Path, precision: Precision) -> anyhow::Result<OpenedBundle> {
        let path = folder.join("manifest.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        let faults = manifest.faults();
        ensure!(
            faults.is_empty(),
            "{}: {}",
            path.display(),
            faults.join("; ")
        );
        let runtime = Runtime::load()?;
        let read = |file: &str, sha256: &str| -> anyhow::Result<Vec<u8>> {
            let bytes = std::fs::read(folder.join(file))
                .with_context(|| format!("{file} cannot be read"))?;
            ensure!(
                hex_sha256(&bytes) == sha256,
                "{file} is not the file that the manifest names: its hash differs"
            );
            Ok(bytes)
        };
        let encoder = |name: &str| -> anyhow::Result<Graph> {
            let entry = manifest
                .encoder(name)
                .with_context(|| format!("no encoder {name} in the bundle"))?;
            let int8 = entry
                .int8
                .as_ref()
                .filter(|_| precision == Precision::Int8)
                .map(|int8| read(&int8.file, &int8.sha256))
                .transpose()?;
            let files = GraphFiles {
                fp32: &read(&entry.file, &entry.sha256)?,
                int8: int8.as_deref(),
            };
            Ok(Graph::open_for(&runtime, name, files, Provider::Cpu, 2)?)
        };
        let (face, voice) = (encoder("face")?, encoder("voice")?);
        let text = manifest.text.as_ref().context("the bundle has no [text]")?;
        let bytes = read(&text.tokenizer, &text.sha256)?;
        let words = SentenceEncoder {
            encoder: Encoder {
                entry: entry(&manifest, "text")?,
                graph: encoder("text")?,
            },
            tokenizer: Tokenizer::from_bytes(&bytes, text.max_tokens)?,
        };
        let head = Graph::open(
            &runtime,
            "head",
            &read(&manifest.head.file, &manifest.head.sha256)?,
            Provider::Cpu,
            2,
        )?;
        Ok(OpenedBundle {
            manifest,
            face,
            voice,
            words,
            head,
        })
    }

    /// The preprocessing of face crops.
    ///
    /// # Errors
    /// The bundle has no section `[face]`.
    pub fn face_settings(&self) -> anyhow::Result<&FacePreprocessing> {
        self.manifest
            .face
            .as_ref()
            .context("the bundle has no [face]")
    }

    /// Runs an encoder on one preprocessed input. Returns the embedding and the logits of the
    /// encoder's own classes. `shape`: the input's shape without the batch axis.
    ///
    /// # Errors
    /// The graph fails, or has another number of outputs than two.
    pub fn encode(
        graph: &mut Graph,
        shape: &[usize],
        input: &[f32],
    ) -> anyhow::Result<[Output; 2]> {
        let shape: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let outputs = graph.run(&[Input::F32(&shape, input)])?;
        outputs
            .try_into()
            .ok()
            .with_context(|| format!("{} does not give an embedding and logits", graph.name()))
    }

    /// The head's logits for a batch, `[rows, labels]`, row-major, not yet divided by the
    /// temperature.
    pub fn fuse(&mut self, batch: &HeadBatch) -> anyhow::Result<Vec<f32>> {
        let width = |values: &[f32]| [batch.count, values.len() / batch.count];
        let inputs: Vec<&Vec<f32>> = batch.embeddings.iter().chain([&batch.presence]).collect();
        let shapes: Vec<[usize; 2]> = inputs.iter().map(|values| width(values)).collect();
        let inputs: Vec<Input<'_>> = inputs
            .iter()
            .zip(&shapes)
            .map(|(values, shape)| Input::F32(shape, values))
            .collect();
        let output = self.manifest.head.output;
        let outputs = self.head.run(&inputs)?;
        let logits = outputs.into_iter().nth(output);
        Ok(logits
            .with_context(|| format!("head.onnx has no output {output}"))?
            .values)
    }
}
