//! The text front end: an utterance to tokens.

use std::path::{Path, PathBuf};

use tokenizers::TruncationParams;

use crate::manifest::hex_sha256;

/// Failure to open a tokenizer, or to tokenise a text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("tokenizer {} cannot be read; fetch or export it again", path.display())]
    Missing {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "tokenizer {} is not the one that was exported (sha256 {found}, expected {expected}); \
         fetch or export it again",
        path.display()
    )]
    WrongHash {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("this tokenizer.json cannot be used; export it again")]
    BadTokenizer {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the tokenizer failed")]
    Failed {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The tokens of one utterance as input of a sentence encoder: `ids` and `mask` of the same length,
/// with special tokens and without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<i64>,
    /// 1 for each token.
    pub mask: Vec<i64>,
}

/// A `tokenizer.json` of Hugging Face's tokenizers, with its own length limit and without padding.
#[derive(Clone, Debug)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Opens the file and checks its hash `sha256`. Of an utterance the first `max_tokens` tokens
    /// are kept, special tokens included.
    pub fn open(path: &Path, sha256: &str, max_tokens: usize) -> Result<Tokenizer, TextError> {
        let bytes = std::fs::read(path).map_err(|source| TextError::Missing {
            path: path.to_owned(),
            source,
        })?;
        let found = hex_sha256(&bytes);
        if found != sha256 {
            return Err(TextError::WrongHash {
                path: path.to_owned(),
                found,
                expected: sha256.to_owned(),
            });
        }
        Tokenizer::from_bytes(&bytes, max_tokens)
    }

    /// As [`Tokenizer::open`], from the bytes of a file that is already checked.
    pub fn from_bytes(bytes: &[u8], max_tokens: usize) -> Result<Tokenizer, TextError> {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|source| TextError::BadTokenizer { source })?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|source| TextError::BadTokenizer { source })?;
        Ok(Tokenizer(tokenizer))
    }

    /// The tokens of `text`; `None` if the tokenizer drops all of it, such as blanks and control
    /// characters.
    pub fn tokens(&self, text: &str) -> Result<Option<Tokens>, TextError> {
        let encoding = self
            .0
            .encode(text, true)
            .map_err(|source| TextError::Failed { source })?;
        if encoding
            .get_special_tokens_mask()
            .iter()
            .all(|special| *special == 1)
        {
            return Ok(None);
        }
        let widen = |values: &[u32]| values.iter().map(|v| i64::from(*v)).collect();
        Ok(Some(Tokens {
            ids: widen(encoding.get_ids()),
            mask: widen(encoding.get_attention_mask()),
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
