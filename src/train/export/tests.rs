//! Tests of the export of networks to ONNX.

use super::manifest::training_actors;
use super::*;
use crate::train::fit::tests::GENERATOR;
use crate::train::net::{BlockShape, EncoderShape, Halving, Pooling};

/// Opens an ONNX graph on the CPU.
fn open(name: &str, bytes: &[u8]) -> Graph {
    let runtime = Runtime::load().expect("ONNX Runtime; run `make setup`");
    Graph::open(&runtime, name, bytes, Provider::Cpu, 1).unwrap()
}

/// A small encoder with random weights. They differ between test runs, because all tests of the
/// process draw from the same generator.
fn tiny(halving: Halving, join_rows: usize) -> Encoder {
    let blocks = [(6, true), (8, true), (8, false), (7, false)]
        .map(|(channels, halves)| BlockShape { channels, halves })
        .to_vec();
    let shape = EncoderShape {
        stem: 4,
        stem_stride: 2,
        stem_kernel: 3,
        stem_padding: [1, 0],
        blocks,
        halving,
        join_rows,
        pooling: Pooling::MeanAndDeviation,
        dim: 5,
        dropout: 0.5,
    };
    Encoder::new(&shape, 3, &burn_cpu())
}

#[test]
fn training_actors_are_the_actors_on_disk_without_the_report_actors() {
    let folder = tempfile::tempdir().unwrap();
    for actor in (1..=21).chain([24]) {
        std::fs::create_dir(folder.path().join(format!("Actor_{actor:02}"))).unwrap();
    }
    assert_eq!(training_actors(folder.path()), "actors 1-17, 24");
    std::fs::remove_dir(folder.path().join("Actor_02")).unwrap();
    assert_eq!(training_actors(folder.path()), "actors 1, 3-17, 24");
}

#[test]
fn an_exported_encoder_agrees_with_burn_for_any_batch_size_and_length() {
    let _turn = GENERATOR.lock();
    let still = tiny(Halving::MaxPool, 2);
    let bytes = export_encoder(&still, [16, 41], Some(61)).unwrap();
    let mut graph = open("tiny", &bytes);
    for (batch, columns) in [(1, 17), (4, 41), (7, 100)] {
        let input = golden_samples(columns as u64, batch * 16 * columns);
        let (difference, embeddings) =
            compare_encoder(&still, &mut graph, [batch, 1, 16, columns], &input).unwrap();
        assert!(difference < 1e-5, "{batch}x{columns}: {difference}");
        assert_eq!(embeddings.len(), batch * 5);
    }
}

#[test]
fn a_strided_encoder_is_exported_and_other_weights_are_detected() {
    let _turn = GENERATOR.lock();
    let net = tiny(Halving::Stride, 0);
    let bytes = export_encoder(&net, [16, 16], None).unwrap();
    let mut graph = open("tiny", &bytes);
    let input = golden_samples(1, 3 * 256);
    assert!(
        compare_encoder(&net, &mut graph, [3, 1, 16, 16], &input)
            .unwrap()
            .0
            < 1e-5
    );
    let different = tiny(Halving::Stride, 0);
    assert!(
        compare_encoder(&different, &mut graph, [3, 1, 16, 16], &input)
            .unwrap()
            .0
            > TOLERANCE
    );
}

/// The daemon runs the head once for the clips of all subjects, so the number of subjects must not
/// change any bit of a subject's scores.
#[test]
fn a_row_of_the_exported_head_does_not_depend_on_the_batch() {
    let _turn = GENERATOR.lock();
    let head = Head::new(&[4, 6, 5], 8, 7, &burn_cpu())
        .scaled(&[5.0, 20.0, 3.0])
        .with_bounds(&[0.7, 1.5, 0.4])
        .with_single_modality_prior(0, &[0.5, -0.5, 0.1, 0.0, 0.2, -0.3, 0.0], &burn_cpu());
    let mut graph = open("head", &export_head(&head, &[4, 6, 5]).unwrap());
    let widths = [4, 6, 5];
    let rows: Vec<[Vec<f32>; 4]> = (0..11)
        .map(|row| {
            let [face, voice, text] =
                [0, 1, 2].map(|i| golden_samples(10 * row + i as u64, widths[i]));
            let subset = Presence::subsets().nth(row as usize % 7).unwrap();
            let presence = Modality::ALL.map(|m| f32::from(*subset.get(m)));
            [face, voice, text, presence.to_vec()]
        })
        .collect();
    let mut run = |rows: &[[Vec<f32>; 4]]| {
        let columns = [0, 1, 2, 3].map(|i| {
            let column: Vec<&[f32]> = rows.iter().map(|row| &row[i][..]).collect();
            column.concat()
        });
        let shapes = [4, 6, 5, 3].map(|width| [rows.len(), width]);
        let inputs: Vec<Input<'_>> = (columns.iter().zip(&shapes))
            .map(|(column, shape)| Input::F32(shape, column))
            .collect();
        graph.run(&inputs).unwrap().remove(0).values
    };
    let alone: Vec<Vec<f32>> = rows.chunks(1).map(&mut run).collect();
    for count in 2..=rows.len() {
        assert_eq!(run(&rows[..count]), alone[..count].concat(), "{count} rows");
    }
}

#[test]
fn the_exported_head_ignores_absent_modalities_and_agrees_with_burn() {
    let _turn = GENERATOR.lock();
    let head = Head::new(&[4, 6, 5], 8, 7, &burn_cpu())
        .scaled(&[0.5, 2.0, 1.0])
        .with_bounds(&[0.2, 0.0, 0.1])
        .with_single_modality_prior(2, &[0.5, -0.5, 0.1, 0.0, 0.2, -0.3, 0.0], &burn_cpu());
    let bytes = export_head(&head, &[4, 6, 5]).unwrap();
    let mut graph = open("head", &bytes);
    let mut run = |voice: f32, presence: [f32; 3]| {
        let inputs = [
            Input::F32(&[1, 4], &[0.4; 4]),
            Input::F32(&[1, 6], &[voice; 6]),
            Input::F32(&[1, 5], &[0.1; 5]),
            Input::F32(&[1, 3], &presence),
        ];
        graph.run(&inputs).unwrap().remove(0).values
    };
    assert_eq!(run(3.0, [1.0, 0.0, 1.0]), run(-1.0, [1.0, 0.0, 1.0]));
    for subset in Presence::subsets() {
        let presence = Modality::ALL.map(|m| f32::from(*subset.get(m)));
        let rows = [(0.4, 4), (3.0, 6), (0.1, 5)]
            .map(|(value, width)| tensor(vec![value; width], [1, width], &burn_cpu()));
        let burn = values(head.forward(
            rows.to_vec(),
            tensor(presence.to_vec(), [1, 3], &burn_cpu()),
        ))
        .unwrap();
        assert!(
            largest_difference(&run(3.0, presence), &burn) < 1e-5,
            "{}",
            subset.name()
        );
    }
}
