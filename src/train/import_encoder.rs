//! The command `expressd-train import encoder`: adds an ONNX file as a frozen encoder to an encoder
//! set, after a trial run.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::encode::{Graph, Provider, Runtime};
use crate::manifest::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FaceNormalisation, FacePreprocessing,
    TextPreprocessing, WindowRule, hex_sha256,
};
use crate::modality::Modality;
use crate::model::{check_sums, seal};
use crate::onnx::outline::Outline;
use crate::preprocess::Tokenizer;
use crate::train::encoders::EncoderSetFiles;

mod trial;

// Name of the file that marks a folder as an encoder set.
const SET: &str = "encoders.toml";
// Name of the file with the origins of a set's encoders.
const PROVENANCE: &str = "provenance.toml";
/// Token limit of a text encoder if `--preprocessing` has no section `[text]`.
const MAX_TOKENS: usize = 256;

/// Any ONNX file as a frozen encoder: its shapes, dynamic axes, operator set and hash are checked,
/// and it is run on generated inputs.
///
/// Example: expressd-train import encoder --onnx models/default/face.onnx --name face_b --modality
/// face --kind frame --preprocessing models/default/manifest.toml --into encoders/face_b
#[derive(Debug, clap::Args)]
pub struct EncoderArgs {
    /// The ONNX file, with its weights inside; its first output is the embedding, [batch, dim].
    #[arg(long)]
    onnx: PathBuf,
    /// The encoder's name in the set: letters, digits, _ and -.
    #[arg(long)]
    name: String,
    /// Modality of the encoder: face, voice or text.
    #[arg(long, value_parser = modality)]
    modality: Modality,
    /// Kind of the encoder: frame (one face: [batch, channels, size, size]), window (faces: [batch,
    /// frames, channels, size, size]; voice: [batch, 1, mels, frames]) or utterance (token ids and
    /// mask: [batch, tokens] each).
    #[arg(long, value_parser = kind)]
    kind: EncoderKind,
    /// Folder of the encoder set: a new one, or an existing one to add the encoder to.
    #[arg(long)]
    into: PathBuf,
    /// Number of faces in a window, if the graph's input leaves it open.
    #[arg(long)]
    frames: Option<usize>,
    /// Faces per second, if the encoder takes fewer than [face] states.
    #[arg(long)]
    rate_hz: Option<f64>,
    /// This encoder's own normalisation instead of [face]'s: per channel the mean, then the
    /// deviation, in 0..1 of the value range (ImageNet's: 0.485,0.456,0.406/0.229,0.224,0.225).
    #[arg(long, value_parser = normalisation)]
    normalise: Option<FaceNormalisation>,
    /// File with the sections [window], [face], [audio] and [text] of a manifest, such as a
    /// bundle's manifest.toml; the tokenizer is in the same folder. Needed unless the set has these
    /// sections.
    #[arg(long)]
    preprocessing: Option<PathBuf>,
    /// File tokenizer.json of Hugging Face, for utterances. Needed unless the set has one.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// SHA-256 that the ONNX file must have, in hexadecimal.
    #[arg(long)]
    sha256: Option<String>,
    /// Origin of the ONNX file, for the model card.
    #[arg(long, default_value = "not stated")]
    source: String,
    /// Licence of the ONNX file, for the model card.
    #[arg(long, default_value = "not stated")]
    licence: String,
}

/// Parses `--modality`.
fn modality(text: &str) -> Result<Modality, String> {
    Modality::ALL
        .into_iter()
        .find(|m| m.name() == text)
        .ok_or_else(|| "expected face, voice or text".into())
}

/// Parses `--kind`.
fn kind(text: &str) -> Result<EncoderKind, String> {
    match text {
        "frame" => Ok(EncoderKind::Frame),
        "window" => Ok(EncoderKind::Window),
        "utterance" => Ok(EncoderKind::Utterance),
        _ => Err("expected frame, window or utterance".into()),
    }
}

/// Parses `--normalise`: means, a slash, deviations.
fn normalisation(text: &str) -> Result<FaceNormalisation, String> {
    let numbers = |text: &str| {
        text.split(',')
            .map(|n| n.trim().parse::<f32>().ok())
            .collect::<Option<Vec<f32>>>()
    };
    let both = text
        .split_once('/')
        .and_then(|(mean, std)| Some((numbers(mean)?, numbers(std)?)));
    let (mean, std) =
        both.ok_or("expected means and deviations, such as 0.485,0.456,0.406/0.229,0.224,0.225")?;
    Ok(FaceNormalisation::Fixed { mean, std })
}

/// Contents of `encoders.toml`: the sections that bundle manifests and encoder sets have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sections {
    window: Option<WindowRule>,
    face: Option<FacePreprocessing>,
    audio: Option<AudioPreprocessing>,
    text: Option<TextPreprocessing>,
    #[serde(rename = "encoder", default)]
    encoders: Vec<EncoderEntry>,
}

/// The origin of one encoder: its table in `provenance.toml`.
#[derive(Serialize)]
struct Provenance<'a> {
    source: &'a str,
    licence: &'a str,
    /// Name of the imported file.
    read: String,
    /// SHA-256 of the imported file, in hexadecimal.
    sha256: &'a str,
    /// Version of the ONNX operator set of the imported file.
    opset: i64,
    converted_by: &'a str,
}

/// Reads the sections on encoders of an `encoders.toml` or `manifest.toml`.
fn read_sections(path: &Path) -> anyhow::Result<Sections> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} cannot be understood", path.display()))
}

/// Joins a section of `--preprocessing` (`theirs`) into the set's (`ours`). If both exist, they
/// must be equal.
fn join_section<S: PartialEq + Clone>(
    ours: &mut Option<S>,
    theirs: Option<S>,
    what: &str,
) -> anyhow::Result<()> {
    match (&ours, theirs) {
        (Some(ours), Some(theirs)) => ensure!(
            *ours == theirs,
            "the set has another [{what}] than --preprocessing; import into another set"
        ),
        (None, theirs) => *ours = theirs,
        (Some(_), None) => {}
    }
    Ok(())
}

/// Imports an ONNX file into an encoder set: checks the file, runs it on generated inputs, and
/// writes the set.
///
/// # Errors
/// The file is no ONNX file, its shapes do not fit the arguments, or the set has other
/// preprocessing or an encoder of the same name.
pub fn run(args: &EncoderArgs) -> anyhow::Result<()> {
    ensure!(
        !args.name.is_empty()
            && args
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'),
        "--name takes letters, digits, _ and -"
    );
    let bytes = std::fs::read(&args.onnx)
        .with_context(|| format!("cannot read {}", args.onnx.display()))?;
    let sha256 = hex_sha256(&bytes);
    if let Some(expected) = &args.sha256 {
        ensure!(
            sha256 == expected.to_lowercase(),
            "{} has sha256 {sha256}, expected {expected}; fetch it again",
            args.onnx.display()
        );
    }
    let mut set = Sections::default();
    if args.into.join(SET).is_file() {
        check_sums(&args.into, &[SET])?;
        set = read_sections(&args.into.join(SET))?;
    }
    ensure!(
        set.encoders.iter().all(|e| e.name != args.name),
        "{} has an encoder {:?} already; choose another --name",
        args.into.display(),
        args.name
    );
    let mut given_text = None;
    if let Some(path) = &args.preprocessing {
        let given = read_sections(path)?;
        join_section(&mut set.window, given.window, "window")?;
        join_section(&mut set.face, given.face, "face")?;
        join_section(&mut set.audio, given.audio, "audio")?;
        given_text = given
            .text
            .map(|text| (path.with_file_name(&text.tokenizer), text.max_tokens));
    }
    set.window.get_or_insert(WindowRule {
        length_ms: 2000,
        hop_ms: 200,
        half_life_ms: None,
    });
    let tokenizer = tokenizer(args, given_text, &mut set)?;

    let outline = Outline::read(&bytes)
        .with_context(|| format!("{} is no ONNX file", args.onnx.display()))?;
    let opset = outline
        .opset
        .context("the file names no operator set; export it with opset_version=17")?;
    let input = trial::input_axes(args.modality, args.kind, args.frames, &set, &outline)?;
    let runtime = Runtime::load()?;
    let mut graph =
        Graph::open(&runtime, &args.name, &bytes, Provider::Cpu, 1).with_context(|| {
            format!(
                "ONNX Runtime cannot open {} (operator set {opset}): export it \
                                  with opset_version=17, weights inside",
                args.onnx.display()
            )
        })?;
    let words = tokenizer
        .as_ref()
        .map(|(bytes, max_tokens)| Tokenizer::from_bytes(bytes, *max_tokens))
        .transpose()?;
    let dim = trial::run(
        &mut graph,
        args.modality,
        args.kind,
        &set,
        &input,
        words.as_ref(),
    )?;

    let file = format!("{}.onnx", args.name);
    set.encoders.push(EncoderEntry {
        name: args.name.clone(),
        modality: args.modality,
        kind: args.kind,
        file: file.clone(),
        sha256: sha256.clone(),
        int8: None,
        input,
        dim,
        rate_hz: args.rate_hz,
        normalise: args.normalise.clone(),
        classes: Vec::new(),
        frozen: true,
        source: args.source.clone(),
        licence: args.licence.clone(),
    });
    let read = args
        .onnx
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let provenance = Provenance {
        source: &args.source,
        licence: &args.licence,
        read,
        sha256: &sha256,
        opset,
        converted_by: "expressd-train import encoder",
    };
    write(
        args,
        &set,
        &[(file.as_str(), &bytes[..])],
        tokenizer.as_ref().map(|(bytes, _)| &bytes[..]),
        &provenance,
    )?;
    // Checks the written set: opens it as `extract` does.
    EncoderSetFiles::read(std::slice::from_ref(&args.into))?.open(&runtime, Provider::Cpu, 1)?;
    println!(
        "{sha256}  {file}  {} {:?}, operator set {opset}, embedding of {dim} values",
        args.modality.name(),
        args.kind
    );
    Ok(())
}

/// The bytes of the tokenizer of a text encoder, and its token limit; `None` for other modalities.
/// `given`: tokenizer file and token limit of `--preprocessing`.
fn tokenizer(
    args: &EncoderArgs,
    given: Option<(PathBuf, usize)>,
    set: &mut Sections,
) -> anyhow::Result<Option<(Vec<u8>, usize)>> {
    if args.modality != Modality::Text {
        ensure!(
            args.tokenizer.is_none(),
            "--tokenizer is for --modality text"
        );
        return Ok(None);
    }
    let max_tokens = given
        .as_ref()
        .map_or(MAX_TOKENS, |(_, max_tokens)| *max_tokens);
    let path = match (
        args.tokenizer.clone().or(given.map(|(path, _)| path)),
        &set.text,
    ) {
        (Some(path), _) => path,
        (None, Some(text)) => args.into.join(&text.tokenizer),
        (None, None) => {
            bail!("an encoder of words needs its tokenizer; name a tokenizer.json with --tokenizer")
        }
    };
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let made = TextPreprocessing {
        tokenizer: "tokenizer.json".into(),
        sha256: hex_sha256(&bytes),
        max_tokens,
    };
    let text = set.text.get_or_insert(made);
    ensure!(
        text.sha256 == hex_sha256(&bytes),
        "the set has another tokenizer; import into another set"
    );
    Ok(Some((bytes, text.max_tokens)))
}

/// Writes `files`, the tokenizer, `provenance.toml` and `encoders.toml` into the set's folder, then
/// `SHA256SUMS`.
fn write(
    args: &EncoderArgs,
    set: &Sections,
    files: &[(&str, &[u8])],
    tokenizer: Option<&[u8]>,
    provenance: &Provenance<'_>,
) -> anyhow::Result<()> {
    let into = &args.into;
    std::fs::create_dir_all(into)
        .with_context(|| format!("cannot make the folder {}", into.display()))?;
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(into.join(name), bytes)
            .with_context(|| format!("cannot write {name} into {}", into.display()))
    };
    let mut table: toml::Table = match std::fs::read_to_string(into.join(PROVENANCE)) {
        Ok(text) => toml::from_str(&text)
            .with_context(|| format!("{PROVENANCE} in {} cannot be understood", into.display()))?,
        Err(_) => toml::Table::new(),
    };
    table.insert(args.name.clone(), toml::Value::try_from(provenance)?);
    for (name, bytes) in files {
        put(name, bytes)?;
    }
    if let (Some(bytes), Some(text)) = (tokenizer, &set.text) {
        put(&text.tokenizer, bytes)?;
    }
    put(PROVENANCE, toml::to_string(&table)?.as_bytes())?;
    put(SET, toml::to_string(set)?.as_bytes())?;
    seal(into).with_context(|| format!("cannot write SHA256SUMS into {}", into.display()))
}

#[cfg(test)]
mod tests;
