//! Which streaming model lies in a folder.
//!
//! sherpa-onnx ends the whole process where a file is not what it was told it is (a key that the metadata lack, an unknown kind of model). So
//! the files are looked at here first, and it is given nothing that it does not take.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::header::Header;
use crate::speech::TranscribeError;

const REMEDY: &str = "name the unpacked folder of a streaming model for sherpa-onnx";
const ONE_FOLDER_EACH: &str = "put the files of the one that you want, with its tokens.txt, into a folder of their own (links will do)";

/// The files of one streaming model.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    pub tokens: PathBuf,
    pub model: Model,
    /// How much sound it hears at once, in seconds: so much silence has to follow what it shall understand.
    pub window_seconds: f32,
    /// What the times that sherpa-onnx tells have to be multiplied by: it takes every CTC model for one of 40 ms a frame.
    pub time_scale: f32,
    /// Its tokens have capitals alone: they say nothing.
    pub capitals: bool,
}

/// The families of `OnlineModelConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    Transducer {
        encoder: PathBuf,
        decoder: PathBuf,
        joiner: PathBuf,
    },
    Paraformer {
        encoder: PathBuf,
        decoder: PathBuf,
    },
    Zipformer2Ctc(PathBuf),
    NemoCtc(PathBuf),
    ToneCtc(PathBuf),
}

const NEMO_CACHES: [&str; 10] = [
    "vocab_size",
    "window_size",
    "chunk_shift",
    "subsampling_factor",
    "cache_last_channel_dim1",
    "cache_last_channel_dim2",
    "cache_last_channel_dim3",
    "cache_last_time_dim1",
    "cache_last_time_dim2",
    "cache_last_time_dim3",
];
const ZIPFORMER2: [&str; 9] = [
    "encoder_dims",
    "query_head_dims",
    "value_head_dims",
    "num_heads",
    "num_encoder_layers",
    "cnn_module_kernels",
    "left_context_len",
    "T",
    "decode_chunk_len",
];
/// What sherpa-onnx asks of a transducer's encoder, by its `model_type`.
const ENCODERS: [(&str, &[&str]); 5] = [
    (
        "conformer",
        &[
            "num_encoder_layers",
            "T",
            "decode_chunk_len",
            "left_context",
            "encoder_dim",
            "pad_length",
            "cnn_module_kernel",
        ],
    ),
    (
        "ebranchformer",
        &[
            "decode_chunk_len",
            "T",
            "num_hidden_layers",
            "hidden_size",
            "intermediate_size",
            "csgu_kernel_size",
            "merge_conv_kernel",
            "left_context_len",
            "num_heads",
            "head_dim",
        ],
    ),
    (
        "lstm",
        &[
            "num_encoder_layers",
            "T",
            "decode_chunk_len",
            "rnn_hidden_size",
            "d_model",
        ],
    ),
    (
        "zipformer",
        &[
            "encoder_dims",
            "attention_dims",
            "num_encoder_layers",
            "cnn_module_kernels",
            "left_context_len",
            "T",
            "decode_chunk_len",
        ],
    ),
    ("zipformer2", &ZIPFORMER2),
];
const PARAFORMER: [&str; 8] = [
    "vocab_size",
    "lfr_window_size",
    "lfr_window_shift",
    "encoder_output_size",
    "decoder_num_blocks",
    "decoder_kernel_size",
    "neg_mean",
    "inv_stddev",
];
/// Two that no other family has.
const TONE: [&str; 3] = ["frame_length_ms", "state_dim", "sample_rate"];

impl Folder {
    /// Recognises the family by the files' names and metadata. Of a file's variants `x.int8.onnx` is taken before `x.onnx`, that before
    /// `x.fp16.onnx`.
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
                    format!("more than one model is in it: {}", several.join(", ")),
                    ONE_FOLDER_EACH,
                ));
            }
            if parts.iter().any(|names| names.is_empty()) {
                return Err(unusable(
                    "of encoder, decoder and joiner not all are there".into(),
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
        let mut strangers = Vec::new();
        for name in chosen.iter().filter(|name| part_of(name).is_none()) {
            let path = folder.join(name);
            let metadata = read_header(&path)?.metadata;
            let has = |keys: &[&str]| keys.iter().all(|key| metadata.contains_key(*key));
            let model = match () {
                () if has(&TONE) => Model::ToneCtc(path),
                () if has(&NEMO_CACHES) => Model::NemoCtc(path),
                () if has(&ZIPFORMER2) => Model::Zipformer2Ctc(path),
                () => {
                    let kind = metadata
                        .get("model_type")
                        .map_or("no model_type".into(), |kind| format!("model_type {kind}"));
                    strangers.push(format!("{name} ({kind})"));
                    continue;
                }
            };
            found.push((vec![name.clone()], model));
        }
        let model = match &found[..] {
            [] if strangers.is_empty() && chosen.is_empty() => {
                return Err(unusable("there is no .onnx file in it".into(), REMEDY));
            }
            [] => {
                let names = if strangers.is_empty() {
                    chosen
                } else {
                    strangers
                };
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
                    format!("more than one model is in it: {}", names.join(", ")),
                    ONE_FOLDER_EACH,
                ));
            }
        };
        let table = read_tokens(&tokens)?;
        let (window_seconds, time_scale) = model.check(&tokens, &table)?;
        // Tokens in brackets are no words.
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

impl Model {
    /// Does sherpa-onnx take it? What it hears at once, in seconds, and by what its times have to be multiplied.
    fn check(&self, tokens: &Path, table: &[String]) -> Result<(f32, f32), TranscribeError> {
        let enough = |count: usize| {
            let problem = || {
                format!(
                    "{} tokens are in it, and the model has {count}",
                    table.len()
                )
            };
            if table.len() >= count {
                Ok(())
            } else {
                Err(wrong(tokens, problem()))
            }
        };
        let has_blank = || match table
            .iter()
            .any(|token| matches!(&**token, "<blk>" | "<eps>" | "<blank>"))
        {
            true => Ok(()),
            false => Err(wrong(
                tokens,
                "none of <blk>, <eps> and <blank> is in it".into(),
            )),
        };
        let frames = |count: i64| count as f32 * 0.01;
        match self {
            Model::Transducer {
                encoder,
                decoder,
                joiner,
            } => {
                let (of_encoder, of_decoder) = (File::read(encoder)?, File::read(decoder)?);
                read_header(joiner)?;
                // NeMo's decoder hands its states on.
                if of_decoder.header.outputs > 1 {
                    of_encoder.require_nemo()?;
                    of_encoder.require(&["pred_rnn_layers", "pred_hidden"])?;
                    let count = of_encoder.number("vocab_size")? as usize + 1;
                    if table.len() != count || table.last().is_none_or(|last| last != "<blk>") {
                        return Err(wrong(
                            tokens,
                            format!(
                                "the model has {count} tokens with <blk> as the last, this file {}",
                                table.len()
                            ),
                        ));
                    }
                    return Ok((frames(of_encoder.number("window_size")?), 1.0));
                }
                let kind = of_encoder
                    .header
                    .metadata
                    .get("model_type")
                    .cloned()
                    .unwrap_or_default();
                let Some((_, keys)) = ENCODERS.iter().find(|(name, _)| *name == kind) else {
                    let known = ENCODERS.map(|(name, _)| name).join(", ");
                    return Err(wrong(
                        encoder,
                        format!(
                            "its metadata say model_type \"{kind}\"; streaming ones are {known}"
                        ),
                    ));
                };
                of_encoder.require(keys)?;
                of_decoder.require(&["vocab_size", "context_size"])?;
                enough(of_decoder.number("vocab_size")? as usize)?;
                Ok((frames(of_encoder.number("T")?), 1.0))
            }
            Model::Paraformer { encoder, decoder } => {
                let of_encoder = File::read(encoder)?;
                of_encoder.require(&PARAFORMER)?;
                read_header(decoder)?;
                enough(of_encoder.number("vocab_size")? as usize)?;
                // Its chunk is fixed in sherpa-onnx.
                Ok((frames(61), 1.0))
            }
            Model::Zipformer2Ctc(path) => {
                let file = File::read(path)?;
                file.require(&ZIPFORMER2)?;
                has_blank()?;
                Ok((frames(file.number("T")?), 1.0))
            }
            Model::NemoCtc(path) => {
                let file = File::read(path)?;
                file.require_nemo()?;
                has_blank()?;
                enough(file.number("vocab_size")? as usize + 1)?;
                Ok((
                    frames(file.number("window_size")?),
                    file.number("subsampling_factor")? as f32 / 4.0,
                ))
            }
            Model::ToneCtc(path) => {
                let file = File::read(path)?;
                file.require(&TONE)?;
                has_blank()?;
                Ok((file.number("frame_length_ms")? as f32 * 1e-3, 1.0))
            }
        }
    }
}

/// A model file and what it says of itself.
struct File<'a> {
    path: &'a Path,
    header: Header,
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Self, TranscribeError> {
        Ok(File {
            path,
            header: read_header(path)?,
        })
    }

    fn require(&self, keys: &[&str]) -> Result<(), TranscribeError> {
        for key in keys {
            let Some(value) = self.header.metadata.get(*key) else {
                return Err(wrong(
                    self.path,
                    format!(
                        "its metadata have no {key}: it is no streaming model, or one of an old export"
                    ),
                ));
            };
            let mut numbers = value.split(',').map(str::trim);
            let fine = if matches!(*key, "neg_mean" | "inv_stddev") {
                numbers.all(|number| number.parse::<f32>().is_ok())
            } else {
                let least = if matches!(
                    *key,
                    "T" | "decode_chunk_len"
                        | "window_size"
                        | "chunk_shift"
                        | "subsampling_factor"
                        | "frame_length_ms"
                ) {
                    1
                } else {
                    0
                };
                numbers.all(|number| number.parse::<i32>().is_ok_and(|number| number >= least))
            };
            if !fine {
                return Err(wrong(
                    self.path,
                    format!("its metadata's {key} is no number, or not one that can be"),
                ));
            }
        }
        Ok(())
    }

    fn require_nemo(&self) -> Result<(), TranscribeError> {
        self.require(&NEMO_CACHES)?;
        let normalized = self
            .header
            .metadata
            .get("normalize_type")
            .map_or("", |kind| kind);
        match normalized {
            "" | "NA" | "per_feature" => Ok(()),
            other => Err(wrong(
                self.path,
                format!(
                    "its metadata's normalize_type is \"{other}\", which sherpa-onnx does not know"
                ),
            )),
        }
    }

    fn number(&self, key: &str) -> Result<i64, TranscribeError> {
        let value = self
            .header
            .metadata
            .get(key)
            .and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| wrong(self.path, format!("its metadata's {key} is no number")))
    }
}

fn wrong(path: &Path, problem: String) -> TranscribeError {
    TranscribeError::Unusable {
        path: path.to_owned(),
        problem,
        remedy: REMEDY,
    }
}

fn read_header(path: &Path) -> Result<Header, TranscribeError> {
    Header::read(path).map_err(|error| wrong(path, error.to_string()))
}

/// `encoder`, `decoder` or `joiner`, where the file is a part of a model.
fn part_of(name: &str) -> Option<&'static str> {
    ["encoder", "decoder", "joiner"]
        .into_iter()
        .find(|part| name.contains(part))
}

/// One name of each model file, the names in order.
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

/// The tokens by their numbers. A line is a token (which may be a space) and its number.
fn read_tokens(path: &Path) -> Result<Vec<String>, TranscribeError> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(path, "not there".into()),
        _ => wrong(path, error.to_string()),
    })?;
    let mut tokens = BTreeMap::new();
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let numbered = line
            .trim_end()
            .rsplit_once([' ', '\t'])
            .and_then(|(token, number)| Some((token, number.parse::<usize>().ok()?)));
        let Some((token, number)) = numbered else {
            return Err(wrong(
                path,
                format!("line {} is no token with its number", i + 1),
            ));
        };
        let token = if token.trim().is_empty() {
            " "
        } else {
            token.trim()
        };
        if tokens.insert(number, token.to_owned()).is_some() {
            return Err(wrong(path, format!("number {number} is there twice")));
        }
    }
    if let Some(gap) = (0..tokens.len()).find(|number| !tokens.contains_key(number)) {
        return Err(wrong(path, format!("number {gap} is missing")));
    }
    if tokens.is_empty() {
        return Err(wrong(path, "it is empty".into()));
    }
    Ok(tokens.into_values().collect())
}
