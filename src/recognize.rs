//! [`Clip`] → [`Recognition`]: encode (with a cache per face), fuse, calibrate, abstain.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clip::{Absence, Clip, Crop, Face, Recognition};
use crate::encode::{EncodeError, Input};
use crate::modality::{Modality, PerModality, Presence};
use crate::model::manifest::{EncoderKind, Manifest, Task};
use crate::model::{Bundle, Encoder};
use crate::preprocess::{LogMel, normalise};
use crate::time::monotonic_nanos;

mod text;
mod text_thread;
use text::Words;
pub use text::text_embedding;
use text_thread::TextThread;

/// Embeddings kept for faces seen before: some 30 s of eight subjects at 16 faces a second.
const CACHED_FACES: usize = 4096;

/// One vector per encoder that had evidence, by the encoder's name.
pub type Embeddings = BTreeMap<String, Vec<f32>>;

/// Owns the bundle's graphs; lives on the thread "infer".
#[derive(Debug)]
pub struct Recognizer {
    bundle: Bundle,
    mel: Option<LogMel>,
    /// Per `frame` encoder, by [`crate::clip::Face::id`].
    caches: Vec<FaceCache>,
    /// Encoder, words and their embedding, the newest last.
    utterances: VecDeque<(usize, String, Option<Vec<f32>>)>,
    /// Live, what encodes words. The bundle has no encoders of words then.
    beside: Option<TextThread>,
}

/// Embeddings of one `frame` encoder, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct FaceCache {
    embeddings: HashMap<u64, Arc<[f32]>>,
    order: VecDeque<u64>,
}

impl FaceCache {
    fn insert(&mut self, id: u64, embedding: Arc<[f32]>) {
        if self.order.len() == CACHED_FACES
            && let Some(oldest) = self.order.pop_front()
        {
            self.embeddings.remove(&oldest);
        }
        self.order.push_back(id);
        self.embeddings.insert(id, embedding);
    }
}

impl Recognizer {
    pub fn new(bundle: Bundle) -> Self {
        let mel = bundle.manifest.audio.as_ref().map(LogMel::new);
        let caches = bundle
            .encoders
            .iter()
            .map(|_| FaceCache::default())
            .collect();
        Recognizer {
            bundle,
            mel,
            caches,
            utterances: VecDeque::new(),
            beside: None,
        }
    }

    /// For live clips: words are encoded on a thread of their own. They are waited for as long as
    /// that holds nothing else up for more than a share of `budget`, and are [`Absence::Late`]
    /// otherwise.
    pub fn live(bundle: Bundle, budget: Duration) -> std::io::Result<Self> {
        let mut recognizer = Recognizer::new(bundle);
        let (words, others) = std::mem::take(&mut recognizer.bundle.encoders)
            .into_iter()
            .partition(|encoder| encoder.entry.modality == Modality::Text);
        recognizer.bundle.encoders = others;
        recognizer.caches.truncate(recognizer.bundle.encoders.len());
        recognizer.beside = TextThread::spawn(words, budget)?;
        Ok(recognizer)
    }

    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Never fails: an encoder that does counts as a modality that is missing, and the answer says so.
    pub fn recognize(&mut self, clip: &Clip) -> Recognition {
        self.recognize_within(clip, i64::MAX)
    }

    /// As [`Recognizer::recognize`], for a clip whose deadline is `left_nanos` away.
    pub fn recognize_within(&mut self, clip: &Clip, left_nanos: i64) -> Recognition {
        let deadline = monotonic_nanos().saturating_add(left_nanos);
        let mut absence = PerModality {
            face: clip.face_absence,
            voice: clip.voice.as_ref().err().copied(),
            text: clip.text.as_ref().err().copied(),
        };
        let mut embeddings = Embeddings::new();
        // Asked for first: words are encoded while faces and voices are.
        let asked = self.ask_for_words(clip, deadline);
        for index in 0..self.bundle.encoders.len() {
            let modality = self.bundle.encoders[index].entry.modality;
            if !*clip.presence().get(modality) {
                continue;
            }
            let encoded = if modality == Modality::Text {
                self.encode_words(index, clip)
            } else {
                self.encode(index, clip).map(Some)
            };
            match encoded {
                Ok(Some(embedding)) => {
                    embeddings.insert(self.bundle.encoders[index].entry.name.clone(), embedding);
                }
                Ok(None) => *absence.get_mut(modality) = Some(Absence::NoTranscript),
                Err(error) => {
                    tracing::debug!(%error, "encoder gave nothing");
                    *absence.get_mut(modality) = Some(Absence::ModelFault);
                }
            }
        }
        for (name, words) in asked {
            match self.await_words(words, clip, deadline) {
                Ok(Words::Ready(Some(embedding))) => _ = embeddings.insert(name, embedding),
                Ok(Words::Ready(None)) => absence.text = Some(Absence::NoTranscript),
                Ok(Words::Late) => absence.text = Some(Absence::Late),
                Err(error) => {
                    tracing::debug!(%error, "encoder gave nothing");
                    absence.text = Some(Absence::ModelFault);
                }
            }
        }
        let used = self.used(&embeddings);
        for modality in Modality::ALL {
            if *used.get(modality) {
                *absence.get_mut(modality) = None;
            } else if absence.get(modality).is_none() {
                *absence.get_mut(modality) = Some(Absence::NoEncoder);
            }
        }
        let scores = if used.is_none() {
            None
        } else {
            head_logits(&mut self.bundle, &embeddings).ok()
        };
        judge(&self.bundle.manifest, scores.as_deref(), used, absence)
    }

    fn used(&self, embeddings: &Embeddings) -> Presence {
        let mut used = Presence::default();
        let encoders = &self.bundle.manifest.encoders;
        for entry in encoders.iter().filter(|e| embeddings.contains_key(&e.name)) {
            *used.get_mut(entry.modality) = true;
        }
        used
    }

    fn encode(&mut self, index: usize, clip: &Clip) -> Result<Vec<f32>, EncodeError> {
        encode_clip(
            &mut self.bundle.encoders[index],
            &self.bundle.manifest,
            self.mel.as_ref(),
            &mut self.caches[index],
            clip,
        )
    }
}

/// What an encoder of faces or voices makes of a clip that has its modality; `cache` is this encoder's own, and of this session.
pub(crate) fn encode_clip(
    encoder: &mut Encoder,
    manifest: &Manifest,
    mel: Option<&LogMel>,
    cache: &mut FaceCache,
    clip: &Clip,
) -> Result<Vec<f32>, EncodeError> {
    match (encoder.entry.modality, encoder.entry.kind) {
        (Modality::Face, EncoderKind::Frame) => {
            let faces: Vec<_> = encoder
                .entry
                .sees(&clip.faces)
                .filter_map(|f| Some((f, f.crop.as_ref()?)))
                .collect();
            let new: Vec<_> = faces
                .iter()
                .filter(|(face, _)| !cache.embeddings.contains_key(&face.id))
                .collect();
            if !new.is_empty() {
                let crops: Vec<_> = new.iter().map(|(_, crop)| (*crop).clone()).collect();
                for ((face, _), embedding) in
                    new.iter().zip(frame_embeddings(encoder, manifest, &crops)?)
                {
                    cache.insert(face.id, embedding.into());
                }
            }
            let weight = |face: &Face| match manifest.window.half_life_ms {
                None => 1.0,
                Some(half_life_ms) => (-clip.span.end.nanos_since(face.time) as f64 * 1e-6
                    / f64::from(half_life_ms))
                .exp2(),
            };
            let embedded = faces
                .iter()
                .filter_map(|(face, _)| Some((weight(face), &**cache.embeddings.get(&face.id)?)));
            Ok(mean(encoder.entry.dim, embedded))
        }
        (Modality::Face, _) => {
            let crops: Vec<_> = encoder
                .entry
                .sees(&clip.faces)
                .filter_map(|f| f.crop.clone())
                .collect();
            window_embedding(encoder, manifest, &crops)
        }
        _ => {
            let samples = clip.voice.as_ref().map_or(&[][..], |v| &v.samples);
            voice_embedding(encoder, mel, samples)
        }
    }
}

/// Scores, verdict and confidence of logits (`None`: no evidence, or an answer that is not a number).
fn judge(
    manifest: &Manifest,
    logits: Option<&[f32]>,
    used: Presence,
    absence: PerModality<Option<Absence>>,
) -> Recognition {
    let labels = manifest.labels.len();
    let scores = match (logits, manifest.task) {
        (None, _) => vec![1.0 / labels as f32; labels],
        (Some(logits), Task::Single) => softmax(logits, manifest.temperature(&used)),
        (Some(logits), Task::Multi) => logits
            .iter()
            .map(|l| 1.0 / (1.0 + (-l / manifest.temperature(&used)).exp()))
            .collect(),
    };
    let top = (0..labels).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
    let confidence = scores[top];
    let abstain = logits.is_none() || confidence < manifest.head.abstain_threshold;
    Recognition {
        scores,
        top,
        confidence,
        abstain,
        used,
        absence,
    }
}

fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|l| f64::from((l - highest) / temperature).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / sum) as f32).collect()
}

/// Embeddings of crops, samples and words without a cache: the self-test's and the trainer's way in.
pub fn embed(
    bundle: &mut Bundle,
    crops: &[Arc<Crop>],
    samples: Option<&[f32]>,
    text: Option<&str>,
) -> Result<Embeddings, EncodeError> {
    let mut embeddings = Embeddings::new();
    let mel = bundle.manifest.audio.as_ref().map(LogMel::new);
    for encoder in &mut bundle.encoders {
        let embedding = match (encoder.entry.modality, encoder.entry.kind) {
            (Modality::Face, _) if crops.is_empty() => continue,
            (Modality::Face, EncoderKind::Frame) => {
                let all = frame_embeddings(encoder, &bundle.manifest, crops)?;
                mean(
                    encoder.entry.dim,
                    all.iter().map(|embedding| (1.0, embedding.as_slice())),
                )
            }
            (Modality::Face, _) => window_embedding(encoder, &bundle.manifest, crops)?,
            (Modality::Text, _) => {
                match text_embedding(encoder, bundle.tokenizer.as_ref(), text.unwrap_or_default())?
                {
                    Some(embedding) => embedding,
                    None => continue,
                }
            }
            _ => match samples {
                Some(samples) => voice_embedding(encoder, mel.as_ref(), samples)?,
                None => continue,
            },
        };
        embeddings.insert(encoder.entry.name.clone(), embedding);
    }
    Ok(embeddings)
}

/// The head's logits, one per label: absent embeddings are zeros and their presence 0.
pub fn head_logits(bundle: &mut Bundle, embeddings: &Embeddings) -> Result<Vec<f32>, EncodeError> {
    let Bundle { manifest, head, .. } = bundle;
    let inputs: Vec<(Vec<f32>, [usize; 2])> = manifest
        .head
        .inputs
        .iter()
        .map(|name| {
            let dim = manifest.encoder(name).map_or(0, |e| e.dim);
            (
                embeddings
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| vec![0.0; dim]),
                [1, dim],
            )
        })
        .collect();
    let presence: Vec<f32> = manifest
        .head
        .inputs
        .iter()
        .map(|name| {
            if embeddings.contains_key(name) {
                1.0
            } else {
                0.0
            }
        })
        .collect();
    let presence_shape = [1, presence.len()];
    let mut bound: Vec<_> = inputs
        .iter()
        .map(|(values, shape)| Input::F32(shape, values))
        .collect();
    bound.push(Input::F32(&presence_shape, &presence));
    let logits = head.run(&bound)?.swap_remove(0);
    expect(head.name(), &logits.shape, &[1, manifest.labels.len()])?;
    Ok(logits.values)
}

/// One embedding per crop.
pub(crate) fn frame_embeddings(
    encoder: &mut Encoder,
    manifest: &Manifest,
    crops: &[Arc<Crop>],
) -> Result<Vec<Vec<f32>>, EncodeError> {
    let face = manifest
        .face
        .as_ref()
        .expect("checked when the bundle was opened");
    let normalisation = encoder.entry.normalise.as_ref().unwrap_or(&face.normalise);
    let pixels: Vec<f32> = crops
        .iter()
        .flat_map(|crop| normalise(crop, normalisation))
        .collect();
    let shape = [crops.len(), face.channels, face.size, face.size];
    let output = encoder
        .graph
        .run(&[Input::F32(&shape, &pixels)])?
        .swap_remove(0);
    expect(
        encoder.graph.name(),
        &output.shape,
        &[crops.len(), encoder.entry.dim],
    )?;
    Ok(output
        .values
        .chunks(encoder.entry.dim)
        .map(<[f32]>::to_vec)
        .collect())
}

/// Exactly the manifest's number of frames, evenly picked (`src/train/method.md` a.4), into `[1,
/// frames, channels, size, size]`.
fn window_embedding(
    encoder: &mut Encoder,
    manifest: &Manifest,
    crops: &[Arc<Crop>],
) -> Result<Vec<f32>, EncodeError> {
    let face = manifest
        .face
        .as_ref()
        .expect("checked when the bundle was opened");
    let normalisation = encoder.entry.normalise.as_ref().unwrap_or(&face.normalise);
    let frames = encoder.entry.input[0].max(1);
    let pick = |i: usize| {
        if frames == 1 {
            0
        } else {
            i * (crops.len() - 1) / (frames - 1)
        }
    };
    let pixels: Vec<f32> = (0..frames)
        .flat_map(|i| normalise(&crops[pick(i)], normalisation))
        .collect();
    let shape = [1, frames, face.channels, face.size, face.size];
    let output = encoder
        .graph
        .run(&[Input::F32(&shape, &pixels)])?
        .swap_remove(0);
    expect(encoder.graph.name(), &output.shape, &[1, encoder.entry.dim])?;
    Ok(output.values)
}

fn voice_embedding(
    encoder: &mut Encoder,
    mel: Option<&LogMel>,
    samples: &[f32],
) -> Result<Vec<f32>, EncodeError> {
    let mel = mel.expect("checked when the bundle was opened");
    let (values, frames) = mel.compute(samples);
    let shape = [1, 1, values.len() / frames, frames];
    let output = encoder
        .graph
        .run(&[Input::F32(&shape, &values)])?
        .swap_remove(0);
    expect(encoder.graph.name(), &output.shape, &[1, encoder.entry.dim])?;
    Ok(output.values)
}

/// The mean of weighed vectors; zeros where there is none.
fn mean<'a>(dim: usize, vectors: impl Iterator<Item = (f64, &'a [f32])>) -> Vec<f32> {
    let (mut sum, mut all) = (vec![0.0f64; dim], 0.0);
    for (weight, vector) in vectors {
        all += weight;
        sum.iter_mut()
            .zip(vector)
            .for_each(|(s, v)| *s += weight * f64::from(*v));
    }
    sum.iter()
        .map(|s| if all > 0.0 { (s / all) as f32 } else { 0.0 })
        .collect()
}

fn expect(graph: &str, found: &[usize], expected: &[usize]) -> Result<(), EncodeError> {
    if found == expected {
        return Ok(());
    }
    Err(EncodeError::WrongOutput {
        graph: graph.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
    })
}

#[cfg(test)]
mod tests;
