//! Tests of [`fit`]: resumption, refusal of other settings, learning-rate schedule.

use std::sync::Mutex;

use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};

use super::*;

/// Held by each test that draws from the device's random generator. All tests of the process share
/// the generator, so the draws of two tests would mix.
pub static GENERATOR: Mutex<()> = Mutex::new(());

/// A small network with batch normalisation and dropout. They test that a checkpoint keeps the
/// running statistics and the state of the random generator.
#[derive(Module, Debug)]
struct Tiny {
    first: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    second: Linear,
}

impl Tiny {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Tiny {
            first: linear(4, 8),
            norm: BatchNormConfig::new(8).init(device),
            dropout: DropoutConfig::new(0.2).init(),
            second: linear(8, 3),
        }
    }
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(
            self.dropout
                .forward(self.norm.forward(self.first.forward(x)).tanh()),
        )
    }
}

impl Learner for Tiny {
    type Batch = (Vec<f32>, Vec<f32>);
    fn loss(&self, (inputs, targets): Self::Batch, device: &Device) -> Tensor<1> {
        let n = targets.len() / 3;
        soft_cross_entropy(
            self.forward(tensor(inputs, [n, 4], device)),
            tensor(targets, [n, 3], device),
        )
    }
}

/// Five batches an epoch of generated inputs `[16, 4]`, with targets `[16, 3]` that they determine.
struct GeneratedBatches;

impl Batches<(Vec<f32>, Vec<f32>)> for GeneratedBatches {
    fn count(&self) -> usize {
        5
    }
    fn batch(&self, epoch: usize, index: usize) -> (Vec<f32>, Vec<f32>) {
        let noise = crate::model::golden::golden_samples((epoch * 5 + index) as u64, 16 * 4);
        let inputs: Vec<f32> = noise
            .iter()
            .enumerate()
            .map(|(i, n)| 5.0 * n + if (i / 4) % 3 == i % 4 { 1.0 } else { 0.0 })
            .collect();
        let targets = (0..16 * 3)
            .map(|i| if (i / 3) % 3 == i % 3 { 1.0 } else { 0.0 })
            .collect();
        (inputs, targets)
    }
}

const SETTINGS: FitSettings = FitSettings {
    epochs: 6,
    batch: 16,
    learning_rate: 0.05,
    warmup_epochs: 1.0,
    weight_decay: 0.01,
    label_smoothing: 0.0,
    average: Some(0.9),
    keep: Keep::Best,
};

/// The run of [`Tiny`] in `folder`. `stop_after`: training stops after this epoch.
fn run(folder: &Path, stop_after: Option<usize>, seed: u64) -> TrainingRun<'static> {
    TrainingRun {
        name: "tiny",
        folder: folder.to_owned(),
        settings: &SETTINGS,
        recipe: "tiny".into(),
        seed,
        stop_after,
    }
}

/// Trains `net` or resumes its training. Returns the selected weights and the state of the run.
fn train(
    net: &Tiny,
    folder: &Path,
    stop_after: Option<usize>,
    seed: u64,
) -> anyhow::Result<(Tiny, State)> {
    let run = run(folder, stop_after, seed);
    let device = device();
    let mut count = 0.0;
    // The selection metric rises with each epoch, so the best weights are the last ones.
    fit(&run, net.clone(), &device, &GeneratedBatches, |_| {
        count += 1.0;
        Ok(Some(
            read_state(folder)?.map_or(0.0, |s| s.epochs as f64) + count * 1e-3,
        ))
    })
}

/// The outputs of `net` for eight fixed inputs.
fn output(net: &Tiny) -> Vec<f32> {
    values(net.forward(tensor(
        crate::model::golden::golden_samples(99, 32),
        [8, 4],
        &device(),
    )))
    .unwrap()
}

#[test]
fn an_interrupted_run_ends_with_the_same_weights() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let net = Tiny::new(&device());
    let (whole, state) = train(&net, &folder.path().join("whole"), None, 1).unwrap();
    assert!(
        state.losses[5] < 0.7 * state.losses[0],
        "it learns: {:?}",
        state.losses
    );
    let split = folder.path().join("split");
    for stop in [2, 3] {
        let (part, _) = train(&net, &split, Some(stop), 1).unwrap();
        assert_ne!(output(&part), output(&whole));
    }
    let (resumed, resumed_state) = train(&net, &split, None, 1).unwrap();
    assert_eq!(output(&resumed), output(&whole));
    assert_eq!(resumed_state.losses, state.losses);
}

#[test]
fn a_run_with_other_settings_or_a_lock_of_another_process_is_refused() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let net = Tiny::new(&device());
    train(&net, folder.path(), Some(1), 1).unwrap();
    let error = train(&net, folder.path(), None, 2).unwrap_err().to_string();
    assert!(error.contains("other settings"), "{error}");
    let _other = RunFolder(folder.path().to_owned()).lock().unwrap();
    let error = train(&net, folder.path(), Some(1), 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("another process"), "{error}");
}

#[test]
fn weights_are_loaded_only_from_finished_runs_with_equal_settings() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let net = Tiny::new(&device());
    let refused = |seed| {
        run(folder.path(), None, seed)
            .load(net.clone())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(1).contains("there is no run"), "{}", refused(1));
    train(&net, folder.path(), Some(2), 1).unwrap();
    assert!(
        refused(1).contains("is not finished (epoch 2 of 6)"),
        "{}",
        refused(1)
    );
    let (trained, _) = train(&net, folder.path(), None, 1).unwrap();
    assert!(refused(2).contains("other settings"), "{}", refused(2));
    assert_eq!(
        output(&run(folder.path(), None, 1).load(net.clone()).unwrap()),
        output(&trained)
    );
}

#[test]
fn the_learning_rate_warms_up_and_decays_to_zero() {
    let settings = FitSettings {
        epochs: 10,
        batch: 1,
        learning_rate: 1.0,
        warmup_epochs: 1.0,
        weight_decay: 0.0,
        label_smoothing: 0.0,
        average: None,
        keep: Keep::Best,
    };
    let rate = |step| learning_rate(&settings, step, 100);
    assert!(rate(0) < 0.02 && rate(50) < rate(99));
    assert!((rate(99) - 1.0).abs() < 1e-3 && rate(500) < rate(200) && rate(999) < 1e-3);
}
