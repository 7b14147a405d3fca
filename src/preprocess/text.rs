//! The words front end: an utterance into tokens.

use std::path::{Path, PathBuf};

use tokenizers::TruncationParams;

use crate::model::manifest::hex_sha256;

/// Words cannot become tokens.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("tokenizer {} cannot be read; fetch or export it again", path.display())]
    Missing { path: PathBuf, source: std::io::Error },
    #[error("tokenizer {} is not the one that was exported (sha256 {found}, expected {expected}); fetch or export it again", path.display())]
    WrongHash { path: PathBuf, found: String, expected: String },
    #[error("this is no tokenizer.json that can be used; export it again")]
    BadTokenizer { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the tokenizer failed")]
    Failed { source: Box<dyn std::error::Error + Send + Sync> },
}

/// One utterance as a sentence encoder takes it: both of one length, special tokens and all, nothing padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<i64>,
    /// 1 where there is a token.
    pub mask: Vec<i64>,
}

/// A `tokenizer.json` of Hugging Face's tokenizers, with our own rule of length and without its padding.
#[derive(Clone, Debug)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Opens the file and refuses it unless its hash is `sha256`. At most `max_tokens` tokens are kept of an utterance, its beginning,
    /// the special tokens counted in.
    pub fn open(path: &Path, sha256: &str, max_tokens: usize) -> Result<Tokenizer, TextError> {
        let bytes = std::fs::read(path).map_err(|source| TextError::Missing { path: path.to_owned(), source })?;
        let found = hex_sha256(&bytes);
        if found != sha256 {
            return Err(TextError::WrongHash { path: path.to_owned(), found, expected: sha256.to_owned() });
        }
        Tokenizer::from_bytes(&bytes, max_tokens)
    }

    /// [`Tokenizer::open`] of a file that is read and checked already.
    pub fn from_bytes(bytes: &[u8], max_tokens: usize) -> Result<Tokenizer, TextError> {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(|source| TextError::BadTokenizer { source })?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|source| TextError::BadTokenizer { source })?;
        Ok(Tokenizer(tokenizer))
    }

    /// `None` where the text holds nothing but what the tokenizer drops: blanks, control characters.
    pub fn tokens(&self, text: &str) -> Result<Option<Tokens>, TextError> {
        let encoding = self.0.encode(text, true).map_err(|source| TextError::Failed { source })?;
        if encoding.get_special_tokens_mask().iter().all(|special| *special == 1) {
            return Ok(None);
        }
        let widen = |values: &[u32]| values.iter().map(|v| i64::from(*v)).collect();
        Ok(Some(Tokens { ids: widen(encoding.get_ids()), mask: widen(encoding.get_attention_mask()) }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A word-piece tokenizer of six words, with the padding and truncation that the real one's file has too.
    pub(crate) fn tiny_tokenizer() -> Vec<u8> {
        let vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "a", "day", "##s", "good", "bad"];
        let special = |id: usize| {
            let content = vocabulary[id];
            serde_json::json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
        };
        let ids: serde_json::Map<String, serde_json::Value> = vocabulary.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let part = |name: &str, id: usize| (name.to_owned(), serde_json::json!({"id": name, "ids": [id], "tokens": [name]}));
        let specials: serde_json::Map<String, serde_json::Value> = [part("[CLS]", 2), part("[SEP]", 3)].into_iter().collect();
        let template = |kind: &str, id: &str| serde_json::json!({kind: {"id": id, "type_id": 0}});
        let single = [template("SpecialToken", "[CLS]"), template("Sequence", "A"), template("SpecialToken", "[SEP]")];
        let json = serde_json::json!({
            "version": "1.0",
            "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": [special(0), special(1), special(2), special(3)],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": specials},
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": ids},
        });
        serde_json::to_vec(&json).unwrap()
    }

    #[test]
    fn words_become_tokens_without_padding() {
        let tokenizer = Tokenizer::from_bytes(&tiny_tokenizer(), 16).unwrap();
        let tokens = tokenizer.tokens("What a DAYS, eh").unwrap().unwrap();
        assert_eq!(tokens.ids, [2, 4, 5, 6, 7, 1, 1, 3]);
        assert_eq!(tokens.mask, [1; 8]);
    }

    #[test]
    fn what_says_nothing_has_no_tokens_and_what_is_long_is_cut() {
        let tokenizer = Tokenizer::from_bytes(&tiny_tokenizer(), 6).unwrap();
        for nothing in ["", "  \n\t", "\u{0}\u{1f}", "\u{200d}"] {
            assert_eq!(tokenizer.tokens(nothing).unwrap(), None, "{nothing:?}");
        }
        let long = "good bad ".repeat(500);
        assert_eq!(tokenizer.tokens(&long).unwrap().unwrap().ids, [2, 8, 9, 8, 9, 3]);
    }

    #[test]
    fn another_file_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let mut bytes = tiny_tokenizer();
        let sha256 = hex_sha256(&bytes);
        assert!(matches!(Tokenizer::open(&path, &sha256, 16), Err(TextError::Missing { .. })));
        std::fs::write(&path, &bytes).unwrap();
        Tokenizer::open(&path, &sha256, 16).unwrap();
        bytes.push(b'\n');
        std::fs::write(&path, &bytes).unwrap();
        let refusal = Tokenizer::open(&path, &sha256, 16).unwrap_err();
        assert!(matches!(&refusal, TextError::WrongHash { .. }) && refusal.to_string().contains("tokenizer.json"), "{refusal}");
        assert!(matches!(Tokenizer::from_bytes(b"{}", 16), Err(TextError::BadTokenizer { .. })));
    }
}
