use std::fs;
use std::path::Path;

use super::*;
use crate::model::Bundle;
use crate::testing::project;

/// The ONNX file of the default bundle's head.
fn head() -> Vec<u8> {
    fs::read(project("models/default/head.onnx")).unwrap()
}

fn open(runtime: &Runtime, bytes: &[u8]) -> Graph {
    Graph::open(runtime, "head", bytes, Provider::Cpu, 1).unwrap()
}

/// The head's output for one row of generated embeddings.
fn logits(graph: &mut Graph) -> Result<Vec<Output>, EncodeError> {
    let values: Vec<f32> = (0..384).map(|i| (i as f32 * 0.37).sin()).collect();
    graph.run(&[
        Input::F32(&[1, 128], &values[..128]),
        Input::F32(&[1, 128], &values[..128]),
        Input::F32(&[1, 384], &values),
        Input::F32(&[1, 3], &[1.0, 0.0, 1.0]),
    ])
}

/// Reads the file at `path`, for [`Graph::reopened_by`].
fn reader(path: &Path) -> ReadGraph {
    let path = path.to_owned();
    Box::new(move || {
        fs::read(&path).map_err(|source| EncodeError::NoGraph {
            path: path.clone(),
            source,
        })
    })
}

#[test]
fn a_released_graph_is_opened_again_and_gives_the_same_output() {
    let runtime = Runtime::load().unwrap();
    let path = project("models/default/head.onnx");
    let mut graph = open(&runtime, &head()).reopened_by(&runtime, 1, reader(&path));
    let expected = logits(&mut graph).unwrap();
    graph.release();
    assert!(graph.is_released());
    assert_eq!((graph.input_count(), graph.takes_batches()), (4, true));
    assert_eq!(logits(&mut graph).unwrap(), expected);
    assert!(!graph.is_released());
    // A graph that cannot be reopened stays open.
    let mut kept = open(&runtime, &head());
    kept.release();
    assert!(!kept.is_released());
}

#[test]
fn a_missing_file_is_an_error_and_is_not_read_again_before_the_retry_delay() {
    let (runtime, folder) = (Runtime::load().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("gone.onnx");
    let mut graph = open(&runtime, &head()).reopened_by(&runtime, 1, reader(&path));
    graph.release();
    let error = logits(&mut graph).unwrap_err();
    assert!(matches!(error, EncodeError::NoGraph { .. }), "{error}");
    fs::write(&path, head()).unwrap();
    let error = logits(&mut graph).unwrap_err();
    assert!(matches!(error, EncodeError::NotReopened { .. }), "{error}");
    graph.reopening.as_mut().unwrap().not_before = monotonic_nanos();
    assert_eq!(logits(&mut graph).unwrap()[0].shape, [1, 7]);
}

#[test]
fn a_graph_with_a_fixed_first_axis_takes_no_batches() {
    let runtime = Runtime::load().unwrap();
    let takes_batches = |path: &str| {
        let bytes = fs::read(project(path)).unwrap();
        open(&runtime, &bytes).takes_batches()
    };
    assert!(takes_batches("models/default/voice.onnx"));
    // The first axis of the input for the recurrent state is fixed at 1.
    assert!(!takes_batches(
        ".deps/silero_vad/silero_vad_16k_sequence.onnx"
    ));
}

#[test]
fn of_a_bundles_encoders_only_the_text_encoder_can_be_released() {
    let runtime = Runtime::load().unwrap();
    let folder = project("models/default");
    let mut bundle = Bundle::open(&runtime, &folder, Provider::Cpu, 1).unwrap();
    for encoder in &mut bundle.encoders {
        encoder.graph.release();
        assert_eq!(encoder.graph.is_released(), encoder.entry.name == "text");
    }
}

#[test]
fn a_borrowed_output_has_the_shape_of_a_batch() {
    let mut graph = open(&Runtime::load().unwrap(), &head());
    let copied = logits(&mut graph).unwrap();
    let values = vec![0.5; 384];
    let lent = graph.run_with(
        &[
            Input::F32(&[2, 128], &values[..256]),
            Input::F32(&[2, 128], &values[..256]),
            Input::F32(&[2, 384], &[&values[..], &values[..]].concat()),
            Input::F32(&[2, 3], &[1.0; 6]),
        ],
        |outputs| (outputs[0].shape(), outputs[0].has_shape(&[2, 7])),
    );
    assert_eq!(lent.unwrap(), (vec![2, 7], true));
    assert_eq!(copied[0].values.len(), 7);
}
