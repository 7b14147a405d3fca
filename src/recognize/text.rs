//! The text modality: each text is encoded once. Live, a thread beside the inference thread encodes
//! it.

use super::Recognizer;
use super::batch::{rows_of, wrong_output};
use super::text_thread::Asked;
use crate::clip::Clip;
use crate::encode::{EncodeError, Input};
use crate::model::Encoder;
use crate::preprocess::{TextError, Tokenizer, Tokens};

/// What was said stays in the window for some hops: utterances of which embeddings are kept.
const KEPT_UTTERANCES: usize = 16;

/// The embedding of an utterance, `None` where it has no token; or that it does not come in time.
pub(super) enum Words {
    Ready(Option<Vec<f32>>),
    Late,
}

/// Per encoder of words: its name, and its number with what is known.
pub(super) type AskedWords = Vec<(String, (usize, Asked))>;

impl Recognizer {
    /// `None` where the text says nothing.
    pub(super) fn encode_words(
        &mut self,
        index: usize,
        clip: &Clip,
    ) -> Result<Option<Vec<f32>>, EncodeError> {
        let text = clip.text.as_ref().map_or("", |t| &t.text);
        if let Some(embedding) = self.known_words(index, text) {
            return Ok(embedding);
        }
        let embedding = text_embedding(
            &mut self.bundle.encoders[index],
            self.bundle.tokenizer.as_ref(),
            text,
        )?;
        self.keep_words(index, text.to_owned(), embedding.clone());
        Ok(embedding)
    }

    fn known_words(&self, index: usize, text: &str) -> Option<Option<Vec<f32>>> {
        self.utterances
            .iter()
            .find(|(encoder, words, _)| *encoder == index && words == text)
            .map(|(.., embedding)| embedding.clone())
    }

    fn keep_words(&mut self, index: usize, text: String, embedding: Option<Vec<f32>>) {
        if self.utterances.len() == KEPT_UTTERANCES {
            self.utterances.pop_front();
        }
        self.utterances.push_back((index, text, embedding));
    }

    /// Has the thread beside encode the words of the first clip that it does not know, and finds
    /// out about those before it; it encodes one text at a time. `None`: not asked yet.
    pub(super) fn ask_for_first_words(
        &mut self,
        clips: &[&Clip],
        deadline: &dyn Fn(usize) -> i64,
    ) -> Vec<Option<AskedWords>> {
        let mut is_busy = false;
        let mut asked = Vec::with_capacity(clips.len());
        for (i, clip) in clips.iter().enumerate() {
            asked.push((!is_busy).then(|| self.ask_for_words(clip, deadline(i))));
            let last = asked.last().and_then(Option::as_ref);
            is_busy |= last.is_some_and(|asked| {
                asked
                    .iter()
                    .any(|(_, (_, asked))| matches!(asked, Asked::Soon))
            });
        }
        asked
    }

    /// Has the thread beside encode the clip's words. Gives, for each of its encoders, the name,
    /// and the number with what is known.
    pub(super) fn ask_for_words(&mut self, clip: &Clip, deadline: i64) -> AskedWords {
        let Ok(text) = &clip.text else {
            return Vec::new();
        };
        let Some(mut beside) = self.beside.take() else {
            return Vec::new();
        };
        for answer in beside.answers() {
            // An encoder that failed is asked again.
            if let Ok(embedding) = answer.embedding {
                self.keep_words(answer.encoder, answer.text, Some(embedding));
            }
        }
        let mut all = Vec::new();
        for (encoder, name) in beside.names().to_vec().into_iter().enumerate() {
            let asked = match self.known_words(encoder, &text.text) {
                Some(embedding) => Asked::Known(embedding),
                None => match tokens_of(self.bundle.tokenizer.as_ref(), &text.text) {
                    Ok(Some(tokens)) => beside.ask(encoder, &text.text, tokens, deadline),
                    Ok(None) => Asked::Known(None),
                    Err(source) => Asked::Failed(source),
                },
            };
            all.push((name, (encoder, asked)));
        }
        self.beside = Some(beside);
        all
    }

    pub(super) fn await_words(
        &mut self,
        (encoder, asked): (usize, Asked),
        clip: &Clip,
        deadline: i64,
    ) -> Result<Words, EncodeError> {
        let text = clip.text.as_ref().map_or("", |t| &t.text);
        match (asked, &mut self.beside) {
            (Asked::Known(embedding), _) => Ok(Words::Ready(embedding)),
            (Asked::Failed(source), beside) => Err(EncodeError::NoTokens {
                graph: beside
                    .as_ref()
                    .map_or("", |beside| &beside.names()[encoder])
                    .to_owned(),
                source: source.into(),
            }),
            (Asked::Soon, Some(beside)) => match beside.wait(encoder, text, deadline) {
                Some(answer) => {
                    let embedding = answer.embedding?;
                    self.keep_words(encoder, answer.text, Some(embedding.clone()));
                    Ok(Words::Ready(Some(embedding)))
                }
                None => Ok(Words::Late),
            },
            (Asked::Soon | Asked::Later, _) => Ok(Words::Late),
        }
    }
}

/// The embedding of an utterance, unpadded. `None` where `text` has no token: blank, or nothing
/// that the tokenizer keeps.
pub fn text_embedding(
    encoder: &mut Encoder,
    tokenizer: Option<&Tokenizer>,
    text: &str,
) -> Result<Option<Vec<f32>>, EncodeError> {
    let tokens = tokens_of(tokenizer, text).map_err(|source| EncodeError::NoTokens {
        graph: encoder.graph.name().to_owned(),
        source: source.into(),
    })?;
    tokens
        .map(|tokens| token_embedding(encoder, &tokens))
        .transpose()
}

fn tokens_of(tokenizer: Option<&Tokenizer>, text: &str) -> Result<Option<Tokens>, TextError> {
    let tokenizer = tokenizer.expect("checked when the bundle was opened");
    tokenizer.tokens(text)
}

pub(super) fn token_embedding(
    encoder: &mut Encoder,
    tokens: &Tokens,
) -> Result<Vec<f32>, EncodeError> {
    let Tokens { ids, mask } = tokens;
    let shape = [1, ids.len()];
    let inputs = [Input::I64(&shape, ids), Input::I64(&shape, mask)];
    let Encoder { entry, graph } = encoder;
    let embedding = graph.run_with(&inputs, |outputs| {
        rows_of(outputs, 1, entry.dim).map(<[f32]>::to_vec)
    })?;
    embedding.map_err(|found| wrong_output(graph, found, 1, entry.dim))
}
