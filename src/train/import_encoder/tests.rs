use super::*;
use crate::onnx::{Attribute, Axis, GraphBuilder};
use crate::testing::project;

/// The arguments of an import with the default bundle's preprocessing.
fn args(
    onnx: PathBuf,
    into: &Path,
    name: &str,
    modality: Modality,
    kind: EncoderKind,
) -> EncoderArgs {
    EncoderArgs {
        rate_hz: None,
        normalise: None,
        onnx,
        name: name.into(),
        modality,
        kind,
        into: into.into(),
        preprocessing: Some(project("models/default/manifest.toml")),
        tokenizer: None,
        frames: None,
        sha256: None,
        source: "ours".into(),
        licence: "research".into(),
    }
}

#[test]
fn face_and_voice_are_imported_into_one_set_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("set");
    run(&args(
        project("models/default/face.onnx"),
        &into,
        "face",
        Modality::Face,
        EncoderKind::Frame,
    ))
    .unwrap();
    let voice = args(
        project("models/default/voice.onnx"),
        &into,
        "voice",
        Modality::Voice,
        EncoderKind::Window,
    );
    run(&voice).unwrap();
    let files = EncoderSetFiles::read(std::slice::from_ref(&into)).unwrap();
    assert_eq!(
        files
            .manifest()
            .encoders
            .iter()
            .map(|e| (e.name.as_str(), e.dim))
            .collect::<Vec<_>>(),
        [("face", 128), ("voice", 128)]
    );
    // The graphs and the preprocessing are those of the bundle without text, and so is the
    // fingerprint.
    let mut expected = EncoderSetFiles::read(&[project("models/default")])
        .unwrap()
        .manifest()
        .clone();
    expected.text = None;
    expected
        .encoders
        .retain(|entry| entry.modality != Modality::Text);
    assert_eq!(files.fingerprint(), expected.compute_fingerprint());
    assert!(
        std::fs::read_to_string(into.join(PROVENANCE))
            .unwrap()
            .contains("[voice]")
    );
    assert!(run(&voice).unwrap_err().to_string().contains("already"));
    let flipped = EncoderArgs {
        name: "other".into(),
        sha256: Some("00".into()),
        ..voice
    };
    assert!(
        run(&flipped)
            .unwrap_err()
            .to_string()
            .contains("expected 00")
    );
}

/// A graph from `[batch, 1, side, side]` to the mean over `axes`. `keep`: 1 if the averaged axes
/// stay with length 1, else 0.
fn pooled(batch: Axis<'_>, side: i64, axes: &[i64], keep: i64) -> Vec<u8> {
    let mut graph = GraphBuilder::new("pooled");
    graph.input(
        "pixels",
        &[batch, Axis::Fixed(1), Axis::Fixed(side), Axis::Fixed(side)],
    );
    graph.node(
        "ReduceMean",
        &["pixels"],
        "y",
        &[
            ("axes", Attribute::Ints(axes)),
            ("keepdims", Attribute::Int(keep)),
        ],
    );
    let out: Vec<Axis<'_>> = (0..4 - if keep == 1 { 0 } else { axes.len() })
        .map(|i| Axis::Named(["a", "b", "c", "d"][i]))
        .collect();
    graph.output("y", &out);
    graph.into_bytes("test")
}

#[test]
fn unsuitable_graphs_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |bytes: Vec<u8>, modality, kind| {
        let file = folder.path().join("x.onnx");
        std::fs::write(&file, bytes).unwrap();
        let into = folder.path().join("set");
        let error = format!(
            "{:#}",
            run(&args(file, &into, "x", modality, kind)).unwrap_err()
        );
        assert!(!into.exists(), "a refused graph leaves nothing behind");
        error
    };
    let frame = |bytes| refused(bytes, Modality::Face, EncoderKind::Frame);
    let batch = Axis::Named("batch");
    for (error, expected) in [
        (frame(b"no protobuf".to_vec()), "no ONNX file"),
        (frame(pooled(Axis::Fixed(1), 48, &[1, 2], 0)), "fixed batch"),
        (frame(pooled(batch, 32, &[1, 2], 0)), "gives 48"),
        (frame(pooled(batch, 48, &[2, 3], 1)), "expected [3, dim]"),
        (
            refused(
                pooled(batch, 48, &[1, 2], 0),
                Modality::Voice,
                EncoderKind::Window,
            ),
            "axis 2 of input pixels is 48",
        ),
        (
            refused(
                pooled(batch, 48, &[1, 2], 0),
                Modality::Voice,
                EncoderKind::Frame,
            ),
            "does not exist",
        ),
        (
            refused(
                pooled(batch, 48, &[1, 2], 0),
                Modality::Text,
                EncoderKind::Utterance,
            ),
            "takes 2",
        ),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let file = folder.path().join("words.onnx");
    std::fs::write(&file, pooled(batch, 48, &[1, 2], 0)).unwrap();
    let bare = EncoderArgs {
        preprocessing: None,
        ..args(
            file,
            &folder.path().join("set"),
            "words",
            Modality::Text,
            EncoderKind::Utterance,
        )
    };
    assert!(
        run(&bare)
            .unwrap_err()
            .to_string()
            .contains("needs its tokenizer")
    );
    // This graph subtracts the mean of the batch, so that its rows depend on each other.
    let mut graph = GraphBuilder::new("mixed");
    graph.input(
        "pixels",
        &[batch, Axis::Fixed(1), Axis::Fixed(48), Axis::Fixed(48)],
    );
    graph.node(
        "ReduceMean",
        &["pixels"],
        "rows",
        &[
            ("axes", Attribute::Ints(&[1, 2])),
            ("keepdims", Attribute::Int(0)),
        ],
    );
    graph.node(
        "ReduceMean",
        &["rows"],
        "mean",
        &[
            ("axes", Attribute::Ints(&[0])),
            ("keepdims", Attribute::Int(1)),
        ],
    );
    graph.node("Sub", &["rows", "mean"], "y", &[]);
    graph.output("y", &[batch, Axis::Fixed(48)]);
    let error = frame(graph.into_bytes("test"));
    assert!(error.contains("must not depend"), "{error}");
    // The number of frames in a window must be given if the graph's axis is dynamic.
    let mut graph = GraphBuilder::new("window");
    graph.input(
        "pixels",
        &[
            batch,
            Axis::Named("frames"),
            Axis::Fixed(1),
            Axis::Fixed(48),
            Axis::Fixed(48),
        ],
    );
    graph.node(
        "ReduceMean",
        &["pixels"],
        "y",
        &[
            ("axes", Attribute::Ints(&[1, 2, 3])),
            ("keepdims", Attribute::Int(0)),
        ],
    );
    graph.output("y", &[batch, Axis::Fixed(48)]);
    let window = graph.into_bytes("test");
    assert!(refused(window.clone(), Modality::Face, EncoderKind::Window).contains("--frames"));
    let file = folder.path().join("w.onnx");
    std::fs::write(&file, window).unwrap();
    let into = folder.path().join("windows");
    run(&EncoderArgs {
        frames: Some(4),
        ..args(file, &into, "w", Modality::Face, EncoderKind::Window)
    })
    .unwrap();
    assert_eq!(
        EncoderSetFiles::read(std::slice::from_ref(&into))
            .unwrap()
            .manifest()
            .encoders[0]
            .input,
        [4, 1, 48, 48]
    );
    // A suitable graph is accepted.
    let file = folder.path().join("y.onnx");
    std::fs::write(&file, pooled(batch, 48, &[1, 2], 0)).unwrap();
    run(&args(
        file,
        &folder.path().join("good"),
        "rows",
        Modality::Face,
        EncoderKind::Frame,
    ))
    .unwrap();
}
