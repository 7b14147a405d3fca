//! Recognition with several heads: the default bundle with two further heads, whose graphs are made
//! here.

use std::fs;
use std::path::Path;

use super::super::*;
use super::batch::{eight_clips, recognize_together};
use super::clip;
use crate::encode::{Provider, Runtime};
use crate::event::{Event, Form, HeadAnswer};
use crate::manifest::{FurtherHead, HeadKind, SCHEMA_OF_HEADS, hex_sha256};
use crate::model::golden::{Goldens, golden_samples};
use crate::model::tests::copy_default_bundle;
use crate::model::{BundleError, seal};
use crate::onnx::{Axis, GraphBuilder};
use crate::session::{ClipTimestamps, EventBuilder};

/// ONNX file of a head over face and voice. Its outputs are two logits, a linear function of the
/// face's embedding, and two numbers, one of the voice's. If `breaks`, the numbers are roots; if
/// there is a voice, one of them is NaN.
fn affect_graph(breaks: bool) -> Vec<u8> {
    let mut graph = GraphBuilder::new("affect");
    for name in ["face", "voice"] {
        graph.input(name, &[Axis::Named("batch"), Axis::Fixed(128)]);
    }
    graph.input("presence", &[Axis::Named("batch"), Axis::Fixed(2)]);
    for (name, input, scale) in [("logits", "face", 3.0), ("numbers", "voice", 2.0)] {
        let weight = |i: usize| scale * ((i % 7) as f32 - 3.0);
        // The second number is the negative of the first, so that one of the two has no root.
        let weight = |i: usize| match i % 2 {
            1 if breaks => -weight(i - 1),
            _ => weight(i),
        };
        let matrix: Vec<f32> = (0..256).map(weight).collect();
        let matrix = graph.constant(&format!("{name}_matrix"), &[128, 2], &matrix);
        let product = format!("{name}_product");
        graph.node("MatMul", &[input, &matrix], &product, &[]);
        let inner = if breaks && name == "numbers" {
            graph.node("Sqrt", &[&product], "root", &[]);
            "root"
        } else {
            &product
        };
        graph.node("Add", &[inner, "presence"], name, &[]);
        graph.output(name, &[Axis::Named("batch"), Axis::Fixed(2)]);
    }
    graph.into_bytes("test")
}

/// The further heads `stress` (labels) and `affect` (numbers) of the graph with this hash.
fn further(sha256: &str) -> [FurtherHead; 2] {
    let stress = FurtherHead {
        name: "stress".into(),
        kind: HeadKind::Multi,
        labels: vec!["tense".into(), "tired".into()],
        range: Vec::new(),
        derived: false,
        file: "affect.onnx".into(),
        sha256: sha256.into(),
        output: 0,
        inputs: vec!["face".into(), "voice".into()],
        abstain_threshold: None,
        temperature: BTreeMap::from([("face".into(), 2.0)]),
        scale: BTreeMap::new(),
    };
    let affect = FurtherHead {
        name: "affect".into(),
        kind: HeadKind::Regression,
        labels: vec!["valence".into(), "arousal".into()],
        range: vec![[-1.0, 1.0], [-0.25, 0.5]],
        derived: true,
        output: 1,
        temperature: BTreeMap::new(),
        scale: BTreeMap::from([("voice".into(), vec![[0.5, 0.1], [100.0, 0.0]])]),
        ..stress.clone()
    };
    [stress, affect]
}

fn write_manifest(folder: &Path, manifest: &Manifest) {
    let text = toml::to_string(manifest).unwrap();
    fs::write(folder.join("manifest.toml"), text).unwrap();
    seal(folder).unwrap();
}

fn read_goldens(folder: &Path) -> Goldens {
    serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

fn write_goldens(folder: &Path, goldens: &Goldens) {
    let text = serde_json::to_vec(goldens).unwrap();
    fs::write(folder.join("golden.json"), text).unwrap();
    seal(folder).unwrap();
}

/// Writes the default bundle with two further heads into `folder`; returns its manifest.
fn write_bundle(folder: &Path, graph: &[u8]) -> Manifest {
    copy_default_bundle(folder);
    fs::write(folder.join("affect.onnx"), graph).unwrap();
    let text = fs::read_to_string(folder.join("manifest.toml")).unwrap();
    let mut manifest: Manifest = toml::from_str(&text).unwrap();
    manifest.schema = SCHEMA_OF_HEADS;
    manifest.head.name = "expression".into();
    manifest.further = further(&hex_sha256(graph)).to_vec();
    write_manifest(folder, &manifest);
    let (mut bundle, mut goldens) =
        Bundle::open_unverified(&Runtime::load().unwrap(), folder, Provider::Cpu, 1).unwrap();
    for case in &mut goldens.cases {
        case.also = head::further_outputs(&mut bundle, &case.embeddings).unwrap_or_default();
    }
    write_goldens(folder, &goldens);
    manifest
}

fn open(folder: &Path) -> Result<Bundle, BundleError> {
    Bundle::open(&Runtime::load().unwrap(), folder, Provider::Cpu, 1)
}

fn presence(face: bool, voice: bool, text: bool) -> Presence {
    Presence { face, voice, text }
}

#[test]
fn further_heads_answer_alone_and_in_batches_and_leave_the_primary_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), &affect_graph(false));
    let [mut one, mut many] = [0; 2].map(|_| Recognizer::new(open(folder.path()).unwrap()));
    let mut plain = {
        let folder = tempfile::tempdir().unwrap();
        copy_default_bundle(folder.path());
        Recognizer::new(open(folder.path()).unwrap())
    };
    assert_eq!(one.bundle.further.len(), 1, "both heads share a graph");
    for hop in 0..2 {
        let clips = eight_clips(&one, hop);
        let expected: Vec<_> = clips.iter().map(|clip| one.recognize(clip)).collect();
        assert_eq!(recognize_together(&mut many, &clips), expected, "hop {hop}");
        for (clip, answer) in clips.iter().zip(&expected) {
            let alone = plain.recognize(clip);
            assert_eq!(
                (alone.scores, alone.top, alone.abstain, alone.used),
                (
                    answer.scores.clone(),
                    answer.top,
                    answer.abstain,
                    answer.used
                )
            );
            let has_evidence = answer.used.face || answer.used.voice;
            let [stress, affect] = &answer.further[..] else {
                panic!("{answer:?}")
            };
            assert_eq!([stress.is_some(), affect.is_some()], [has_evidence; 2]);
            for (value, [low, high]) in affect.iter().flatten().zip([[-1.0, 1.0], [-0.25, 0.5]]) {
                assert!((low..=high).contains(value), "{value}");
            }
        }
    }
    // Without a face the logits are the presence (0, 1), without a scale for the subset.
    let voice = clip(&one, presence(false, true, false), 0);
    let answer = one.recognize(&voice);
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    assert_eq!(answer.further[0], Some(vec![0.5, sigmoid(1.0)]));
    // The words alone are no evidence of these heads.
    let words = clip(&one, presence(false, false, true), 0);
    let answer = one.recognize(&words);
    assert_eq!(answer.further, [None, None]);
    assert!(answer.used.text);
    // Under its threshold a head gives no answer.
    one.bundle.manifest.further[0].abstain_threshold = Some(0.8);
    let answer = one.recognize(&voice);
    assert!(answer.further[0].is_none() && answer.further[1].is_some());
}

#[test]
fn outputs_are_scaled_for_the_subset_of_modalities_and_clamped() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), &affect_graph(false));
    let mut recognizer = Recognizer::new(open(folder.path()).unwrap());
    let samples = golden_samples(7, 32_000);
    let embeddings = embed(&mut recognizer.bundle, &[], Some(&samples), None).unwrap();
    let raw = head::further_outputs(&mut recognizer.bundle, &embeddings).unwrap();
    let [valence, arousal] = raw["affect"][..] else {
        panic!("{raw:?}")
    };
    let voice = clip(&recognizer, presence(false, true, false), 0);
    let wide = [-1e6, 1e6];
    recognizer.bundle.manifest.further[1].range = vec![wide, wide];
    let scaled = recognizer.recognize(&voice).further.remove(1).unwrap();
    assert_eq!(scaled, [0.5 * valence + 0.1, 100.0 * arousal]);
    recognizer.bundle.manifest.further[1].range = vec![[1e5, 1e6], [-1e6, -1e5]];
    let clamped = recognizer.recognize(&voice).further.remove(1).unwrap();
    assert_eq!(clamped, [1e5, -1e5]);
}

#[test]
fn a_head_whose_output_is_not_finite_is_left_out_and_the_others_answer() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), &affect_graph(true));
    // The self-test refuses this graph, so that only the recogniser is tested.
    let runtime = Runtime::load().unwrap();
    let bundle = || {
        let opened = Bundle::open_unverified(&runtime, folder.path(), Provider::Cpu, 1);
        Recognizer::new(opened.unwrap().0)
    };
    let (mut one, mut many) = (bundle(), bundle());
    // The root of the numbers of a negative sum is NaN.
    let clips = eight_clips(&one, 0);
    let answers: Vec<_> = clips.iter().map(|clip| one.recognize(clip)).collect();
    let with_voice = |answer: &&Recognition| answer.used.voice;
    assert!(
        answers
            .iter()
            .filter(with_voice)
            .any(|a| a.further[0].is_some() && a.further[1].is_none()),
        "{answers:?}"
    );
    assert!(answers.iter().any(|a| a.further[1].is_some()));
    assert!(
        answers
            .iter()
            .flat_map(|a| &a.scores)
            .all(|s| s.is_finite())
    );
    assert_eq!(recognize_together(&mut many, &clips), answers);
}

/// A change of the expected outputs of the further heads, by the head's name.
type Change = fn(&mut BTreeMap<String, Vec<f32>>);

#[test]
fn the_self_test_checks_every_further_head() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), &affect_graph(false));
    let goldens = read_goldens(folder.path());
    let changes: [Change; 2] = [
        |also| _ = also.remove("affect"),
        |also| also.get_mut("affect").unwrap()[1] += 0.1,
    ];
    for change in changes {
        let mut changed = goldens.clone();
        change(&mut changed.cases[0].also);
        write_goldens(folder.path(), &changed);
        let error = open(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("the answer of head affect"),
            "{error}"
        );
    }
    fs::write(folder.path().join("affect.onnx"), b"another").unwrap();
    seal(folder.path()).unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(BundleError::WrongHash { file, .. }) if file == "affect.onnx"
    ));
}

/// The sentence for each fault of a list of heads, after `change`.
type Fault = (fn(&mut Manifest), &'static str);

#[test]
fn each_fault_of_the_heads_is_refused_with_its_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write_bundle(folder.path(), &affect_graph(false));
    let text = toml::to_string(&manifest).unwrap();
    assert!(
        text.contains("[[head]]") && !text.contains("\ntask"),
        "{text}"
    );
    assert_eq!(toml::from_str::<Manifest>(&text).unwrap(), manifest);
    assert_eq!(manifest.faults(), [""; 0]);
    let faults: [Fault; 17] = [
        (|m| m.schema = 1, "a list [[head]] needs schema 2"),
        (|m| m.schema = 3, "schema is 3, this daemon reads 1 and 2"),
        (
            |m| m.further[1].name = "stress".into(),
            "two heads are called stress",
        ),
        (
            |m| m.further[1].name = "expression".into(),
            "two heads are called expression",
        ),
        (
            |m| m.further[0].name = "scores".into(),
            "these names are reserved",
        ),
        (|m| m.head.name = "also".into(), "these names are reserved"),
        (|m| m.further[0].name = " ".into(), "an empty name"),
        (
            |m| m.further[1].range[0] = [1.0, -1.0],
            "range of valence is 1 to -1",
        ),
        (|m| _ = m.further[1].range.pop(), "range has 1 entries"),
        (
            |m| m.further[0].derived = true,
            "are for kind \"regression\"",
        ),
        (
            |m| m.further[1].abstain_threshold = Some(0.5),
            "are for labels",
        ),
        (
            |m| m.further[0].abstain_threshold = Some(1.5),
            "permitted are 0 to 1",
        ),
        (
            |m| _ = m.further[0].labels.pop(),
            "labels needs at least two",
        ),
        (
            |m| m.further[0].inputs[0] = "smell".into(),
            "smell, which is not an encoder",
        ),
        (
            |m| _ = m.head.inputs.remove(1),
            "voice, which is not an input of the primary head",
        ),
        (
            |m| m.further[1].sha256 = "0".repeat(64),
            "share affect.onnx, but differ",
        ),
        (
            |m| {
                _ = m.further[1]
                    .scale
                    .insert("nose".into(), vec![[1.0, 0.0]; 2])
            },
            "scale names nose",
        ),
    ];
    for (change, sentence) in faults {
        let mut changed = manifest.clone();
        change(&mut changed);
        let found = changed.faults();
        assert!(
            found.iter().any(|f| f.contains(sentence)),
            "{sentence}: {found:?}"
        );
        write_manifest(folder.path(), &changed);
        assert!(
            matches!(open(folder.path()), Err(BundleError::Faults { .. })),
            "{sentence}"
        );
    }
    // What the manifest cannot hold is refused while it is read.
    let primary_regression = text.replacen("kind = \"single\"", "kind = \"regression\"", 1);
    let empty = text
        .split("[[head]]")
        .next()
        .unwrap()
        .replacen('\n', "\nhead = []\n", 1);
    let with_task = text.replacen('\n', "\ntask = \"single\"\n", 1);
    for (text, sentence) in [
        (primary_regression, "the primary head must have labels"),
        (empty, "the list [[head]] is empty"),
        (with_task, "task and labels must be in each [[head]]"),
    ] {
        let error = toml::from_str::<Manifest>(&text).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn every_change_of_a_further_head_changes_the_score_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write_bundle(folder.path(), &affect_graph(false));
    let changes: [fn(&mut Manifest); 10] = [
        |m| m.further.truncate(1),
        |m| m.further[1].name = "mood".into(),
        |m| m.further[0].kind = HeadKind::Single,
        |m| m.further[1].labels.reverse(),
        |m| m.further[1].range[0] = [-2.0, 1.0],
        |m| m.further[1].derived = false,
        |m| m.further[1].output = 0,
        |m| m.further[0].abstain_threshold = Some(0.1),
        |m| _ = m.further[0].temperature.insert("face".into(), 0.5),
        |m| m.further[1].scale.clear(),
    ];
    let mut seen = vec![manifest.score_fingerprint()];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = manifest.clone();
        change(&mut changed);
        let found = changed.score_fingerprint();
        assert!(!seen.contains(&found), "change {index}");
        seen.push(found);
        assert_eq!(changed.compute_fingerprint(), manifest.fingerprint);
    }
}

#[test]
fn an_event_has_the_further_answers_under_also() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), &affect_graph(false));
    let mut recognizer = Recognizer::new(open(folder.path()).unwrap());
    let clip = clip(&recognizer, presence(true, true, false), 0);
    let mut recognition = recognizer.recognize(&clip);
    let events = EventBuilder::new(&Default::default(), &recognizer.bundle);
    let built = |recognition: &Recognition| {
        let at = clip.aligned_at;
        let timestamps = ClipTimestamps {
            taken: at,
            recognized: at,
            emitted: at,
        };
        events.expression(&clip, recognition, timestamps)
    };
    recognition.further = vec![Some(vec![0.2, 0.7]), Some(vec![0.31, -0.1])];
    let event = built(&recognition);
    let json = event.to_json(1, Form::Offline);
    assert!(
        json.contains(concat!(
            r#","also":{"stress":{"scores":{"tense":0.2,"tired":0.7}},"#,
            r#""affect":{"values":{"valence":0.31,"arousal":-0.1},"derived":true}},"#,
            r#""modalities""#
        )),
        "{json}"
    );
    let Event::Expression(expression) = &event else {
        panic!("{event:?}")
    };
    assert!(matches!(&expression.also.0[0].1, HeadAnswer::Labels { .. }));
    recognition.further = vec![None, None];
    let without = built(&recognition);
    assert!(!without.to_json(1, Form::Offline).contains("also"));
    assert!(event.payload().heap_bytes() > without.payload().heap_bytes() + 100);
}
