//! The manifest of a bundle, `manifest.toml`: the settings that affect the input or output of its
//! networks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clip::{Face, face_slot};
use crate::modality::{Modality, Presence};

/// Version of the manifest's format with a single head, `[head]`.
pub const SCHEMA: u32 = 1;

/// Version of the manifest's format with a list of heads, `[[head]]`. [`Manifest::faults`] refuses
/// every version but this one and [`SCHEMA`].
pub const SCHEMA_OF_HEADS: u32 = 2;

/// Version of the preprocessing code. It is part of every fingerprint.
///
/// Increase it with any change of `preprocess` or of the crop that changes an encoder's input.
/// Existing bundles are then refused.
pub const PREPROCESS_VERSION: u32 = 1;

/// Contents of `manifest.toml`. The primary head is `task`, `labels` and `head`. In a file of
/// [`SCHEMA_OF_HEADS`] it is the first `[[head]]`, and `further` has the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "file::ManifestFile", into = "file::ManifestFile")]
pub struct Manifest {
    /// Version of the manifest's format, [`SCHEMA`] or [`SCHEMA_OF_HEADS`].
    pub schema: u32,
    /// Name of the bundle.
    pub name: String,
    /// Whether a clip has exactly one label or any number of labels.
    pub task: Task,
    /// The labels, in the order of the logits.
    pub labels: Vec<String>,
    /// Hash of all settings that determine the embeddings, [`Manifest::compute_fingerprint`].
    /// Stores and runs refer to a bundle by this value. Events have [`Manifest::score_fingerprint`]
    /// instead.
    pub fingerprint: String,
    /// Length and hop of the clips.
    pub window: WindowRule,
    /// Preprocessing of faces; `None` if no encoder takes faces.
    pub face: Option<FacePreprocessing>,
    /// Preprocessing of sound; `None` if no encoder takes sound.
    pub audio: Option<AudioPreprocessing>,
    /// Preprocessing of text; `None` if no encoder takes text.
    pub text: Option<TextPreprocessing>,
    /// The encoders (`[[encoder]]`).
    pub encoders: Vec<EncoderEntry>,
    /// The primary head, which gives the logits of `labels`.
    pub head: HeadEntry,
    /// The further heads, in the order of an event's field `also`; empty with [`SCHEMA`].
    pub further: Vec<FurtherHead>,
}

/// Length and hop of the clips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// Length of a clip, in milliseconds.
    pub length_ms: u32,
    /// Time from the end of one clip to the end of the next, in milliseconds.
    pub hop_ms: u32,
    /// Half-life, in milliseconds, of the weights with which `frame` embeddings are averaged over
    /// the window. Recent faces have more weight, so that changes show soon. `None`: equal weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_ms: Option<u32>,
}

/// Preprocessing of faces. A similarity transform (least squares) maps the five landmarks to
/// `template`. Each pixel of the crop is the mean of the picture's luma or R, G, B over the pixel's
/// area; then the crop is normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacePreprocessing {
    /// Width and height of the crop, in pixels.
    pub size: usize,
    /// Channels of the crop: 1 for luma, 3 for R, G, B.
    pub channels: usize,
    /// Faces per second that are used: the first of each time slot of `1 / rate_hz` seconds.
    pub rate_hz: f64,
    /// Positions (x, y) in the crop to which the landmarks are mapped, as fractions of its side.
    /// The order is that of [`crate::clip::Landmarks`].
    pub template: [[f32; 2]; 5],
    /// Normalisation of the crop.
    pub normalise: FaceNormalisation,
    /// Lowest quality, in [0, 1], with which a face counts as evidence.
    pub min_quality: f32,
}

/// Normalisation of a crop's pixels, whose values are 0..=255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaceNormalisation {
    /// `(x / 255 - mean) / std`, with one mean and one standard deviation for each channel.
    Fixed { mean: Vec<f32>, std: Vec<f32> },
    /// Each crop is scaled to mean 0 and standard deviation 1 over all its values. The divisor is
    /// at least `floor`, in units of `x / 255`.
    PerCrop { floor: f32 },
}

impl FaceNormalisation {
    /// Whether mean and std have one value for each channel, and every std is positive.
    fn suits(&self, channels: usize) -> bool {
        match self {
            FaceNormalisation::Fixed { mean, std } => {
                mean.len() == channels && std.len() == channels && std.iter().all(|s| *s > 0.0)
            }
            FaceNormalisation::PerCrop { .. } => true,
        }
    }
}

/// Preprocessing of a window of mono sound to the input `[1, mels, frames]`. Steps: power
/// spectrogram (periodic Hann window, centred frames, reflected padding), HTK mel filters without
/// area normalisation, `scale`, `normalise`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioPreprocessing {
    /// Sample rate, in Hz.
    pub rate_hz: u32,
    /// Length of the FFT and of its window, in samples.
    pub n_fft: usize,
    /// Distance from the start of one frame to the start of the next, in samples.
    pub hop: usize,
    /// Number of mel bands.
    pub mels: usize,
    /// Lowest frequency of the mel bands, in Hz.
    pub min_hz: f32,
    /// Highest frequency of the mel bands, in Hz.
    pub max_hz: f32,
    /// Scale of the mel spectrogram.
    pub scale: AudioScale,
    /// Normalisation of the mel spectrogram, after `scale`.
    pub normalise: AudioNormalisation,
    /// Least speech, in milliseconds, with which a window's voice counts as evidence.
    pub min_speech_ms: u32,
}

/// Scale of the mel spectrogram's values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioScale {
    /// Natural logarithm: `ln(power + 1e-6)`.
    Log,
    /// Power, unchanged, as in the paper's reference implementation.
    Power,
}

/// Normalisation of a window's mel spectrogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioNormalisation {
    /// Scales the window to mean 0 and standard deviation 1 over all its values.
    Window,
    /// Scales the window to 0..1 over all its values, as in the paper's reference implementation.
    MinMax,
}

/// Preprocessing of text: tokenisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPreprocessing {
    /// Name of the tokenizer's file beside the manifest, in the format of Hugging Face's
    /// tokenizers.
    pub tokenizer: String,
    /// SHA-256 of the tokenizer's file, 64 hexadecimal digits.
    pub sha256: String,
    /// Largest number of tokens of a text, special tokens included; further tokens are cut. (The
    /// paper's reference implementation cuts nothing, and fails beyond the limit of its network.)
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

/// The largest number of tokens that all-MiniLM-L6-v2 was trained on.
fn default_max_tokens() -> usize {
    256
}

/// One encoder of a bundle (`[[encoder]]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderEntry {
    /// Name of the encoder, by which `head.inputs` refers to it.
    pub name: String,
    /// The modality that the encoder reads.
    pub modality: Modality,
    /// What one run of the encoder takes.
    pub kind: EncoderKind,
    /// Name of the fp32 graph's ONNX file beside the manifest.
    pub file: String,
    /// SHA-256 of `file`, 64 hexadecimal digits.
    pub sha256: String,
    /// The int8 graph, used on the CPU; `None`: the fp32 graph is used. `expressd-train export`
    /// writes one if it is faster and as accurate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Entry>,
    /// Shape of the graph's input without the batch axis; 0 for an axis of variable length.
    pub input: Vec<usize>,
    /// Length of the embedding. The embedding is the graph's first output, `[batch, dim]`.
    pub dim: usize,
    /// Face encoders: faces per second, if fewer than `[face] rate_hz`. The encoder gets the first
    /// face of each time slot of `1 / rate_hz` seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Face encoders: normalisation of the crop, if it differs from that of `[face]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<FaceNormalisation>,
    /// Class names of the graph's second output, logits `[batch, classes]`; empty if the graph has
    /// one output. The daemon does not use them.
    #[serde(default)]
    pub classes: Vec<String>,
    /// True for a pretrained encoder with unchanged weights, false for one that this project
    /// trained.
    pub frozen: bool,
    /// Where the weights come from, as text.
    pub source: String,
    /// Licence of the weights, as text.
    pub licence: String,
}

/// An encoder's int8 graph. It has the same inputs and outputs as the fp32 graph, and nearly the
/// same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Entry {
    /// Name of the ONNX file beside the manifest.
    pub file: String,
    pub sha256: String,
}

impl EncoderEntry {
    /// Selects the faces that this encoder takes from `faces`, which are of one subject, oldest
    /// first. Without an own rate that is every face, else the first of each time slot of `1 /
    /// rate_hz` seconds.
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

/// What one run of an encoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// One crop. The embeddings are cached, and averaged over the window.
    Frame,
    /// Several crops, or the sound, of a whole window.
    Window,
    /// The tokens of a window's text.
    Utterance,
}

impl Manifest {
    /// The entry of the encoder called `name`; `None` if there is none.
    pub fn encoder(&self, name: &str) -> Option<&EncoderEntry> {
        self.encoders.iter().find(|e| e.name == name)
    }

    /// The temperature for the subset `presence` of modalities; 1 if the manifest has none.
    pub fn temperature(&self, presence: &Presence) -> f32 {
        self.head
            .temperature
            .get(&presence.name())
            .copied()
            .unwrap_or(1.0)
    }

    /// Checks the manifest; returns a sentence for each fault, none for a valid manifest.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.encoder_faults();
        let mut fault = |wrong: bool, text: String| {
            if wrong {
                faults.push(text);
            }
        };
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
        faults.extend(heads::faults(self));
        faults
    }

    /// As [`Manifest::faults`], but checks only window, preprocessing and encoders, which encoder
    /// sets also have.
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

/// SHA-256 of `bytes`, 64 hexadecimal digits.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

mod file;
mod fingerprint;
#[cfg(test)]
mod fuzz;
mod heads;

pub use heads::{FurtherHead, HeadEntry, HeadKind, Task};
