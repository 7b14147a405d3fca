//! Recognises expressions: a [`Clip`] becomes a [`Recognition`]. The encoders give embeddings
//! (cached for each face), the head gives logits, calibration gives scores, and a low confidence
//! means abstention.
//!
//! Several clips are recognised in one batch. Each encoder runs once on all inputs of the clips
//! that are not cached; the head runs once for all clips. With the CPU provider's kernels the rows
//! of a batch equal those of single runs bit for bit; a test checks that on the default bundle.
//! Replays still run clip by clip, so that their output does not depend on a kernel's order of
//! summation.

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
mod text_embedding;
mod text_thread;

use batch::{ClipEncoder, Embedded};
pub(crate) use cache::FaceCache;
pub use embed::embed;
#[cfg(feature = "corpus")]
pub(crate) use embed::frame_embeddings;
pub use head::head_logits;
use text::TextOutcome;
pub use text_embedding::text_embedding;
use text_thread::TextThread;

/// The embedding of each encoder that had evidence, by the encoder's name.
pub type Embeddings = BTreeMap<String, Vec<f32>>;

/// Recognises clips with a bundle's graphs and keeps the caches of embeddings. The daemon runs it
/// on the thread "infer".
#[derive(Debug)]
pub struct Recognizer {
    bundle: Bundle,
    /// The mel transform of the manifest; `None` if the bundle has no voice encoder's
    /// preprocessing.
    mel: Option<LogMel>,
    /// One cache for each of `bundle.encoders`, in the same order; only encoders of kind `frame`
    /// use theirs.
    caches: Vec<FaceCache>,
    /// Cache of the mel frames of overlapping windows.
    mels: MelCache,
    /// Cached texts as (index of the text encoder, text, embedding), the newest last. An embedding
    /// of `None` means that the text has no token.
    utterances: VecDeque<(usize, String, Option<Vec<f32>>)>,
    /// The thread that encodes texts of live clips; `None`: texts are encoded on the calling
    /// thread. The thread owns the text encoders, which are then absent from `bundle.encoders`.
    text_thread: Option<TextThread>,
    /// Buffer for a graph's input, reused from run to run.
    input: Vec<f32>,
}

impl Recognizer {
    /// Creates a recogniser that runs all encoders on the calling thread.
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
            text_thread: None,
            input: Vec::new(),
        }
    }

    /// Creates a recogniser for live clips, which encodes texts on a thread of its own.
    ///
    /// A clip waits for the embedding of its text for at most a quarter of `budget`; a text that is
    /// not ready by then is [`Absence::Late`]. The text encoders stay closed until the first text,
    /// because a language model's weights are most of a bundle's memory.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn live(bundle: Bundle, budget: Duration) -> std::io::Result<Self> {
        let mut recognizer = Recognizer::new(bundle);
        let (mut text_encoders, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut recognizer.bundle.encoders)
                .into_iter()
                .partition(|encoder| encoder.entry.modality == Modality::Text);
        recognizer.bundle.encoders = others;
        recognizer.caches.truncate(recognizer.bundle.encoders.len());
        text_encoders
            .iter_mut()
            .for_each(|encoder| encoder.graph.release());
        recognizer.text_thread = TextThread::spawn(text_encoders, budget)?;
        return_freed_memory();
        Ok(recognizer)
    }

    /// The bundle. Its `encoders` lack the text encoders if the recogniser was created with
    /// [`Recognizer::live`].
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Recognises one clip without a deadline.
    ///
    /// If an encoder fails, its modality is reported as absent with [`Absence::ModelFault`].
    pub fn recognize(&mut self, clip: &Clip) -> Recognition {
        self.recognize_within(clip, i64::MAX)
    }

    /// As [`Recognizer::recognize`], for a clip whose deadline is `left_nanos` nanoseconds from
    /// now. The deadline limits the wait for the text's embedding only.
    pub fn recognize_within(&mut self, clip: &Clip, left_nanos: i64) -> Recognition {
        self.recognize_all(&[clip], &[left_nanos]).swap_remove(0)
    }

    /// As [`Recognizer::recognize_within`], for several clips in as few graph runs as possible.
    /// Clip `i` has `left_nanos[i]` until its deadline; the results are in the order of `clips`.
    ///
    /// # Panics
    /// `clips` and `left_nanos` differ in length.
    pub fn recognize_all(&mut self, clips: &[&Clip], left_nanos: &[i64]) -> Vec<Recognition> {
        assert_eq!(clips.len(), left_nanos.len(), "one deadline per clip");
        let now = monotonic_nanos();
        let deadline = |clip: usize| now.saturating_add(left_nanos[clip]);
        let mut absences: Vec<_> = clips.iter().map(|clip| clip_absence(clip)).collect();
        // The text thread works while faces and voices are encoded.
        let mut requested = self.request_first_text(clips, &deadline);
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
                    let outcome = self.encode_text(index, clip).map(TextOutcome::Ready);
                    record_text(outcome, i, embedded, &mut absences[i]);
                }
                continue;
            }
            for (clip, error) in self.embed(index, clips, embedded) {
                record_fault(&error, absences[clip].get_mut(modality));
            }
        }
        for (i, clip) in clips.iter().enumerate() {
            let texts = requested[i].take();
            let texts = texts.unwrap_or_else(|| self.request_text(clip, deadline(i)));
            for (name, status) in texts {
                let outcome = self.await_text(status, clip, deadline(i));
                if let Some(place) = place(&self.bundle.manifest, &name) {
                    record_text(outcome, i, &mut embedded[place], &mut absences[i]);
                }
            }
        }
        let used: Vec<Presence> = (0..clips.len()).map(|i| self.used(&embedded, i)).collect();
        for (absence, used) in absences.iter_mut().zip(&used) {
            complete_absence(absence, used);
        }
        let outputs = head::outputs_of(&mut self.bundle, embedded, &used);
        let rows = outputs.iter().zip(used).zip(absences);
        rows.map(|((outputs, used), absence)| {
            head::recognition(&self.bundle.manifest, outputs, used, absence)
        })
        .collect()
    }

    /// The modalities for which the clip with this index has an embedding. `embedded` is in the
    /// order of `manifest.encoders`.
    fn used(&self, embedded: &[Embedded], clip: usize) -> Presence {
        let mut used = Presence::default();
        for (entry, embedded) in self.bundle.manifest.encoders.iter().zip(embedded) {
            *used.get_mut(entry.modality) |= embedded.is_present[clip];
        }
        used
    }

    /// Embeds the clips with the face or voice encoder `index`. Returns (index of the clip, error)
    /// for each failure.
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

/// The embedding of a clip by a face or voice encoder. The clip must have the encoder's modality.
/// `cache` holds face embeddings of this encoder and one session.
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

/// The index in `manifest.encoders` of the encoder called `name`.
fn place(manifest: &Manifest, name: &str) -> Option<usize> {
    manifest.encoders.iter().position(|e| e.name == name)
}

/// Why each modality is missing from the clip; `None` for a modality with evidence.
fn clip_absence(clip: &Clip) -> PerModality<Option<Absence>> {
    PerModality {
        face: clip.face_absence,
        voice: clip.voice.as_ref().err().copied(),
        text: clip.text.as_ref().err().copied(),
    }
}

/// Marks a modality as absent because its encoder failed.
fn record_fault(error: &EncodeError, absence: &mut Option<Absence>) {
    tracing::debug!(%error, "an encoder returned no embedding");
    *absence = Some(Absence::ModelFault);
}

/// Stores the embedding of the clip with the index `clip`, or the reason for its absence.
fn record_text(
    outcome: Result<TextOutcome, EncodeError>,
    clip: usize,
    embedded: &mut Embedded,
    absence: &mut PerModality<Option<Absence>>,
) {
    match outcome {
        Ok(TextOutcome::Ready(Some(embedding))) => embedded.set(clip, &embedding),
        Ok(TextOutcome::Ready(None)) => absence.text = Some(Absence::NoTranscript),
        Ok(TextOutcome::Late) => absence.text = Some(Absence::Late),
        Err(error) => record_fault(&error, &mut absence.text),
    }
}

/// Sets the reason of every used modality to `None`, and gives each unused modality without a
/// reason [`Absence::NoEncoder`].
fn complete_absence(absence: &mut PerModality<Option<Absence>>, used: &Presence) {
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
