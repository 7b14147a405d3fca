//! Computes the embedding of one text: tokens, then one run of the graph.

use super::batch::{rows_of, wrong_output};
use crate::encode::{EncodeError, Input};
use crate::model::Encoder;
use crate::preprocess::{TextError, Tokenizer, Tokens};

/// Computes the embedding of `text` by a text encoder: `dim` numbers.
///
/// Returns `None` if `text` has no token: it is blank, or the tokenizer drops all of it.
///
/// # Errors
/// The tokenizer or the graph fails.
///
/// # Panics
/// `tokenizer` is `None`.
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

/// The tokens of a text; `None` if it has none. Panics if `tokenizer` is `None`.
pub(super) fn tokens_of(
    tokenizer: Option<&Tokenizer>,
    text: &str,
) -> Result<Option<Tokens>, TextError> {
    let tokenizer = tokenizer.expect("checked when the bundle was opened");
    tokenizer.tokens(text)
}

/// Runs a text encoder on the tokens of one text; returns the embedding, `dim` numbers.
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
