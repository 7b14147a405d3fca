//! The text modality: caches the embeddings of texts, and requests new ones from the [text
//! thread](super::text_thread) when live.

use super::Recognizer;
use super::text_embedding::{text_embedding, tokens_of};
use super::text_thread::TextStatus;
use crate::clip::Clip;
use crate::encode::EncodeError;

/// Largest number of texts whose embeddings are cached. A text stays in the window for several
/// hops.
const KEPT_UTTERANCES: usize = 16;

/// Outcome of encoding a clip's text.
pub(super) enum TextOutcome {
    /// The embedding; `None` if the text has no token.
    Ready(Option<Vec<f32>>),
    /// The embedding is not ready by the clip's deadline.
    Late,
}

/// For each text encoder: (name, (index of the encoder in the text thread, state of the
/// embedding)).
pub(super) type RequestedTexts = Vec<(String, (usize, TextStatus))>;

impl Recognizer {
    /// The embedding of the clip's text by the encoder `bundle.encoders[index]`, from the cache or
    /// encoded on the calling thread. `None` if the text has no token.
    pub(super) fn encode_text(
        &mut self,
        index: usize,
        clip: &Clip,
    ) -> Result<Option<Vec<f32>>, EncodeError> {
        let text = clip.text.as_ref().map_or("", |t| &t.text);
        if let Some(embedding) = self.cached_text(index, text) {
            return Ok(embedding);
        }
        let embedding = text_embedding(
            &mut self.bundle.encoders[index],
            self.bundle.tokenizer.as_ref(),
            text,
        )?;
        self.cache_text(index, text.to_owned(), embedding.clone());
        Ok(embedding)
    }

    /// The cached embedding of a text by the encoder `index`. The outer `None` means that it is not
    /// cached, the inner `None` that the text has no token.
    fn cached_text(&self, index: usize, text: &str) -> Option<Option<Vec<f32>>> {
        self.utterances
            .iter()
            .find(|(encoder, cached, _)| *encoder == index && cached == text)
            .map(|(.., embedding)| embedding.clone())
    }

    /// Caches an embedding (`None`: the text has no token), and evicts the oldest if the cache is
    /// full.
    fn cache_text(&mut self, index: usize, text: String, embedding: Option<Vec<f32>>) {
        if self.utterances.len() == KEPT_UTTERANCES {
            self.utterances.pop_front();
        }
        self.utterances.push_back((index, text, embedding));
    }

    /// Requests the texts of `clips` in order, until a request keeps the text thread busy: it
    /// encodes one text at a time. The result has an entry for each clip, `None` for the clips that
    /// follow and are not requested yet. `deadline` returns the deadline of the clip with an index,
    /// on the monotonic clock in nanoseconds.
    pub(super) fn request_first_text(
        &mut self,
        clips: &[&Clip],
        deadline: &dyn Fn(usize) -> i64,
    ) -> Vec<Option<RequestedTexts>> {
        let mut is_busy = false;
        let mut requested = Vec::with_capacity(clips.len());
        for (i, clip) in clips.iter().enumerate() {
            requested.push((!is_busy).then(|| self.request_text(clip, deadline(i))));
            let last = requested.last().and_then(Option::as_ref);
            is_busy |= last.is_some_and(|texts| {
                texts
                    .iter()
                    .any(|(_, (_, status))| matches!(status, TextStatus::Soon))
            });
        }
        requested
    }

    /// Requests the embedding of the clip's text from the text thread, for each text encoder.
    /// `deadline` is on the monotonic clock in nanoseconds. The result is empty without a text or a
    /// text thread.
    pub(super) fn request_text(&mut self, clip: &Clip, deadline: i64) -> RequestedTexts {
        let Ok(text) = &clip.text else {
            return Vec::new();
        };
        let Some(mut thread) = self.text_thread.take() else {
            return Vec::new();
        };
        for answer in thread.answers() {
            // An error is not cached, so that the request is repeated.
            if let Ok(embedding) = answer.embedding {
                self.cache_text(answer.encoder, answer.text, Some(embedding));
            }
        }
        let mut all = Vec::new();
        for (encoder, name) in thread.names().to_vec().into_iter().enumerate() {
            let status = match self.cached_text(encoder, &text.text) {
                Some(embedding) => TextStatus::Known(embedding),
                None => match tokens_of(self.bundle.tokenizer.as_ref(), &text.text) {
                    Ok(Some(tokens)) => thread.request(encoder, &text.text, tokens, deadline),
                    Ok(None) => TextStatus::Known(None),
                    Err(source) => TextStatus::Failed(source),
                },
            };
            all.push((name, (encoder, status)));
        }
        self.text_thread = Some(thread);
        all
    }

    /// Returns the embedding of a requested text. Waits for the text thread, at most until
    /// `deadline` (monotonic clock, nanoseconds); [`TextOutcome::Late`] if the embedding is not
    /// ready by then. Fails if the tokenizer or the encoder fails.
    pub(super) fn await_text(
        &mut self,
        (encoder, status): (usize, TextStatus),
        clip: &Clip,
        deadline: i64,
    ) -> Result<TextOutcome, EncodeError> {
        let text = clip.text.as_ref().map_or("", |t| &t.text);
        match (status, &mut self.text_thread) {
            (TextStatus::Known(embedding), _) => Ok(TextOutcome::Ready(embedding)),
            (TextStatus::Failed(source), thread) => Err(EncodeError::NoTokens {
                graph: thread
                    .as_ref()
                    .map_or("", |thread| &thread.names()[encoder])
                    .to_owned(),
                source: source.into(),
            }),
            (TextStatus::Soon, Some(thread)) => match thread.wait(encoder, text, deadline) {
                Some(answer) => {
                    let embedding = answer.embedding?;
                    self.cache_text(encoder, answer.text, Some(embedding.clone()));
                    Ok(TextOutcome::Ready(Some(embedding)))
                }
                None => Ok(TextOutcome::Late),
            },
            (TextStatus::Soon | TextStatus::Later, _) => Ok(TextOutcome::Late),
        }
    }
}
