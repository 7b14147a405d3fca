//! The text modality: each text is encoded once, live on the [text thread](super::text_thread).

use super::Recognizer;
use super::text_embedding::{text_embedding, tokens_of};
use super::text_thread::TextStatus;
use crate::clip::Clip;
use crate::encode::EncodeError;

/// Number of texts whose embeddings are kept: a text stays in the window for several hops.
const KEPT_UTTERANCES: usize = 16;

/// Outcome of encoding an utterance.
pub(super) enum TextOutcome {
    /// The embedding; `None` if the text has no token.
    Ready(Option<Vec<f32>>),
    /// The embedding is not ready by the clip's deadline.
    Late,
}

/// Per text encoder: its name, and its index with the state of the embedding.
pub(super) type RequestedTexts = Vec<(String, (usize, TextStatus))>;

impl Recognizer {
    /// The embedding of the clip's text by encoder `index`; `None` if the text has no token.
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

    fn cached_text(&self, index: usize, text: &str) -> Option<Option<Vec<f32>>> {
        self.utterances
            .iter()
            .find(|(encoder, cached, _)| *encoder == index && cached == text)
            .map(|(.., embedding)| embedding.clone())
    }

    fn cache_text(&mut self, index: usize, text: String, embedding: Option<Vec<f32>>) {
        if self.utterances.len() == KEPT_UTTERANCES {
            self.utterances.pop_front();
        }
        self.utterances.push_back((index, text, embedding));
    }

    /// Requests the text of the first clip that is not cached; the thread encodes one text at a
    /// time. `None` for the clips after it: not requested yet.
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

    /// Requests the embeddings of the clip's text from the text thread, one per encoder.
    pub(super) fn request_text(&mut self, clip: &Clip, deadline: i64) -> RequestedTexts {
        let Ok(text) = &clip.text else {
            return Vec::new();
        };
        let Some(mut thread) = self.text_thread.take() else {
            return Vec::new();
        };
        for answer in thread.answers() {
            // A failed request is repeated, so errors are not cached.
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

    /// The embedding of a requested text. Waits for the text thread, at most until `deadline`;
    /// [`TextOutcome::Late`] if it is not ready. Fails if the text has no tokens or the encoder
    /// fails.
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
