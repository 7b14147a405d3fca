use super::*;
use crate::model::golden::golden_samples;
use crate::onnx::{Attribute, Axis, GraphBuilder};

fn runtime() -> Runtime {
    Runtime::load().expect("ONNX Runtime; run `make setup`")
}

fn run(bytes: &[u8], example: &Example) -> Vec<f32> {
    first_outputs(&runtime(), bytes, &[example]).unwrap()
}

/// Attributes of a 3 × 3 convolution that keeps height and width.
const CONV: [(&str, Attribute<'static>); 4] = [
    ("strides", Attribute::Ints(&[1, 1])),
    ("dilations", Attribute::Ints(&[1, 1])),
    ("pads", Attribute::Ints(&[1, 1, 1, 1])),
    ("group", Attribute::Int(1)),
];

/// Adds a 3 × 3 convolution from `from` to `to` channels and a batch normalisation, as Burn's
/// exporter writes them; returns the output's name.
fn normed_conv(
    graph: &mut GraphBuilder,
    name: &str,
    input: &str,
    [from, to]: [usize; 2],
    seed: u64,
) -> String {
    let weight = graph.constant(
        &format!("{name}.weight"),
        &[to, from, 3, 3],
        &golden_samples(seed, to * from * 9),
    );
    graph.node("Conv", &[input, &weight], &format!("{name}.sums"), &CONV);
    let constants = ["gamma", "beta", "mean", "variance"].map(|what| {
        let spread = golden_samples(seed + 1, to);
        let values: Vec<f32> = spread
            .iter()
            .enumerate()
            .map(|(i, v)| {
                if what == "beta" {
                    *v
                } else {
                    0.3 + 0.2 * i as f32 + v.abs()
                }
            })
            .collect();
        graph.constant(&format!("{name}.{what}"), &[to], &values)
    });
    let [gamma, beta, mean, variance] = &constants;
    graph.node(
        "BatchNormalization",
        &[&format!("{name}.sums"), gamma, beta, mean, variance],
        name,
        &[("epsilon", Attribute::Float(1e-5))],
    )
}

/// ONNX file of a small residual network: convolution, max pooling, a residual block, convolution,
/// global average pooling.
fn residual() -> Vec<u8> {
    let mut graph = GraphBuilder::new("residual");
    graph.input(
        "x",
        &[
            Axis::Named("batch"),
            Axis::Fixed(2),
            Axis::Named("rows"),
            Axis::Fixed(8),
        ],
    );
    normed_conv(&mut graph, "stem", "x", [2, 8], 1);
    graph.node("Relu", &["stem"], "stemmed", &[]);
    let halved = [
        ("kernel_shape", Attribute::Ints(&[2, 2])),
        ("strides", Attribute::Ints(&[2, 2])),
        ("pads", Attribute::Ints(&[0, 0, 0, 0])),
    ];
    graph.node("MaxPool", &["stemmed"], "halved", &halved);
    normed_conv(&mut graph, "first", "halved", [8, 8], 3);
    graph.node("Relu", &["first"], "between", &[]);
    normed_conv(&mut graph, "second", "between", [8, 8], 5);
    graph.node("Add", &["second", "halved"], "sum", &[]);
    graph.node("Relu", &["sum"], "block", &[]);
    normed_conv(&mut graph, "last", "block", [8, 5], 7);
    graph.node("GlobalAveragePool", &["last"], "y", &[]);
    graph.output(
        "y",
        &[
            Axis::Named("batch"),
            Axis::Fixed(5),
            Axis::Fixed(1),
            Axis::Fixed(1),
        ],
    );
    graph.into_bytes("test")
}

/// Pseudo-random inputs `[1, 2, rows, 8]` for the residual network, with 8 or 12 rows.
fn examples(count: u64) -> Vec<Example> {
    let shape = |seed: u64| vec![1, 2, if seed.is_multiple_of(2) { 8 } else { 12 }, 8];
    let example = |seed| Example {
        values: golden_samples(seed, shape(seed).iter().product())
            .iter()
            .map(|v| 3.0 * v)
            .collect(),
        shape: shape(seed),
    };
    (0..count).map(|i| example(100 + i)).collect()
}

/// The operator of each node of an ONNX file.
fn operators(bytes: &[u8]) -> Vec<String> {
    read(bytes)
        .unwrap()
        .graph
        .unwrap()
        .node
        .into_iter()
        .map(|node| node.op_type)
        .collect()
}

/// Number of nodes with this operator.
fn count(bytes: &[u8], operator: &str) -> usize {
    operators(bytes).iter().filter(|o| *o == operator).count()
}

#[test]
fn a_folded_graph_gives_the_same_output() {
    let bytes = residual();
    let folded = fold::fold(read(&bytes).unwrap()).unwrap().encode_to_vec();
    assert_eq!(
        (
            count(&bytes, "BatchNormalization"),
            count(&folded, "BatchNormalization")
        ),
        (4, 0)
    );
    assert_eq!(
        read(&folded).unwrap().graph.unwrap().initializer.len(),
        8,
        "a weight and a bias each, nothing else is left"
    );
    for example in examples(4) {
        for (a, b) in run(&bytes, &example).iter().zip(run(&folded, &example)) {
            assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn a_normalisation_of_a_shared_tensor_is_not_folded() {
    let mut graph = GraphBuilder::new("shared");
    graph.input(
        "x",
        &[
            Axis::Named("batch"),
            Axis::Fixed(2),
            Axis::Fixed(8),
            Axis::Fixed(8),
        ],
    );
    normed_conv(&mut graph, "normed", "x", [2, 3], 1);
    graph.node("Add", &["normed", "normed.sums"], "y", &[]);
    graph.output(
        "y",
        &[
            Axis::Named("batch"),
            Axis::Fixed(3),
            Axis::Fixed(8),
            Axis::Fixed(8),
        ],
    );
    let bytes = graph.into_bytes("test");
    let folded = fold::fold(read(&bytes).unwrap()).unwrap().encode_to_vec();
    assert_eq!(operators(&folded), operators(&bytes));
}

/// The permitted error of one convolution with a Relu follows from the steps of input, weights and
/// output.
#[test]
fn the_error_of_one_convolution_is_bounded_by_its_quantisation_steps() {
    let (mut graph, weights) = (GraphBuilder::new("one"), golden_samples(1, 4 * 2 * 9));
    graph.input(
        "x",
        &[
            Axis::Named("batch"),
            Axis::Fixed(2),
            Axis::Named("rows"),
            Axis::Fixed(8),
        ],
    );
    graph.constant("weight", &[4, 2, 3, 3], &weights);
    graph.constant("bias", &[4], &[0.5, -0.25, 0.0, 0.125]);
    graph.node("Conv", &["x", "weight", "bias"], "sums", &CONV);
    graph.node("Relu", &["sums"], "positive", &[]);
    // This operator stays float, as pooling does in a network.
    graph.node("Identity", &["positive"], "y", &[]);
    graph.output(
        "y",
        &[
            Axis::Named("batch"),
            Axis::Fixed(4),
            Axis::Named("rows"),
            Axis::Fixed(8),
        ],
    );
    let (bytes, all) = (graph.into_bytes("test"), examples(12));
    let folded = fold::fold(read(&bytes).unwrap()).unwrap();
    let plan = plan::Plan::new(folded.graph.as_ref().unwrap()).unwrap();
    let spread = ranges::observe(
        &runtime(),
        &folded,
        &plan.observed(),
        &all.iter().collect::<Vec<_>>(),
    )
    .unwrap();
    let steps: std::collections::BTreeMap<_, _> = spread
        .iter()
        .map(|(name, histogram)| (name.clone(), histogram.step(0.0)))
        .collect();
    assert_eq!(steps["positive"].zero, 0, "a Relu is one with its step");
    let written = plan.write(&folded, &steps).unwrap().encode_to_vec();
    assert_eq!(
        (
            count(&written, "QuantizeLinear"),
            count(&written, "DequantizeLinear")
        ),
        (2, 4)
    );
    let largest = all
        .iter()
        .flat_map(|e| &e.values)
        .fold(0.0f32, |m, v| m.max(v.abs()));
    let mut differs = false;
    for example in &all {
        let found = run(&written, example);
        let rows = example.shape[2] * 8;
        for (i, (a, b)) in run(&bytes, example).iter().zip(&found).enumerate() {
            let own = &weights[(i / rows % 4) * 18..][..18];
            let heaviest = own.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            // Half a step of each input, of each weight and of the output. The second term also
            // bounds the product of an input's and a weight's error.
            let half = steps["x"].scale / 2.0 * own.iter().map(|w| w.abs()).sum::<f32>()
                + heaviest / 128.0 * 18.0 * (largest + steps["x"].scale);
            let permitted = half + steps["positive"].scale / 2.0 + 1e-4;
            assert!((a - b).abs() <= permitted, "{a} {b}, permitted {permitted}");
            differs |= a != b;
        }
    }
    assert!(differs, "nothing was rounded");
}

#[test]
fn a_quantised_residual_graph_errs_by_less_than_a_hundredth() {
    let bytes = residual();
    let made = quantise(&runtime(), &bytes, &examples(30)).unwrap();
    assert!(made.error > 0.0 && made.error < 0.01, "{}", made.error);
    // One for each of the tensors x, stem, halved, first, second, block and last; pooling stays
    // float.
    assert_eq!(
        count(&made.bytes, "QuantizeLinear"),
        7,
        "{:?}",
        operators(&made.bytes)
    );
    assert_eq!(
        made.bytes,
        quantise(&runtime(), &bytes, &examples(30)).unwrap().bytes,
        "the same every time"
    );
    assert!(quantise(&runtime(), &bytes, &examples(2)).is_err());
    assert!(quantise(&runtime(), b"no graph", &examples(9)).is_err());
}

#[test]
fn steps_represent_zero_exactly_and_clip_outliers() {
    use ranges::Step;
    assert_eq!(
        Step::for_range(0.0, 2.55),
        Step {
            scale: 0.01,
            zero: 0
        }
    );
    let both = Step::for_range(-1.0, 1.0);
    assert!(
        (127..=128).contains(&both.zero) && Step::for_range(0.5, 2.55).zero == 0,
        "{both:?}"
    );
    assert_eq!(
        Step::for_range(0.0, 0.0),
        Step {
            scale: 1.0,
            zero: 0
        }
    );
}

/// Compares the float and int8 graphs of the default bundle's face encoder on FER2013: labels and
/// processor time.
#[cfg(feature = "corpus")]
#[test]
fn the_int8_default_face_encoder_agrees_with_the_float_one_and_is_faster() {
    use crate::testing::{material, project};
    use crate::time::thread_cpu_nanos;
    use crate::train::data::{Part, fer};
    let Some(archive) = material("faces/fer2013_training_publictest.tar.xz") else {
        return;
    };
    let bytes = std::fs::read(project("models/default/face.onnx")).unwrap();
    let manifest: crate::manifest::Manifest =
        toml::from_str(&std::fs::read_to_string(project("models/default/manifest.toml")).unwrap())
            .unwrap();
    let settings = manifest.face.unwrap();
    let crops = fer::read(&archive, None).unwrap();
    let some = |part: Part, count: usize| {
        let all: Vec<_> = crops.iter().filter(|c| c.part == part).collect();
        let step = all.len() / count;
        let example = |c: &&fer::LabelledCrop| Example {
            shape: vec![1, 1, settings.size, settings.size],
            values: crate::preprocess::normalise(&c.crop, &settings.normalise),
        };
        all.iter()
            .step_by(step)
            .take(count)
            .map(example)
            .collect::<Vec<_>>()
    };
    let made = quantise(&runtime(), &bytes, &some(Part::Train, 300)).unwrap();
    let open = |bytes: &[u8]| Graph::open(&runtime(), "face", bytes, Provider::Cpu, 1).unwrap();
    let (mut float, mut light) = (open(&bytes), open(&made.bytes));
    let top = |values: &[f32]| (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]));
    let (mut agree, mut nanos) = (0, [Vec::new(), Vec::new()]);
    let report = some(Part::Report, 300);
    for example in &report {
        let logits = |graph: &mut Graph, nanos: &mut Vec<i64>| {
            let started = thread_cpu_nanos();
            let outputs = graph.run(&[example.input()]).unwrap();
            nanos.push(thread_cpu_nanos() - started);
            outputs[1].values.clone()
        };
        agree += usize::from(
            top(&logits(&mut float, &mut nanos[0])) == top(&logits(&mut light, &mut nanos[1])),
        );
    }
    let [float, light] = nanos.map(|mut all| (all.sort_unstable(), all[all.len() / 2]).1);
    println!(
        "agree on {agree} of {}; {float} ns, {light} ns; beyond {}, error {:.2e}",
        report.len(),
        made.beyond,
        made.error
    );
    assert!(
        agree * 100 >= report.len() * 97,
        "{agree} of {}",
        report.len()
    );
    assert!(light < float, "{light} ns against {float} ns");
}
