//! Recognition with a bundle for text only, generated here: a tiny sentence encoder, a tiny
//! tokenizer, and a head of one matrix.

use std::fs;
use std::path::Path;

use super::super::*;
use crate::clip::{ClipText, SubjectId};
use crate::encode::{Graph, Provider, Runtime};
use crate::manifest::{
    EncoderEntry, EncoderKind, HeadEntry, SCHEMA, Task, TextPreprocessing, WindowRule, hex_sha256,
};
use crate::model::golden::{GoldenCase, Goldens};
use crate::model::{BundleError, seal};
use crate::onnx::bert::tests::tiny_bert;
use crate::onnx::{Attribute, Axis, GraphBuilder};
use crate::preprocess::{Tokenizer, tiny_tokenizer};
use crate::time::{MediaTime, Span};

/// ONNX file of a head whose three logits are elements of the embedding times 4, or zeros without
/// text.
fn head() -> Vec<u8> {
    let mut graph = GraphBuilder::new("head");
    graph.input("sentence", &[Axis::Named("batch"), Axis::Fixed(8)]);
    graph.input("presence", &[Axis::Named("batch"), Axis::Fixed(1)]);
    let matrix: Vec<f32> = (0..24)
        .map(|i| if i / 3 == i % 3 { 4.0 } else { 0.0 })
        .collect();
    let matrix = graph.constant("matrix", &[8, 3], &matrix);
    graph.node("MatMul", &["sentence", &matrix], "product", &[]);
    graph.node("Mul", &["product", "presence"], "logits", &[]);
    graph.output("logits", &[Axis::Named("batch"), Axis::Fixed(3)]);
    graph.into_bytes("test")
}

/// Manifest of the bundle for these files.
fn manifest(encoder: &[u8], head: &[u8], tokenizer: &[u8]) -> Manifest {
    let entry = EncoderEntry {
        name: "sentence".into(),
        modality: Modality::Text,
        kind: EncoderKind::Utterance,
        file: "sentence.onnx".into(),
        sha256: hex_sha256(encoder),
        int8: None,
        input: vec![0],
        dim: 8,
        classes: Vec::new(),
        rate_hz: None,
        normalise: None,
        frozen: true,
        source: "made in a test".into(),
        licence: "none".into(),
    };
    let mut manifest = Manifest {
        schema: SCHEMA,
        name: "words".into(),
        task: Task::Single,
        labels: ["good", "bad", "neither"].map(String::from).into(),
        fingerprint: String::new(),
        window: WindowRule {
            length_ms: 2000,
            hop_ms: 200,
            half_life_ms: None,
        },
        face: None,
        audio: None,
        text: Some(TextPreprocessing {
            tokenizer: "tokenizer.json".into(),
            sha256: hex_sha256(tokenizer),
            max_tokens: 16,
        }),
        encoders: vec![entry],
        head: HeadEntry {
            file: "head.onnx".into(),
            sha256: hex_sha256(head),
            inputs: vec!["sentence".into()],
            ..HeadEntry::default()
        },
        further: Vec::new(),
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}

/// Writes the bundle with one golden case, the text "good day" with the outputs of `encoder`.
fn write_bundle(directory: &Path, runtime: &Runtime, encoder: &[u8]) {
    let (head, tokenizer) = (head(), tiny_tokenizer());
    let manifest = manifest(encoder, &head, &tokenizer);
    let open =
        |name: &str, bytes: &[u8]| Graph::open(runtime, name, bytes, Provider::Cpu, 1).unwrap();
    let mut bundle = Bundle {
        encoders: vec![Encoder {
            entry: manifest.encoders[0].clone(),
            graph: open("sentence", encoder),
        }],
        tokenizer: Some(Tokenizer::from_bytes(&tokenizer, 16).unwrap()),
        head: open("head", &head),
        further: Vec::new(),
        manifest: manifest.clone(),
    };
    let embeddings = embed(&mut bundle, &[], None, Some("good day")).unwrap();
    let logits = head_logits(&mut bundle, &embeddings).unwrap();
    let case = GoldenCase {
        seed: 1,
        face_frames: 0,
        voice_samples: 0,
        text: Some("good day".into()),
        embeddings,
        int8: BTreeMap::new(),
        logits,
        also: BTreeMap::new(),
    };
    write_goldens(directory, case);
    fs::write(
        directory.join("manifest.toml"),
        toml::to_string(&manifest).unwrap(),
    )
    .unwrap();
    fs::write(directory.join("sentence.onnx"), encoder).unwrap();
    fs::write(directory.join("head.onnx"), head).unwrap();
    fs::write(directory.join("tokenizer.json"), tokenizer).unwrap();
    seal(directory).unwrap();
}

fn write_goldens(directory: &Path, case: GoldenCase) {
    fs::write(
        directory.join("golden.json"),
        serde_json::to_vec(&Goldens { cases: vec![case] }).unwrap(),
    )
    .unwrap();
}

/// A clip without face and voice, with a text or the reason of its absence.
fn clip(text: Result<&str, Absence>) -> Clip {
    let at = MediaTime::from_millis(2000);
    Clip {
        subject: SubjectId::Voice,
        span: Span::new(MediaTime::from_millis(0), at),
        faces: Vec::new(),
        faces_missing: 0,
        face_absence: Some(Absence::NoFace),
        voice: Err(Absence::NoSpeech),
        text: text.map(|text| ClipText {
            text: text.into(),
            newest: at,
        }),
        skew_nanos: None,
        aligned_at: at,
    }
}

#[test]
fn text_is_used_as_evidence_and_a_text_without_words_abstains() {
    let (runtime, folder) = (Runtime::load().unwrap(), tempfile::tempdir().unwrap());
    write_bundle(folder.path(), &runtime, &tiny_bert());
    let mut recognizer =
        Recognizer::new(Bundle::open(&runtime, folder.path(), Provider::Cpu, 1).unwrap());
    let good = recognizer.recognize(&clip(Ok("Good day!")));
    assert!(
        good.used.text && !good.used.face && !good.used.voice && !good.abstain,
        "{good:?}"
    );
    assert_eq!(
        (good.absence.text, good.absence.face),
        (None, Some(Absence::NoFace))
    );
    let bad = recognizer.recognize(&clip(Ok("what a bad bad day")));
    assert!(
        good.scores
            .iter()
            .zip(&bad.scores)
            .any(|(a, b)| (a - b).abs() > 0.005),
        "{good:?} {bad:?}"
    );
    assert_eq!(
        recognizer.recognize(&clip(Ok("good day!"))),
        good,
        "the tokenizer lowers capitals"
    );
    for nothing in [
        Ok(""),
        Ok(" \t\n"),
        Ok("\u{200b}"),
        Err(Absence::NoTranscript),
    ] {
        let answer = recognizer.recognize(&clip(nothing));
        assert!(
            answer.abstain && answer.used.is_none(),
            "{nothing:?}: {answer:?}"
        );
        assert_eq!(
            answer.absence.text,
            Some(Absence::NoTranscript),
            "{nothing:?}"
        );
    }
    // Each text was encoded once: a text that is still in the window at the next hop is cached.
    assert_eq!(recognizer.utterances.len(), 6);
}

#[test]
fn the_self_test_replays_the_golden_text() {
    let (runtime, folder) = (Runtime::load().unwrap(), tempfile::tempdir().unwrap());
    write_bundle(folder.path(), &runtime, &tiny_bert());
    let mut goldens: Goldens =
        serde_json::from_slice(&fs::read(folder.path().join("golden.json")).unwrap()).unwrap();
    let mut case = goldens.cases.remove(0);
    case.text = Some("bad day".into());
    write_goldens(folder.path(), case);
    seal(folder.path()).unwrap();
    let refusal = Bundle::open(&runtime, folder.path(), Provider::Cpu, 1).unwrap_err();
    assert!(
        matches!(&refusal, BundleError::SelfTest { what, .. } if what.contains("sentence")),
        "{refusal}"
    );
}

#[test]
fn a_changed_tokenizer_and_a_graph_with_one_input_are_refused() {
    let (runtime, folder) = (Runtime::load().unwrap(), tempfile::tempdir().unwrap());
    write_bundle(folder.path(), &runtime, &tiny_bert());
    let path = folder.path().join("tokenizer.json");
    let changed = String::from_utf8(fs::read(&path).unwrap())
        .unwrap()
        .replace("good", "goof");
    fs::write(&path, changed).unwrap();
    seal(folder.path()).unwrap();
    let refusal = Bundle::open(&runtime, folder.path(), Provider::Cpu, 1).unwrap_err();
    assert!(
        matches!(&refusal, BundleError::WrongHash { file, .. } if file == "tokenizer.json"),
        "{refusal}"
    );

    // A text encoder has two inputs; this graph has one.
    let mut one = GraphBuilder::new("one");
    one.input_i64("input_ids", &[Axis::Named("batch"), Axis::Named("tokens")]);
    one.node(
        "Cast",
        &["input_ids"],
        "embedding",
        &[("to", Attribute::Int(1))],
    );
    one.output("embedding", &[Axis::Named("batch"), Axis::Named("tokens")]);
    let one = one.into_bytes("test");
    let (head, tokenizer) = (head(), tiny_tokenizer());
    fs::write(
        folder.path().join("manifest.toml"),
        toml::to_string(&manifest(&one, &head, &tokenizer)).unwrap(),
    )
    .unwrap();
    fs::write(folder.path().join("sentence.onnx"), &one).unwrap();
    fs::write(&path, tokenizer).unwrap();
    seal(folder.path()).unwrap();
    let refusal = Bundle::open(&runtime, folder.path(), Provider::Cpu, 1).unwrap_err();
    assert!(
        matches!(
            &refusal,
            BundleError::Unsupported { what, .. } if what.contains("takes 1 inputs")
        ),
        "{refusal}"
    );
}
