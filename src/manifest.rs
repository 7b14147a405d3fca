//! The manifest: a bundle's contract. Everything that changes a number the model sees is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::clip::{Face, face_slot};
use crate::modality::{Modality, Presence};

/// The version of the manifest's own layout.
pub const SCHEMA: u32 = 1;

/// Version of the preprocessing code, part of every fingerprint.
///
/// Raise it whenever a change in `preprocess`, or in the crop, changes a number that an encoder
/// sees. Bundles made before are then refused.
pub const PREPROCESS_VERSION: u32 = 1;

/// `manifest.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    pub task: Task,
    pub labels: Vec<String>,
    /// [`Manifest::compute_fingerprint`] of the rest.
    pub fingerprint: String,
    pub window: WindowRule,
    pub face: Option<FacePreprocessing>,
    pub audio: Option<AudioPreprocessing>,
    pub text: Option<TextPreprocessing>,
    #[serde(rename = "encoder")]
    pub encoders: Vec<EncoderEntry>,
    pub head: HeadEntry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Exactly one label is right: softmax.
    Single,
    /// Any number of labels is right: a sigmoid each.
    Multi,
}

/// The rule that cuts clips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    pub length_ms: u32,
    /// From one clip's end to the next one's.
    pub hop_ms: u32,
    /// A face this much older than another counts half as much where `frame` encoders' embeddings are averaged over the window: what a
    /// face shows now is seen soon, and a still face does not flicker. Absent: all count alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_ms: Option<u32>,
}

/// How a face becomes an encoder's input: a similarity transform maps the five landmarks onto `template` (least squares), the luma
/// or R, G, B under each pixel is taken with an area filter, and normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacePreprocessing {
    /// Side of the crop in pixels.
    pub size: usize,
    /// 1: luma; 3: R, G, B.
    pub channels: usize,
    /// How many faces a second the encoder gets: one per slot of `1 / rate_hz`.
    pub rate_hz: f64,
    /// Where the five landmarks go, in 0..1 of the crop.
    pub template: [[f32; 2]; 5],
    pub normalise: FaceNormalisation,
    /// A face under this quality is no evidence.
    pub min_quality: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaceNormalisation {
    /// `(x / 255 - mean) / std` per channel.
    Fixed { mean: Vec<f32>, std: Vec<f32> },
    /// Each crop to mean 0 and deviation 1 over all its values (deviation at least `floor`, in 0..1 of the value range).
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

/// How a window of voice becomes an encoder's input `[1, mels, frames]`: power spectrogram (periodic Hann, centred, reflect-padded),
/// HTK mel filters without area normalisation, `scale`, `normalise`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioPreprocessing {
    pub rate_hz: u32,
    pub n_fft: usize,
    pub hop: usize,
    pub mels: usize,
    pub min_hz: f32,
    pub max_hz: f32,
    pub scale: AudioScale,
    pub normalise: AudioNormalisation,
    /// Less speech than this in the window, in milliseconds, is no voice.
    pub min_speech_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioScale {
    /// `ln(power + 1e-6)`.
    Log,
    /// Power as it is (the reference's).
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioNormalisation {
    /// The window to mean 0 and deviation 1 over all its values.
    Window,
    /// The window to 0..1 (the reference's).
    MinMax,
}

/// How words become tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPreprocessing {
    /// `tokenizer.json` of Hugging Face's tokenizers, beside the manifest.
    pub tokenizer: String,
    pub sha256: String,
    /// What is longer is cut here, the special tokens counted in. (The reference cuts nothing, and fails beyond what its network takes.)
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

/// What all-MiniLM-L6-v2 was trained for.
fn default_max_tokens() -> usize {
    256
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderEntry {
    pub name: String,
    pub modality: Modality,
    pub kind: EncoderKind,
    pub file: String,
    pub sha256: String,
    /// The same graph in eight bits, which the CPU is given: `expressd-train export` makes one where it is faster and right as often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Entry>,
    /// Shape of one input, without the batch axis; 0 for an axis that varies.
    pub input: Vec<usize>,
    /// Length of the embedding: the graph's first output, `[batch, dim]`.
    pub dim: usize,
    /// Faces: how many a second this encoder gets, where that is fewer than `[face]` gives (one per slot, the slot's first).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_hz: Option<f64>,
    /// Faces: this encoder's own normalisation, where that is not `[face]`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<FaceNormalisation>,
    /// Names of the graph's second output `[batch, classes]` (logits), if it has one. The daemon does not use it.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Taken as it was (true), or trained by us (false).
    pub frozen: bool,
    pub source: String,
    pub licence: String,
}

/// An encoder's graph in eight bits, beside the float one: same inputs, same outputs, nearly the same numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Entry {
    pub file: String,
    pub sha256: String,
}

impl EncoderEntry {
    /// Those of `faces` (of one subject, oldest first) that this encoder gets: all, or of each slot of its own rate the first.
    pub fn sees<'a>(&self, faces: &'a [Arc<Face>]) -> impl Iterator<Item = &'a Arc<Face>> {
        let rate_hz = self.rate_hz;
        let mut last = None;
        faces.iter().filter(move |face| {
            rate_hz.is_none_or(|rate_hz| {
                last.replace(face_slot(face.time, rate_hz)) != Some(face_slot(face.time, rate_hz))
            })
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// Runs once per face and frame; embeddings are cached and averaged over the window.
    Frame,
    /// Runs on a window.
    Window,
    /// Runs on the words of the window.
    Utterance,
}

/// The trained part over embeddings. Its graph takes one `[batch, dim]` per entry of `inputs`, in that order, zeros where the
/// modality is absent, then the presence `[batch, inputs]` of 0 and 1, and gives logits `[batch, labels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadEntry {
    pub file: String,
    pub sha256: String,
    /// Names of encoders.
    pub inputs: Vec<String>,
    /// Logits are divided by this before the softmax, per modality subset ([`Presence`]'s name).
    pub temperature: BTreeMap<String, f32>,
    /// Confidence under this abstains.
    pub abstain_threshold: f32,
}

impl Manifest {
    /// sha256 over what the encoders see: the version of our preprocessing code, its canonical settings, the encoders' hashes.
    ///
    /// It says what embeddings mean, so it is of the float graphs alone: a graph in eight bits is an approximation of one, made without
    /// training and kept only where its measured loss is nothing to speak of. Stores are extracted with the float graphs wherever that
    /// is done, heads are trained on those rows, and the same head serves either graph. Which one answered is in an event's
    /// `provenance.precision`, and the file itself is held against its hash as every other.
    pub fn compute_fingerprint(&self) -> String {
        #[derive(Serialize)]
        struct Canonical<'a> {
            preprocess_version: u32,
            window: &'a WindowRule,
            face: &'a Option<FacePreprocessing>,
            audio: &'a Option<AudioPreprocessing>,
            text: &'a Option<TextPreprocessing>,
            encoders: Vec<Vec<serde_json::Value>>,
        }
        // What an encoder does not say for itself is left out: a bundle without such has the fingerprint that it always had.
        let canonical_entry = |entry: &EncoderEntry| {
            let mut all = vec![json!(entry.name), json!(entry.sha256)];
            all.extend(entry.rate_hz.map(|rate_hz| json!({ "rate_hz": rate_hz })));
            all.extend(
                entry
                    .normalise
                    .as_ref()
                    .map(|normalise| json!({ "normalise": normalise })),
            );
            all
        };
        let canonical = Canonical {
            preprocess_version: PREPROCESS_VERSION,
            window: &self.window,
            face: &self.face,
            audio: &self.audio,
            text: &self.text,
            encoders: self.encoders.iter().map(canonical_entry).collect(),
        };
        hex_sha256(&serde_json::to_vec(&canonical).expect("settings serialise"))
    }

    pub fn encoder(&self, name: &str) -> Option<&EncoderEntry> {
        self.encoders.iter().find(|e| e.name == name)
    }

    /// The temperature for a subset: its own, else 1.
    pub fn temperature(&self, presence: &Presence) -> f32 {
        self.head
            .temperature
            .get(&presence.name())
            .copied()
            .unwrap_or(1.0)
    }

    /// Everything that contradicts itself, one sentence each.
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
                format!("head.inputs names {input}, which is no encoder"),
            );
        }
        for (subset, temperature) in &self.head.temperature {
            fault(
                !(Presence::subsets().any(|p| p.name() == *subset)),
                format!("head.temperature names {subset}, which is no subset of modalities"),
            );
            fault(
                !(temperature.is_finite() && *temperature > 0.0),
                format!("head.temperature of {subset} is {temperature}, it must be positive"),
            );
        }
        faults
    }

    /// The faults of window, preprocessing and encoders alone: what an encoder set has, too.
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
                    "encoder {} reads {} and the manifest does not say how that is preprocessed",
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
                        "encoder {}: rate_hz is {rate_hz}, permitted are {slowest} (one a window) to face.rate_hz, {}",
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

/// sha256 as 64 hexadecimal digits.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
