//! Detection of the streaming model in a folder.
//!
//! sherpa-onnx exits the process if a file does not fit its configuration: a missing metadata key,
//! or an unknown kind of model. The files are therefore checked here before they are passed to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::model::Model;
use super::model_file::{REMEDY, read_header};
use super::vocabulary::read_tokens;
use crate::speech::TranscribeError;

/// Remedy in the error for a folder with several models.
const ONE_FOLDER_EACH: &str = "put the files of one model, with its tokens.txt, into a folder of \
    their own (links suffice)";

/// The files and properties of one streaming model.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// Path of `tokens.txt`.
    pub tokens: PathBuf,
    pub model: Model,
    /// Length of a decoded chunk in seconds. Silence of this length has to follow the last word.
    pub window_seconds: f32,
    /// Factor that corrects the token times of sherpa-onnx, which assumes 40 ms per frame for every
    /// CTC model.
    pub time_scale: f32,
    /// Whether the vocabulary has capital letters only, so that case carries no information.
    pub capitals: bool,
}

impl Folder {
    /// Detects the family of the model by file names and metadata. Of the variants of a file,
    /// `x.int8.onnx` takes precedence over `x.onnx`, and `x.onnx` over `x.fp16.onnx`.
    ///
    /// # Errors
    /// [`TranscribeError::Unusable`] if the folder contains no streaming model, several models, or
    /// files that sherpa-onnx does not accept.
    pub fn read(folder: &Path) -> Result<Folder, TranscribeError> {
        let unusable = |problem: String, remedy| TranscribeError::Unusable {
            path: folder.to_owned(),
            problem,
            remedy,
        };
        let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unusable("there is no such folder".into(), REMEDY),
            _ => unusable(error.to_string(), REMEDY),
        })?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let chosen =
            choose_variants(names.filter(|name| name.ends_with(".onnx") && !name.starts_with('.')));
        let tokens = folder.join("tokens.txt");
        let of_part = |part: &str| {
            chosen
                .iter()
                .filter(|name| part_of(name) == Some(part))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (encoders, decoders, joiners) =
            (of_part("encoder"), of_part("decoder"), of_part("joiner"));

        let mut found: Vec<(Vec<String>, Model)> = Vec::new();
        let one = |names: &[String]| folder.join(&names[0]);
        if !joiners.is_empty() || !encoders.is_empty() && !decoders.is_empty() {
            let parts: Vec<&Vec<String>> = if joiners.is_empty() {
                vec![&encoders, &decoders]
            } else {
                vec![&encoders, &decoders, &joiners]
            };
            if let Some(several) = parts.iter().find(|names| names.len() > 1) {
                return Err(unusable(
                    format!("it contains more than one model: {}", several.join(", ")),
                    ONE_FOLDER_EACH,
                ));
            }
            if parts.iter().any(|names| names.is_empty()) {
                return Err(unusable(
                    "encoder, decoder and joiner are not all present".into(),
                    REMEDY,
                ));
            }
            let model = match &joiners[..] {
                [] => Model::Paraformer {
                    encoder: one(&encoders),
                    decoder: one(&decoders),
                },
                _ => Model::Transducer {
                    encoder: one(&encoders),
                    decoder: one(&decoders),
                    joiner: one(&joiners),
                },
            };
            found.push((parts.iter().map(|names| names[0].clone()).collect(), model));
        }
        let mut unknown = Vec::new();
        for name in chosen.iter().filter(|name| part_of(name).is_none()) {
            let path = folder.join(name);
            let metadata = read_header(&path)?.metadata;
            let Some(model) = Model::from_single_file(&path, &metadata) else {
                let kind = metadata
                    .get("model_type")
                    .map_or("no model_type".into(), |kind| format!("model_type {kind}"));
                unknown.push(format!("{name} ({kind})"));
                continue;
            };
            found.push((vec![name.clone()], model));
        }
        let model = match &found[..] {
            [] if unknown.is_empty() && chosen.is_empty() => {
                return Err(unusable("there is no .onnx file in it".into(), REMEDY));
            }
            [] => {
                let names = if unknown.is_empty() { chosen } else { unknown };
                return Err(unusable(
                    format!(
                        "none of its files is a streaming model of a known family: {}",
                        names.join(", ")
                    ),
                    REMEDY,
                ));
            }
            [(_, model)] => model.clone(),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .flat_map(|(names, _)| names.clone())
                    .collect();
                return Err(unusable(
                    format!("it contains more than one model: {}", names.join(", ")),
                    ONE_FOLDER_EACH,
                ));
            }
        };
        let table = read_tokens(&tokens)?;
        let (window_seconds, time_scale) = model.check(&tokens, &table)?;
        // Tokens in brackets are not part of words.
        let letters = || {
            table
                .iter()
                .filter(|token| !token.starts_with(['<', '[']))
                .flat_map(|token| token.chars())
        };
        let capitals = letters().any(char::is_uppercase) && !letters().any(char::is_lowercase);
        Ok(Folder {
            tokens,
            model,
            window_seconds,
            time_scale,
            capitals,
        })
    }
}

/// The part of a model that a file is, by its name: `encoder`, `decoder` or `joiner`. `None` if the
/// file is a whole model.
fn part_of(name: &str) -> Option<&'static str> {
    ["encoder", "decoder", "joiner"]
        .into_iter()
        .find(|part| name.contains(part))
}

/// The preferred variant of each model file among `names`, sorted by name.
fn choose_variants(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut chosen: BTreeMap<String, (u8, String)> = BTreeMap::new();
    for name in names {
        let stem = name.trim_end_matches(".onnx");
        let (base, rank) = match () {
            () if stem.ends_with(".int8") => (stem.trim_end_matches(".int8"), 0),
            () if stem.ends_with(".fp16") => (stem.trim_end_matches(".fp16"), 2),
            () => (stem, 1),
        };
        let variant = (rank, name.clone());
        chosen
            .entry(base.to_owned())
            .and_modify(|best| *best = variant.clone().min(best.clone()))
            .or_insert(variant);
    }
    chosen.into_values().map(|(_, name)| name).collect()
}
