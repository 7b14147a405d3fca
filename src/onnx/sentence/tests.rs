use super::*;
use crate::encode::{Graph, Input, Provider, Runtime};
use crate::model::Encoder;
use crate::preprocess::Tokenizer;
use crate::recognize::text_embedding;
use crate::testing::{did_not_run, project};

/// SHA-256 of the graph that is generated from the pinned weights; it must not depend on the
/// machine.
const GRAPH_SHA256: &str = "4ae42b5020d63d98fde8803ddd515b059e06bfc348f35e227320c09a3f4f1a50";

/// The downloaded weights and tokenizer; `None` if set-up has not fetched them.
fn source() -> Option<Source> {
    let dir = project(".deps/all_minilm_l6_v2");
    if !dir.exists() {
        did_not_run(".deps/all_minilm_l6_v2 is not there (make setup)");
        return None;
    }
    Some(Source::from_dir(&dir).unwrap())
}

/// `tests/golden/sentence.json`: texts and the token ids that sentence-transformers gives them.
#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<i64>,
}

/// The 50 golden texts, and their embeddings by sentence-transformers, one row of `DIM` floats a
/// text.
fn golden() -> (Vec<Case>, Vec<f32>) {
    let file = std::fs::read(project("tests/golden/sentence.json")).unwrap();
    let rows = std::fs::read(project("tests/golden/sentence.f32le")).unwrap();
    let golden: Golden = serde_json::from_slice(&file).unwrap();
    assert_eq!((golden.cases.len(), rows.len()), (50, 50 * DIM * 4));
    (
        golden.cases,
        rows.as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
    )
}

/// Largest absolute difference of two elements, and cosine similarity of the vectors.
fn compare(ours: &[f32], theirs: &[f32]) -> (f32, f64) {
    assert_eq!(ours.len(), theirs.len());
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    };
    let furthest = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    (
        furthest,
        dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt(),
    )
}

/// Compares tokens and embeddings with those of sentence-transformers, for each text alone and for
/// padded batches of ten.
#[test]
fn tokens_and_embeddings_equal_those_of_sentence_transformers() {
    let Some(source) = source() else { return };
    let made = source.convert().unwrap();
    assert_eq!(
        hex_sha256(&made[GRAPH]),
        GRAPH_SHA256,
        "the graph is not the same file as ever"
    );
    let set: toml::Table = std::str::from_utf8(&made[SET]).unwrap().parse().unwrap();
    let entry: EncoderEntry = set["encoder"][0].clone().try_into().unwrap();
    let text: TextPreprocessing = set["text"].clone().try_into().unwrap();
    let tokenizer = Tokenizer::from_bytes(&made[TOKENIZER.0], text.max_tokens).unwrap();
    let graph = Graph::open(
        &Runtime::load().unwrap(),
        "sentence",
        &made[GRAPH],
        Provider::Cpu,
        1,
    )
    .unwrap();
    let mut encoder = Encoder { entry, graph };

    let (cases, rows) = golden();
    let (mut furthest, mut lowest, mut silent) = (0.0f32, 1.0f64, 0);
    for (case, theirs) in cases.iter().zip(rows.chunks(DIM)) {
        let tokens = tokenizer.tokens(&case.text).unwrap();
        let ours = text_embedding(&mut encoder, Some(&tokenizer), &case.text).unwrap();
        // sentence-transformers also embeds a text without tokens; here it has no embedding.
        assert_eq!(
            (tokens.is_none(), ours.is_none()),
            (case.ids.len() == 2, case.ids.len() == 2),
            "{:?}",
            case.text
        );
        silent += usize::from(ours.is_none());
        if let Some(tokens) = tokens {
            assert_eq!(tokens.ids, case.ids, "{:?}", case.text);
        }
        let (shape, mask) = ([1, case.ids.len()], vec![1; case.ids.len()]);
        let ours = ours.unwrap_or_else(|| {
            encoder
                .graph
                .run(&[Input::I64(&shape, &case.ids), Input::I64(&shape, &mask)])
                .unwrap()
                .swap_remove(0)
                .values
        });
        let (difference, cosine) = compare(&ours, theirs);
        assert!(
            difference <= 1e-4 && cosine >= 0.9999,
            "{:?}: off by {difference:.1e}, cosine {cosine:.6}",
            case.text
        );
        (furthest, lowest) = (furthest.max(difference), lowest.min(cosine));
    }
    println!("50 utterances alone: off by {furthest:.1e} at most, cosine {lowest:.9} at least");
    assert_eq!(silent, 3);

    furthest = 0.0;
    for (cases, rows) in cases.chunks(10).zip(rows.chunks(10 * DIM)) {
        let tokens = cases.iter().map(|c| c.ids.len()).max().unwrap();
        let padded = |value: fn(i64) -> i64| -> Vec<i64> {
            cases
                .iter()
                .flat_map(|c| {
                    c.ids
                        .iter()
                        .map(move |id| value(*id))
                        .chain(std::iter::repeat_n(0, tokens - c.ids.len()))
                })
                .collect()
        };
        let (shape, ids, mask) = ([cases.len(), tokens], padded(|id| id), padded(|_| 1));
        let ours = encoder
            .graph
            .run(&[Input::I64(&shape, &ids), Input::I64(&shape, &mask)])
            .unwrap()
            .swap_remove(0);
        furthest = furthest.max(compare(&ours.values, rows).0);
    }
    println!("50 utterances in padded batches of ten: off by {furthest:.1e} at most");
    assert!(furthest <= 1e-4, "in padded batches: off by {furthest:.1e}");
}

#[test]
fn weights_with_another_hash_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(WEIGHTS.0), b"not the weights").unwrap();
    std::fs::write(folder.path().join(TOKENIZER.0), b"{}").unwrap();
    let refusal = Source::from_dir(folder.path()).err().unwrap().to_string();
    assert!(
        refusal.contains(WEIGHTS.0) && refusal.contains(WEIGHTS.1),
        "{refusal}"
    );
}
