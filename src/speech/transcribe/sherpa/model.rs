//! The model families that sherpa-onnx can stream, and the metadata that it requires.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model_file::{ModelFile, read_header, unusable};
use crate::speech::TranscribeError;

/// A streaming model, by its family in `OnlineModelConfig`.
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

/// Metadata keys that sherpa-onnx requires of a NeMo model.
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
/// Metadata keys that sherpa-onnx requires of a Zipformer 2 model.
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
/// Metadata keys that sherpa-onnx requires of a transducer's encoder, by its `model_type`.
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
/// Metadata keys that sherpa-onnx requires of a Paraformer encoder.
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
/// Metadata keys that sherpa-onnx requires of a T-one model. The first two occur in no other
/// family.
const TONE: [&str; 3] = ["frame_length_ms", "state_dim", "sample_rate"];

impl Model {
    /// The family of the single-file model at `path`, by its metadata; `None` if it is unknown.
    pub(super) fn from_single_file(
        path: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let has = |keys: &[&str]| keys.iter().all(|key| metadata.contains_key(*key));
        let path = path.to_owned();
        match () {
            () if has(&TONE) => Some(Model::ToneCtc(path)),
            () if has(&NEMO_CACHES) => Some(Model::NemoCtc(path)),
            () if has(&ZIPFORMER2) => Some(Model::Zipformer2Ctc(path)),
            () => None,
        }
    }

    /// Checks that sherpa-onnx accepts the model. `tokens`: path of `tokens.txt`; `table`: its
    /// tokens. Returns the chunk length in seconds and the factor of the token times; see
    /// [`Folder`](super::folder::Folder).
    ///
    /// # Errors
    /// A file or its metadata do not fit the family of the model.
    pub(super) fn check(
        &self,
        tokens: &Path,
        table: &[String],
    ) -> Result<(f32, f32), TranscribeError> {
        let has_tokens = |count: usize| {
            let problem = || format!("it has {} tokens, the model has {count}", table.len());
            if table.len() >= count {
                Ok(())
            } else {
                Err(unusable(tokens, problem()))
            }
        };
        let has_blank = || match table
            .iter()
            .any(|token| matches!(&**token, "<blk>" | "<eps>" | "<blank>"))
        {
            true => Ok(()),
            false => Err(unusable(
                tokens,
                "it contains none of <blk>, <eps> and <blank>".into(),
            )),
        };
        let frames = |count: i64| count as f32 * 0.01;
        match self {
            Model::Transducer {
                encoder,
                decoder,
                joiner,
            } => {
                let (of_encoder, of_decoder) =
                    (ModelFile::read(encoder)?, ModelFile::read(decoder)?);
                read_header(joiner)?;
                // Only a NeMo decoder has more than one output: its states.
                if of_decoder.header.outputs > 1 {
                    require_nemo(&of_encoder)?;
                    of_encoder.require(&["pred_rnn_layers", "pred_hidden"])?;
                    let count = of_encoder.number("vocab_size")? as usize + 1;
                    if table.len() != count || table.last().is_none_or(|last| last != "<blk>") {
                        return Err(unusable(
                            tokens,
                            format!(
                                "the model has {count} tokens with <blk> as the last, this file \
                                 has {}",
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
                    return Err(unusable(
                        encoder,
                        format!(
                            "its metadata has model_type \"{kind}\"; streaming ones are {known}"
                        ),
                    ));
                };
                of_encoder.require(keys)?;
                of_decoder.require(&["vocab_size", "context_size"])?;
                has_tokens(of_decoder.number("vocab_size")? as usize)?;
                Ok((frames(of_encoder.number("T")?), 1.0))
            }
            Model::Paraformer { encoder, decoder } => {
                let of_encoder = ModelFile::read(encoder)?;
                of_encoder.require(&PARAFORMER)?;
                read_header(decoder)?;
                has_tokens(of_encoder.number("vocab_size")? as usize)?;
                // sherpa-onnx fixes the chunk length.
                Ok((frames(61), 1.0))
            }
            Model::Zipformer2Ctc(path) => {
                let file = ModelFile::read(path)?;
                file.require(&ZIPFORMER2)?;
                has_blank()?;
                Ok((frames(file.number("T")?), 1.0))
            }
            Model::NemoCtc(path) => {
                let file = ModelFile::read(path)?;
                require_nemo(&file)?;
                has_blank()?;
                has_tokens(file.number("vocab_size")? as usize + 1)?;
                Ok((
                    frames(file.number("window_size")?),
                    file.number("subsampling_factor")? as f32 / 4.0,
                ))
            }
            Model::ToneCtc(path) => {
                let file = ModelFile::read(path)?;
                file.require(&TONE)?;
                has_blank()?;
                Ok((file.number("frame_length_ms")? as f32 * 1e-3, 1.0))
            }
        }
    }
}

/// Checks the metadata of a NeMo model.
fn require_nemo(file: &ModelFile<'_>) -> Result<(), TranscribeError> {
    file.require(&NEMO_CACHES)?;
    let normalized = file
        .header
        .metadata
        .get("normalize_type")
        .map_or("", |kind| kind);
    match normalized {
        "" | "NA" | "per_feature" => Ok(()),
        other => Err(unusable(
            file.path,
            format!(
                "its metadata's normalize_type is \"{other}\", which sherpa-onnx does not know"
            ),
        )),
    }
}
