use super::*;

/// A word-piece tokenizer with six word pieces. Its file states padding and truncation, as
/// all-MiniLM-L6-v2's does.
pub(crate) fn tiny_tokenizer() -> Vec<u8> {
    let vocabulary = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "a", "day", "##s", "good", "bad",
    ];
    let special = |id: usize| {
        let content = vocabulary[id];
        serde_json::json!({
            "id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false
        })
    };
    let ids: serde_json::Map<String, serde_json::Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, word)| (word.to_string(), id.into()))
        .collect();
    let part = |name: &str, id: usize| {
        (
            name.to_owned(),
            serde_json::json!({"id": name, "ids": [id], "tokens": [name]}),
        )
    };
    let specials: serde_json::Map<String, serde_json::Value> =
        [part("[CLS]", 2), part("[SEP]", 3)].into_iter().collect();
    let template = |kind: &str, id: &str| serde_json::json!({kind: {"id": id, "type_id": 0}});
    let single = [
        template("SpecialToken", "[CLS]"),
        template("Sequence", "A"),
        template("SpecialToken", "[SEP]"),
    ];
    let json = serde_json::json!({
        "version": "1.0",
        "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        },
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": specials
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids
        },
    });
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn words_become_tokens_with_special_tokens_and_without_padding() {
    let tokenizer = Tokenizer::from_bytes(&tiny_tokenizer(), 16).unwrap();
    let tokens = tokenizer.tokens("What a DAYS, eh").unwrap().unwrap();
    assert_eq!(tokens.ids, [2, 4, 5, 6, 7, 1, 1, 3]);
    assert_eq!(tokens.mask, [1; 8]);
}

#[test]
fn a_blank_text_has_no_tokens_and_a_long_text_is_truncated() {
    let tokenizer = Tokenizer::from_bytes(&tiny_tokenizer(), 6).unwrap();
    for nothing in ["", "  \n\t", "\u{0}\u{1f}", "\u{200d}"] {
        assert_eq!(tokenizer.tokens(nothing).unwrap(), None, "{nothing:?}");
    }
    let long = "good bad ".repeat(500);
    assert_eq!(
        tokenizer.tokens(&long).unwrap().unwrap().ids,
        [2, 8, 9, 8, 9, 3]
    );
}

#[test]
fn a_tokenizer_with_another_hash_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut bytes = tiny_tokenizer();
    let sha256 = hex_sha256(&bytes);
    assert!(matches!(
        Tokenizer::open(&path, &sha256, 16),
        Err(TextError::Missing { .. })
    ));
    std::fs::write(&path, &bytes).unwrap();
    Tokenizer::open(&path, &sha256, 16).unwrap();
    bytes.push(b'\n');
    std::fs::write(&path, &bytes).unwrap();
    let refusal = Tokenizer::open(&path, &sha256, 16).unwrap_err();
    assert!(
        matches!(&refusal, TextError::WrongHash { .. })
            && refusal.to_string().contains("tokenizer.json"),
        "{refusal}"
    );
    assert!(matches!(
        Tokenizer::from_bytes(b"{}", 16),
        Err(TextError::BadTokenizer { .. })
    ));
}
