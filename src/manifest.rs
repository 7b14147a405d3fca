//! The manifest of a bundle. It holds everything that changes a number the model sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clip::{Face, face_slot};
use crate::modality::{Modality, Presence};

/// Version of the manifest's layout.
pub const SCHEMA: u32 = 1;

/// Version of the preprocessing code, part of every fingerprint.
///
/// Raise it with any change of `preprocess` or of the crop that changes an encoder's input. Older
/// bundles are then refused.
pub const PREPROCESS_VERSION: u32 = 1;

/// Contents of `manifest.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest's format.
    pub schema: u32,
    pub name: String,
    /// Single-label or multi-label classification.
    pub task: Task,
    /// The labels, in the order of the logits.
    pub labels: Vec<String>,
    /// Fingerprint of the embeddings, [`Manifest::compute_fingerprint`]. Stores and runs refer to a
    /// bundle by it. Events have [`Manifest::score_fingerprint`] instead.
    pub fingerprint: String,
    pub window: WindowRule,
    pub face: Option<FacePreprocessing>,
    pub audio: Option<AudioPreprocessing>,
    pub text: Option<TextPreprocessing>,
    #[serde(rename = "encoder")]
    pub encoders: Vec<EncoderEntry>,
    pub head: HeadEntry,
}

/// Kind of classification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One label per clip: softmax.
    Single,
    /// Any number of labels per clip: a sigmoid each.
    Multi,
}

/// Length and hop of the clips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// Length of a clip, in milliseconds.
    pub length_ms: u32,
    /// Distance from the end of one clip to the end of the next, in milliseconds.
    pub hop_ms: u32,
    /// Half-life of the weights by which `frame` embeddings are averaged over the window, in
    /// milliseconds. Recent faces have more weight, so changes show soon. `None`: equal weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_ms: Option<u32>,
}

/// Preprocessing of faces. A similarity transform maps the five landmarks onto `template` (least
/// squares). The luma or R, G, B under each pixel is area-filtered and normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacePreprocessing {
    /// Side of the crop in pixels.
    pub size: usize,
    /// 1: luma; 3: R, G, B.
    pub channels: usize,
    /// Faces per second for the encoder: one per slot of `1 / rate_hz`.
    pub rate_hz: f64,
    /// Target places of the five landmarks, in 0..1 of the crop.
    pub template: [[f32; 2]; 5],
    pub normalise: FaceNormalisation,
    /// Lowest quality of a face that counts as evidence, 0..1.
    pub min_quality: f32,
}

/// Normalisation of a face crop's pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaceNormalisation {
    /// `(x / 255 - mean) / std` per channel.
    Fixed { mean: Vec<f32>, std: Vec<f32> },
    /// Each crop is scaled to mean 0 and deviation 1 over all its values. The deviation is at least
    /// `floor`, for values in 0..1.
    PerCrop { floor: f32 },
}

impl FaceNormalisation {
    fn suits(&self, channels: usize) -> bool {
        match self {
            FaceNormalisation::Fixed { mean, std } => {
                mean.len() == channels && std.len() == channels && std.iter().all(|s| *s > 0.0)
            }
            FaceNormalisation::PerCrop { .. } => true,
        }
    }
}

/// Preprocessing of a voice window to the input `[1, mels, frames]`: power spectrogram (periodic
/// Hann, centred, reflect-padded), HTK mel filters without area normalisation, `scale`,
/// `normalise`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioPreprocessing {
    /// Sample rate, in Hz.
    pub rate_hz: u32,
    /// Length of the FFT, in samples.
    pub n_fft: usize,
    /// Distance between frames, in samples.
    pub hop: usize,
    /// Number of mel bands.
    pub mels: usize,
    /// Lowest frequency of the mel bands.
    pub min_hz: f32,
    /// Highest frequency of the mel bands.
    pub max_hz: f32,
    pub scale: AudioScale,
    pub normalise: AudioNormalisation,
    /// Least speech in a window with a voice, in milliseconds.
    pub min_speech_ms: u32,
}

/// Scale of the mel spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioScale {
    /// `ln(power + 1e-6)`.
    Log,
    /// Power unchanged (the reference's).
    Power,
}

/// Normalisation of a window's spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioNormalisation {
    /// The window to mean 0 and deviation 1 over all its values.
    Window,
    /// The window to 0..1 (the reference's).
    MinMax,
}

/// Tokenisation of text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPreprocessing {
    /// `tokenizer.json` of Hugging Face's tokenizers, beside the manifest.
    pub tokenizer: String,
    /// Hash of the tokenizer's file.
    pub sha256: String,
    /// Largest number of tokens of an utterance, special tokens included; the rest is cut. (The
    /// reference cuts nothing, and fails beyond the limit of its network.)
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

/// The length that all-MiniLM-L6-v2 was trained on.
fn default_max_tokens() -> usize {
    256
}

/// One encoder of a bundle (`[[encoder]]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderEntry {
    pub name: String,
    pub modality: Modality,
    pub kind: EncoderKind,
    /// The fp32 graph, an ONNX file beside the manifest.
    pub file: String,
    /// Hash of `file`.
    pub sha256: String,
    /// The int8 graph, used on the CPU. `expressd-train export` writes one if it is faster and as
    /// accurate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Entry>,
    /// Shape of one input without the batch axis; 0 for a variable axis.
    pub input: Vec<usize>,
    /// Length of the embedding: the graph's first output, `[batch, dim]`.
    pub dim: usize,
    /// Face encoders: faces per second, if fewer than `[face]` states. The encoder gets the first
    /// face of each of its slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Face encoders: normalisation, if it differs from that of `[face]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<FaceNormalisation>,
    /// Class names of the graph's second output, logits `[batch, classes]`; empty if it has none.
    /// The daemon does not use them.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Whether the encoder is pretrained and unchanged, or trained by this project.
    pub frozen: bool,
    /// Origin of the weights.
    pub source: String,
    /// Licence of the weights.
    pub licence: String,
}

/// An encoder's int8 graph beside the fp32 one: same inputs and outputs, nearly the same numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Entry {
    pub file: String,
    pub sha256: String,
}

impl EncoderEntry {
    /// The faces for this encoder: all of `faces` (of one subject, oldest first), or the first of
    /// each slot of its own rate.
    pub fn input_faces<'a>(&self, faces: &'a [Arc<Face>]) -> impl Iterator<Item = &'a Arc<Face>> {
        let rate_hz = self.rate_hz;
        let mut last = None;
        faces.iter().filter(move |face| {
            rate_hz.is_none_or(|rate_hz| {
                last.replace(face_slot(face.time, rate_hz)) != Some(face_slot(face.time, rate_hz))
            })
        })
    }
}

/// What an encoder runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// One face of one frame. Embeddings are cached, and averaged over the window.
    Frame,
    /// Runs on a window.
    Window,
    /// The text of a window.
    Utterance,
}

/// The classifier over embeddings. Its graph takes one `[batch, dim]` per entry of `inputs`, in
/// that order, zeros for an absent modality. Then it takes the presence `[batch, inputs]` of 0 and
/// 1. It gives logits `[batch, labels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadEntry {
    /// An ONNX file beside the manifest.
    pub file: String,
    /// Hash of `file`.
    pub sha256: String,
    /// Names of the encoders, in the order of the graph's inputs.
    pub inputs: Vec<String>,
    /// The temperature of each subset of modalities, by [`Presence`]'s name. Logits are divided by
    /// it before the softmax.
    pub temperature: BTreeMap<String, f32>,
    /// Confidence below which the recogniser abstains, 0..1.
    pub abstain_threshold: f32,
}

impl Manifest {
    /// The encoder called `name`.
    pub fn encoder(&self, name: &str) -> Option<&EncoderEntry> {
        self.encoders.iter().find(|e| e.name == name)
    }

    /// The temperature of a subset; 1 by default.
    pub fn temperature(&self, presence: &Presence) -> f32 {
        self.head
            .temperature
            .get(&presence.name())
            .copied()
            .unwrap_or(1.0)
    }

    /// All contradictions of the manifest, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.encoder_faults();
        let mut fault = |wrong: bool, text: String| {
            if wrong {
                faults.push(text);
            }
        };
        fault(
            self.schema != SCHEMA,
            format!("schema is {}, this daemon reads {SCHEMA}", self.schema),
        );
        fault(self.labels.len() < 2, "labels needs at least two".into());
        for input in &self.head.inputs {
            fault(
                self.encoder(input).is_none(),
                format!("head.inputs names {input}, which is not an encoder"),
            );
        }
        for (subset, temperature) in &self.head.temperature {
            fault(
                !(Presence::subsets().any(|p| p.name() == *subset)),
                format!("head.temperature names {subset}, which is not a subset of modalities"),
            );
            fault(
                !(temperature.is_finite() && *temperature > 0.0),
                format!("head.temperature of {subset} is {temperature}, it must be positive"),
            );
        }
        faults
    }

    /// As [`Manifest::faults`], for window, preprocessing and encoders only: an encoder set has
    /// these, too.
    pub fn encoder_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: String| {
            if wrong {
                faults.push(text);
            }
        };
        fault(
            self.window.hop_ms == 0 || self.window.length_ms < self.window.hop_ms,
            "window.hop_ms must be between 1 and window.length_ms".into(),
        );
        let half_life = self.window.half_life_ms.unwrap_or(1);
        fault(
            !(1..=60_000).contains(&half_life),
            format!("window.half_life_ms is {half_life}, permitted are 1 to 60000"),
        );
        if let Some(face) = &self.face {
            fault(
                !(16..=1024).contains(&face.size),
                format!("face.size is {}, permitted are 16 to 1024", face.size),
            );
            fault(
                face.channels != 1 && face.channels != 3,
                format!("face.channels is {}, permitted are 1 and 3", face.channels),
            );
            fault(
                !(0.5..=120.0).contains(&face.rate_hz),
                format!("face.rate_hz is {}, permitted are 0.5 to 120", face.rate_hz),
            );
            fault(
                !face.normalise.suits(face.channels),
                "face.normalise needs a mean and a positive std per channel".into(),
            );
        }
        if let Some(audio) = &self.audio {
            fault(
                audio.rate_hz != crate::clip::SAMPLE_RATE_HZ,
                format!(
                    "audio.rate_hz is {}, this daemon's audio is {}",
                    audio.rate_hz,
                    crate::clip::SAMPLE_RATE_HZ
                ),
            );
            fault(
                audio.hop == 0 || audio.mels == 0 || audio.n_fft < 2,
                "audio.n_fft, audio.hop and audio.mels must be positive".into(),
            );
        }
        if let Some(text) = &self.text {
            fault(
                !(4..=4096).contains(&text.max_tokens),
                format!(
                    "text.max_tokens is {}, permitted are 4 to 4096",
                    text.max_tokens
                ),
            );
        }
        for encoder in &self.encoders {
            let described = match encoder.modality {
                Modality::Face => self.face.is_some(),
                Modality::Voice => self.audio.is_some(),
                Modality::Text => self.text.is_some(),
            };
            fault(
                !described,
                format!(
                    "encoder {} reads {}, but the manifest has no preprocessing for it",
                    encoder.name,
                    encoder.modality.name()
                ),
            );
            fault(
                encoder.dim == 0,
                format!("encoder {} has dim 0", encoder.name),
            );
            let own = encoder.rate_hz.is_some() || encoder.normalise.is_some();
            fault(
                own && encoder.modality != Modality::Face,
                format!(
                    "encoder {}: rate_hz and normalise are for encoders of faces",
                    encoder.name
                ),
            );
            if let Some(face) = self
                .face
                .as_ref()
                .filter(|_| encoder.modality == Modality::Face)
            {
                let slowest = 1000.0 / f64::from(self.window.length_ms);
                if let Some(rate_hz) = encoder.rate_hz {
                    let text = format!(
                        "encoder {}: rate_hz is {rate_hz}, permitted are {slowest} (one a \
                         window) to face.rate_hz, {}",
                        encoder.name, face.rate_hz
                    );
                    fault(!(slowest..=face.rate_hz).contains(&rate_hz), text);
                }
                let suits = encoder
                    .normalise
                    .as_ref()
                    .is_none_or(|n| n.suits(face.channels));
                fault(
                    !suits,
                    format!(
                        "encoder {}: normalise needs a mean and a positive std per channel",
                        encoder.name
                    ),
                );
            }
        }
        faults
    }
}

/// SHA-256 as 64 hexadecimal digits.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

mod fingerprint;
#[cfg(test)]
mod fuzz;
