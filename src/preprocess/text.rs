//! Converts a text to tokens.

use std::path::{Path, PathBuf};

use tokenizers::TruncationParams;

use crate::manifest::hex_sha256;

/// Failure to open a tokenizer or to tokenise a text.
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

/// The tokens of one text as inputs of a sentence encoder. `ids` and `mask` have the same length,
/// include special tokens, and have no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Index of each token in the vocabulary.
    pub ids: Vec<i64>,
    /// The attention mask: 1 for each token.
    pub mask: Vec<i64>,
}

/// A tokenizer in the format `tokenizer.json` of Hugging Face's tokenizers. It limits the number of
/// tokens and does not pad.
#[derive(Clone, Debug)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Opens the file `path` and compares its hash with `sha256` (64 hexadecimal digits). Of each
    /// text the first `max_tokens` tokens are kept, special tokens included.
    ///
    /// # Errors
    /// The file cannot be read, has another hash, or is not a tokenizer.
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

    /// As [`Tokenizer::open`], from the bytes of a file whose hash is already checked.
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

    /// Tokenises `text`. `None` if no token remains, because the tokenizer drops blanks and control
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
