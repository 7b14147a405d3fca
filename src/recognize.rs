//! [`Clip`]s → [`Recognition`]s: encode (with a cache per face), fuse, calibrate, abstain.
//!
//! Several clips are recognised together: for each encoder the inputs that are not known yet are
//! planned, gathered, run at once, and the embeddings are scattered to the clips; the head runs once
//! for all. The rows of a batch are, with the kernels of the CPU provider, bit for bit those of
//! single runs; a test holds the default bundle to that. Replays run clip by clip all the same, so
//! that their bytes rest on no kernel's order of summation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::clip::{Absence, Clip, Recognition};
use crate::encode::{EncodeError, return_freed_memory};
use crate::manifest::Manifest;
use crate::modality::{Modality, PerModality, Presence};
use crate::model::{Bundle, Encoder};
use crate::preprocess::{LogMel, MelCache};
use crate::time::monotonic_nanos;

mod batch;
mod cache;
mod embed;
mod head;
mod self_test;
mod text;
mod text_thread;

use batch::{ClipEncoder, Embedded};
pub(crate) use cache::FaceCache;
pub use embed::embed;
#[cfg(feature = "corpus")]
pub(crate) use embed::frame_embeddings;
pub use head::head_logits;
use text::Words;
pub use text::text_embedding;
use text_thread::TextThread;

/// One vector per encoder that had evidence, by the encoder's name.
pub type Embeddings = BTreeMap<String, Vec<f32>>;

/// Owns the bundle's graphs; lives on the thread "infer".
#[derive(Debug)]
pub struct Recognizer {
    bundle: Bundle,
    mel: Option<LogMel>,
    /// Per encoder of the bundle; used by those of kind `frame`.
    caches: Vec<FaceCache>,
    mels: MelCache,
    /// Encoder, words and their embedding, the newest last.
    utterances: VecDeque<(usize, String, Option<Vec<f32>>)>,
    /// Live, what encodes words. The bundle has no encoders of words then.
    beside: Option<TextThread>,
    /// Reused from run to run.
    input: Vec<f32>,
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
            mels: MelCache::default(),
            utterances: VecDeque::new(),
            beside: None,
            input: Vec::new(),
        }
    }

    /// For live clips: words are encoded on a thread of their own. They are waited for as long as
    /// that holds nothing else up for more than a share of `budget`, and are [`Absence::Late`]
    /// otherwise. The encoders of words are closed until the first words come: most of the memory of
    /// a bundle that has a language model is its weights.
    pub fn live(bundle: Bundle, budget: Duration) -> std::io::Result<Self> {
        let mut recognizer = Recognizer::new(bundle);
        let (mut words, others): (Vec<_>, Vec<_>) = std::mem::take(&mut recognizer.bundle.encoders)
            .into_iter()
            .partition(|encoder| encoder.entry.modality == Modality::Text);
        recognizer.bundle.encoders = others;
        recognizer.caches.truncate(recognizer.bundle.encoders.len());
        words.iter_mut().for_each(|encoder| encoder.graph.release());
        recognizer.beside = TextThread::spawn(words, budget)?;
        return_freed_memory();
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
        self.recognize_all(&[clip], &[left_nanos]).swap_remove(0)
    }

    /// As [`Recognizer::recognize_within`], for several clips in as few runs as the graphs allow;
    /// answers in the order of `clips`.
    ///
    /// # Panics
    /// If `clips` and `left_nanos` differ in length.
    pub fn recognize_all(&mut self, clips: &[&Clip], left_nanos: &[i64]) -> Vec<Recognition> {
        assert_eq!(clips.len(), left_nanos.len(), "one deadline per clip");
        let now = monotonic_nanos();
        let deadline = |clip: usize| now.saturating_add(left_nanos[clip]);
        let mut absences: Vec<_> = clips.iter().map(|clip| told_absence(clip)).collect();
        // Words are encoded while faces and voices are.
        let mut asked = self.ask_for_first_words(clips, &deadline);
        let mut embedded: Vec<Embedded> = self
            .bundle
            .manifest
            .encoders
            .iter()
            .map(|entry| Embedded::none(clips.len(), entry.dim))
            .collect();
        for index in 0..self.bundle.encoders.len() {
            let Encoder { entry, .. } = &self.bundle.encoders[index];
            let (modality, place) = (entry.modality, place(&self.bundle.manifest, &entry.name));
            let Some(embedded) = place.map(|place| &mut embedded[place]) else {
                continue;
            };
            if modality == Modality::Text {
                for (i, clip) in clips
                    .iter()
                    .enumerate()
                    .filter(|(_, clip)| clip.text.is_ok())
                {
                    let words = self.encode_words(index, clip).map(Words::Ready);
                    settle_words(words, i, embedded, &mut absences[i]);
                }
                continue;
            }
            for (clip, error) in self.embed(index, clips, embedded) {
                fault(&error, absences[clip].get_mut(modality));
            }
        }
        for (i, clip) in clips.iter().enumerate() {
            let asked = asked[i].take();
            let asked = asked.unwrap_or_else(|| self.ask_for_words(clip, deadline(i)));
            for (name, words) in asked {
                let words = self.await_words(words, clip, deadline(i));
                if let Some(place) = place(&self.bundle.manifest, &name) {
                    settle_words(words, i, &mut embedded[place], &mut absences[i]);
                }
            }
        }
        let used: Vec<Presence> = (0..clips.len()).map(|i| self.used(&embedded, i)).collect();
        for (absence, used) in absences.iter_mut().zip(&used) {
            explain(absence, used);
        }
        let logits = head::logits_of(&mut self.bundle, embedded, &used);
        let judged = logits.into_iter().zip(used).zip(absences);
        judged
            .map(|((logits, used), absence)| {
                head::judge(&self.bundle.manifest, logits.as_deref(), used, absence)
            })
            .collect()
    }

    fn used(&self, embedded: &[Embedded], clip: usize) -> Presence {
        let mut used = Presence::default();
        for (entry, embedded) in self.bundle.manifest.encoders.iter().zip(embedded) {
            *used.get_mut(entry.modality) |= embedded.is_there[clip];
        }
        used
    }

    fn embed(
        &mut self,
        index: usize,
        clips: &[&Clip],
        embedded: &mut Embedded,
    ) -> Vec<(usize, EncodeError)> {
        let mut encoder = ClipEncoder {
            encoder: &mut self.bundle.encoders[index],
            manifest: &self.bundle.manifest,
            mel: self.mel.as_ref(),
            cache: &mut self.caches[index],
            mels: &mut self.mels,
            input: &mut self.input,
        };
        encoder.embed(clips, embedded)
    }
}

/// What an encoder of faces or voices makes of a clip that has its modality; `cache` is this encoder's own, and of this session.
#[cfg(feature = "corpus")]
pub(crate) fn encode_clip(
    encoder: &mut Encoder,
    manifest: &Manifest,
    mel: Option<&LogMel>,
    cache: &mut FaceCache,
    clip: &Clip,
) -> Result<Vec<f32>, EncodeError> {
    let mut embedded = Embedded::none(1, encoder.entry.dim);
    let mut encoder = ClipEncoder {
        encoder,
        manifest,
        mel,
        cache,
        mels: &mut MelCache::default(),
        input: &mut Vec::new(),
    };
    match encoder.embed(&[clip], &mut embedded).pop() {
        Some((_, error)) => Err(error),
        None => Ok(embedded.values),
    }
}

/// The encoder's number in the manifest.
fn place(manifest: &Manifest, name: &str) -> Option<usize> {
    manifest.encoders.iter().position(|e| e.name == name)
}

/// Why the clip itself lacks a modality.
fn told_absence(clip: &Clip) -> PerModality<Option<Absence>> {
    PerModality {
        face: clip.face_absence,
        voice: clip.voice.as_ref().err().copied(),
        text: clip.text.as_ref().err().copied(),
    }
}

fn fault(error: &EncodeError, absence: &mut Option<Absence>) {
    tracing::debug!(%error, "encoder gave nothing");
    *absence = Some(Absence::ModelFault);
}

fn settle_words(
    words: Result<Words, EncodeError>,
    clip: usize,
    embedded: &mut Embedded,
    absence: &mut PerModality<Option<Absence>>,
) {
    match words {
        Ok(Words::Ready(Some(embedding))) => embedded.set(clip, &embedding),
        Ok(Words::Ready(None)) => absence.text = Some(Absence::NoTranscript),
        Ok(Words::Late) => absence.text = Some(Absence::Late),
        Err(error) => fault(&error, &mut absence.text),
    }
}

/// Every modality that was not used has a reason, and no other has.
fn explain(absence: &mut PerModality<Option<Absence>>, used: &Presence) {
    for modality in Modality::ALL {
        let reason = absence.get_mut(modality);
        *reason = if *used.get(modality) {
            None
        } else {
            reason.or(Some(Absence::NoEncoder))
        };
    }
}

#[cfg(test)]
mod tests;
