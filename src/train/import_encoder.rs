//! `expressd-train import encoder`: any ONNX graph of faces, voices or words becomes an encoder of an encoder set, once it has shown that
//! it can be run as the daemon runs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use crate::encode::{Graph, Input, Output, Provider, Runtime};
use crate::modality::Modality;
use crate::model::golden::{golden_crop, golden_samples};
use crate::model::manifest::{EncoderEntry, EncoderKind, Manifest, hex_sha256};
use crate::model::seal;
use crate::preprocess::{LogMel, Tokenizer, normalise};
use crate::train::encoders::{SET, Sections, headless};

/// A pretrained encoder in ONNX: first output `[batch, dim]`. Input of a face frame `[batch, channels, size, size]`, of a face window
/// `[batch, frames, channels, size, size]`, of a voice window `[batch, 1, mels, frames]`, of an utterance ids and mask `[batch, tokens]`.
///
/// Example: expressd-train import encoder --onnx hubert.onnx --name hubert --modality voice --kind window --preprocessing voice.toml --into encoders/hubert
#[derive(Debug, clap::Args)]
pub struct EncoderArgs {
    #[arg(long)]
    pub onnx: PathBuf,
    /// What it is called in manifests and stores.
    #[arg(long)]
    pub name: String,
    /// face, voice or text.
    #[arg(long, value_parser = word::<Modality>)]
    pub modality: Modality,
    /// frame (faces), window (faces, voices) or utterance (text).
    #[arg(long, value_parser = word::<EncoderKind>)]
    pub kind: EncoderKind,
    /// Frames of a face window.
    #[arg(long, default_value_t = 16)]
    pub frames: usize,
    /// A TOML file with [window] and [face], [audio] or [text], as in a manifest (a tokenizer lies beside it). Needed where the set does not
    /// say it yet.
    #[arg(long)]
    pub preprocessing: Option<PathBuf>,
    /// The encoder set, made or added to.
    #[arg(long)]
    pub into: PathBuf,
    /// Where it comes from.
    #[arg(long, default_value = "not stated")]
    pub source: String,
    #[arg(long, default_value = "not stated")]
    pub licence: String,
}

fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.into())).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Provenance<'a> {
    source: &'a str,
    licence: &'a str,
    imported_by: &'a str,
    sha256: &'a str,
}

/// Rows that differ, of which one may be alone in a batch.
const BATCH: usize = 3;
/// Between a row alone and the same row among others, over the largest value.
const PERMITTED: f32 = 1e-3;

pub fn run(args: &EncoderArgs) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.onnx).with_context(|| format!("cannot read {}", args.onnx.display()))?;
    let mut sections = sections(args)?;
    ensure!(!args.name.is_empty() && args.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "--name takes letters, digits and _");
    ensure!(sections.encoders.iter().all(|e| e.name != args.name), "{} has an encoder {:?} already; take another --name", args.into.display(), args.name);
    std::fs::create_dir_all(&args.into).with_context(|| format!("cannot make the folder {}", args.into.display()))?;
    let rules = headless(sections.clone());
    let (input, shown) = inputs(args, &rules)?;
    let mut graph = Graph::open(&Runtime::load()?, &args.name, &bytes, Provider::Cpu, 1)?;
    let dim = proven_dim(&mut graph, &shown).with_context(|| format!("{} cannot be an encoder", args.onnx.display()))?;
    let (file, sha256) = (format!("{}.onnx", args.name), hex_sha256(&bytes));
    let (source, licence) = (args.source.clone(), args.licence.clone());
    let (name, modality, kind) = (args.name.clone(), args.modality, args.kind);
    let entry =
        EncoderEntry { name, modality, kind, file: file.clone(), sha256: sha256.clone(), input, dim, classes: Vec::new(), frozen: true, source, licence };
    sections.encoders.push(entry);
    let faults = headless(sections.clone()).encoder_faults();
    ensure!(faults.is_empty(), "the preprocessing contradicts itself: {}", faults.join("; "));
    let provenance = Provenance { source: &args.source, licence: &args.licence, imported_by: "expressd-train import encoder", sha256: &sha256 };
    for (name, bytes) in [
        (file, bytes),
        (format!("{}.provenance.toml", args.name), toml::to_string(&provenance)?.into_bytes()),
        (SET.to_owned(), toml::to_string(&sections)?.into_bytes()),
    ] {
        let path = args.into.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    seal(&args.into).with_context(|| format!("cannot write SHA256SUMS into {}", args.into.display()))?;
    println!("{}: {} numbers, in {}", args.name, dim, args.into.display());
    Ok(())
}

/// The set's own, with what `--preprocessing` adds.
fn sections(args: &EncoderArgs) -> anyhow::Result<Sections> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str::<Sections>(&text).with_context(|| format!("{} cannot be understood", path.display()))
    };
    let set = args.into.join(SET);
    let ours = set.is_file().then(|| read(&set)).transpose()?;
    let Some(file) = &args.preprocessing else {
        return ours.with_context(|| format!("there is no encoder set in {} yet; give --preprocessing", args.into.display()));
    };
    let mut theirs = read(file)?;
    theirs.encoders.clear();
    if let Some(text) = &mut theirs.text {
        let path = file.with_file_name(&text.tokenizer);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read the tokenizer {}", path.display()))?;
        text.sha256 = hex_sha256(&bytes);
        text.tokenizer = "tokenizer.json".into();
        std::fs::create_dir_all(&args.into)?;
        std::fs::write(args.into.join(&text.tokenizer), bytes).with_context(|| format!("cannot write into {}", args.into.display()))?;
    }
    match ours {
        None => Ok(theirs),
        Some(mut ours) => {
            ours.add(theirs, file)?;
            Ok(ours)
        }
    }
}

/// The shape of one row without the batch, and [`BATCH`] rows of each input: floats, or ids and mask.
enum Rows {
    Values(Vec<usize>, Vec<Vec<f32>>),
    Words(Vec<Vec<i64>>),
}

fn inputs(args: &EncoderArgs, rules: &Manifest) -> anyhow::Result<(Vec<usize>, Rows)> {
    let missing = |section: &str| format!("nothing says how the input is made: --preprocessing needs [{section}]");
    match (args.modality, args.kind) {
        (Modality::Face, EncoderKind::Frame | EncoderKind::Window) => {
            let face = rules.face.as_ref().with_context(|| missing("face"))?;
            let frames = if args.kind == EncoderKind::Frame { 1 } else { args.frames };
            ensure!(frames > 0, "--frames must be at least 1");
            let crop = |row: usize, i: usize| normalise(&golden_crop(row as u64 + 1, i as u32, face.size, face.channels), &face.normalise);
            let rows = (0..BATCH).map(|row| (0..frames).flat_map(|i| crop(row, i)).collect()).collect();
            let mut shape = vec![face.channels, face.size, face.size];
            if args.kind == EncoderKind::Window {
                shape.insert(0, frames);
            }
            Ok((shape.clone(), Rows::Values(shape, rows)))
        }
        (Modality::Voice, EncoderKind::Window) => {
            let audio = rules.audio.as_ref().with_context(|| missing("audio"))?;
            let mel = LogMel::new(audio);
            let length = rules.window.length_ms as usize * audio.rate_hz as usize / 1000;
            let rows: Vec<_> = (0..BATCH).map(|row| mel.compute(&golden_samples(row as u64 + 1, length)).0).collect();
            let shape = vec![1, audio.mels, rows[0].len() / audio.mels];
            Ok((vec![1, audio.mels, 0], Rows::Values(shape, rows)))
        }
        (Modality::Text, EncoderKind::Utterance) => {
            let text = rules.text.as_ref().with_context(|| missing("text"))?;
            let path = args.into.join(&text.tokenizer);
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let tokenizer = Tokenizer::from_bytes(&bytes, text.max_tokens)?;
            let tokens = tokenizer.tokens("that is more than I had hoped for")?.context("the tokenizer makes no tokens of words")?;
            // Rows of one length: the words between the first and the last token in another order.
            let rows = (0..BATCH).map(|row| {
                let mut ids = tokens.ids.clone();
                let inner = ids.len().saturating_sub(1).max(1);
                ids[1.min(inner)..inner].rotate_left(row % inner.saturating_sub(1).max(1));
                ids
            });
            Ok((vec![0], Rows::Words(rows.collect())))
        }
        (modality, kind) => bail!("{} has no encoders of kind {kind:?}; there are face frame, face window, voice window, text utterance", modality.name()),
    }
}

/// The length of an embedding, once it is sure that a row does not depend on the rows beside it.
fn proven_dim(graph: &mut Graph, shown: &Rows) -> anyhow::Result<usize> {
    let expected = if matches!(shown, Rows::Words(_)) { 2 } else { 1 };
    ensure!(graph.input_count() == expected, "it takes {} inputs, its kind gives {expected}", graph.input_count());
    let alone: Vec<Output> = (0..BATCH).map(|row| first(graph, shown, row..row + 1)).collect::<anyhow::Result<_>>()?;
    let dim = *alone[0].shape.last().unwrap_or(&0);
    ensure!(dim > 0 && alone[0].shape == [1, dim], "its first output is {:?} for one row, expected [1, dim]", alone[0].shape);
    let together = first(graph, shown, 0..BATCH)?;
    ensure!(together.shape == [BATCH, dim], "its first output is {:?} for {BATCH} rows, expected [{BATCH}, {dim}]", together.shape);
    let alone: Vec<f32> = alone.into_iter().flat_map(|o| o.values).collect();
    let largest = alone.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
    let off = alone.iter().zip(&together.values).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    ensure!(off <= PERMITTED * largest, "a row among others is off by {off:.2e} from the row alone: it depends on its batch");
    ensure!(alone.chunks(dim).any(|row| row != &alone[..dim]), "it answers the same to everything");
    Ok(dim)
}

fn first(graph: &mut Graph, shown: &Rows, rows: std::ops::Range<usize>) -> anyhow::Result<Output> {
    let count = rows.len();
    let outputs = match shown {
        Rows::Values(shape, all) => {
            let shape: Vec<usize> = std::iter::once(count).chain(shape.iter().copied()).collect();
            graph.run(&[Input::F32(&shape, &all[rows].concat())])?
        }
        Rows::Words(all) => {
            let (ids, shape) = (all[rows].concat(), [count, all[0].len()]);
            graph.run(&[Input::I64(&shape, &ids), Input::I64(&shape, &vec![1; ids.len()])])?
        }
    };
    outputs.into_iter().next().context("it has no output")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::project;
    use crate::train::encoders::EncoderSet;

    fn args(onnx: PathBuf, into: &Path, name: &str, modality: Modality, kind: EncoderKind) -> EncoderArgs {
        let preprocessing = Some(project("models/default/manifest.toml"));
        let (source, licence) = ("trained here".into(), "research only".into());
        EncoderArgs { onnx, name: name.into(), modality, kind, frames: 4, preprocessing, into: into.into(), source, licence }
    }

    #[test]
    fn graphs_become_a_set_that_opens() {
        let folder = tempfile::tempdir().unwrap();
        let graph = |name: &str| project("models/default").join(name);
        run(&args(graph("face.onnx"), folder.path(), "fer", Modality::Face, EncoderKind::Frame)).unwrap();
        run(&args(graph("voice.onnx"), folder.path(), "ser", Modality::Voice, EncoderKind::Window)).unwrap();
        let set = EncoderSet::open(&Runtime::load().unwrap(), &[folder.path().into()], Provider::Cpu, 1).unwrap();
        assert_eq!(set.entries().map(|e| (e.name.as_str(), e.dim)).collect::<Vec<_>>(), [("fer", 128), ("ser", 128)]);
        // The name is taken; the kind is another; it is no graph.
        let again = run(&args(graph("face.onnx"), folder.path(), "fer", Modality::Face, EncoderKind::Frame)).unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
        assert!(run(&args(graph("voice.onnx"), folder.path(), "b", Modality::Face, EncoderKind::Frame)).is_err());
        assert!(run(&args(graph("manifest.toml"), folder.path(), "c", Modality::Face, EncoderKind::Frame)).is_err());
        let kind = run(&args(graph("face.onnx"), folder.path(), "d", Modality::Face, EncoderKind::Utterance)).unwrap_err();
        assert!(kind.to_string().contains("face has no encoders of kind"), "{kind}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6);
    }
}
