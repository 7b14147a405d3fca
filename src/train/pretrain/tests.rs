//! Tests of pre-training: resumption, refusal of faulty recipes and rows, missing modalities.

use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::train::fit::tests::GENERATOR;
use crate::train::fit::values;
use crate::train::objective::{ClusterMode, FeatureBatch, Objective};
use crate::train::schedule::RateSchedule;
use crate::train::store::Entry;
use crate::train::synthetic::SyntheticSet;

mod objectives;
mod replicas;

/// A small synthetic set of features with face, voice and text.
fn small() -> Features {
    SyntheticSet {
        train: 320,
        select: 40,
        test: 40,
        ..SyntheticSet::default()
    }
    .make()
}

/// A recipe with contrastive, clustering and reconstruction objectives.
fn recipe(epochs: usize) -> PretrainRecipe {
    PretrainRecipe {
        kind: PretrainKind::Pretrain,
        name: "test".into(),
        profile: Profile::Fixed,
        seed: 5,
        modalities: Modality::ALL.to_vec(),
        representation: 32,
        projection: 16,
        standardise: true,
        rectified_projection: false,
        epochs,
        batch: 32,
        learning_rate: 1e-3,
        weight_decay: 1e-3,
        schedule: RateSchedule::WarmupCosine { warmup_share: 0.1 },
        objectives: vec![
            Objective::Contrastive {
                weight: 1.0,
                temperature: 0.1,
            },
            Objective::Clustering {
                weight: 0.5,
                mode: ClusterMode::Individual,
                clusters: 6,
                queue: 2,
                queue_reduction: 1,
                start_epoch: 1,
            },
            Objective::Reconstruction {
                weight: 0.5,
                hidden: 16,
                rectified: false,
            },
        ],
    }
}

/// Representations, projections and cluster logits of `net` for the first 16 clips.
fn outputs_of(net: &PretextModel, features: &Features, recipe: &PretrainRecipe) -> Vec<f32> {
    let batch = features.batch(&(0..16).collect::<Vec<_>>()).unwrap();
    let outputs = net.forward(&batch, &recipe.objectives, &device());
    outputs
        .representations
        .into_iter()
        .chain(outputs.projections)
        .chain(outputs.cluster_logits)
        .flat_map(|t| values(t).unwrap())
        .collect()
}

/// Environment variable with the folder in which [`a_child_trains`] trains.
const CHILD: &str = "EXPRESSD_TEST_PRETRAIN_CHILD";

/// Trains a run to its end. The test below starts this test as a process that it can kill, with the
/// variable [`CHILD`]. Without the variable, the run is in a temporary folder.
#[test]
fn a_child_trains() {
    let own = tempfile::tempdir().unwrap();
    let folder = std::env::var_os(CHILD).map_or(own.path().to_owned(), PathBuf::from);
    let _turn = GENERATOR.lock();
    let (recipe, features) = (recipe(12), small());
    let (_, progress) = pretrain(&recipe, &features, vec![], &RunFolder(folder), false).unwrap();
    assert!(progress.finished);
    let total = &progress.curves["total"];
    assert!(total[11] < total[1], "it learns nothing: {total:?}");
}

#[test]
fn training_that_is_killed_ten_times_ends_with_the_weights_of_an_uninterrupted_run() {
    let (calm, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let child = |folder: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "train::pretrain::tests::a_child_trains"])
            .env(CHILD, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let started = monotonic_nanos();
    assert!(child(calm.path()).status().unwrap().success());
    let whole = (monotonic_nanos() - started) as u64;
    let mut rng = StdRng::seed_from_u64(whole);
    let (mut kills, mut left_off) = (0, Vec::new());
    while kills < 10 {
        let mut running = child(killed.path()).spawn().unwrap();
        std::thread::sleep(Duration::from_nanos(
            rng.random_range(whole / 20..whole / 2),
        ));
        if running.try_wait().unwrap().is_some() {
            // Training finished before the kill, so it starts again from the beginning.
            std::fs::remove_dir_all(killed.path()).unwrap();
            continue;
        }
        running.kill().unwrap();
        running.wait().unwrap();
        kills += 1;
        left_off.extend(
            read_json::<Progress>(&killed.path().join("state.json"))
                .unwrap()
                .map(|p| p.epochs),
        );
    }
    assert!(child(killed.path()).status().unwrap().success());
    assert!(!left_off.is_empty(), "no kill came after a checkpoint");
    let (recipe, features) = (recipe(12), small());
    let [a, b] = [&calm, &killed]
        .map(|folder| outputs_of(&load(folder.path()).unwrap().1, &features, &recipe));
    assert_eq!(a, b, "left off after epochs {left_off:?}");
}

#[test]
fn a_non_finite_loss_ends_the_run_keeps_the_checkpoint_and_runs_are_not_overwritten() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder(folder.path().to_owned());
    let good = small();
    let one = PretrainRecipe {
        epochs: 2,
        ..recipe(2)
    };
    pretrain(&one, &good, vec![], &run, false).unwrap();
    let other = tempfile::tempdir().unwrap();
    let wild = PretrainRecipe {
        learning_rate: 1e30,
        ..one.clone()
    };
    let error = pretrain(
        &wild,
        &good,
        vec![],
        &RunFolder(other.path().to_owned()),
        false,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("lower learning_rate") && error.contains("checkpoint"),
        "{error}"
    );
    assert!(
        load(other.path()).is_ok(),
        "the checkpoint before it stands"
    );
    // The error for a NaN in a store names the row, and does not blame the learning rate.
    let rows: Vec<(Entry, Vec<f32>)> = (0..good.count())
        .map(|row| {
            let mut values = vec![0.0; good.spec().dim()];
            good.read(row, &mut values).unwrap();
            if row == 7 {
                values[3] = f32::NAN;
            }
            (good.entry(row).clone(), values)
        })
        .collect();
    let bad = Features::in_memory(good.spec().clone(), rows);
    let error = pretrain(
        &one,
        &bad,
        vec![],
        &RunFolder(other.path().join("bad")),
        false,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains(&good.entry(7).id)
            && error.contains("face")
            && !error.contains("learning_rate"),
        "{error}"
    );
    // Another recipe does not overwrite the run.
    let error = pretrain(
        &PretrainRecipe {
            seed: 6,
            ..one.clone()
        },
        &good,
        vec![],
        &run,
        false,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("other settings"), "{error}");
    let error = crate::train::classify::load(folder.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is a run of pretrain; evaluate and export take a run of finetune"),
        "{error}"
    );
    // Two processes cannot train the same run at the same time.
    let _other = run.lock().unwrap();
    let error = pretrain(&one, &good, vec![], &run, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("being trained by another process"),
        "{error}"
    );
}

/// A copy of `features` in which every second clip lacks one of the three modalities, by turns.
fn with_missing_modalities(features: &Features) -> Features {
    let rows = (0..features.count()).map(|row| {
        let mut values = vec![0.0; features.spec().dim()];
        features.read(row, &mut values).unwrap();
        let mut entry = features.entry(row).clone();
        entry.present[row % 3] = row % 2 == 0;
        (entry, values)
    });
    Features::in_memory(features.spec().clone(), rows.collect())
}

#[test]
fn clips_with_missing_modalities_are_trained_on_their_present_ones() {
    let _turn = GENERATOR.lock();
    let features = with_missing_modalities(&small());
    let folder = tempfile::tempdir().unwrap();
    let (_, progress) = pretrain(
        &recipe(4),
        &features,
        vec![],
        &RunFolder(folder.path().to_owned()),
        false,
    )
    .unwrap();
    assert!(progress.curves["total"].iter().all(|v| v.is_finite()));
    assert!(progress.curves["reconstruction"][3] < progress.curves["reconstruction"][0]);
}

#[test]
fn every_recipe_of_the_repository_is_valid_and_all_faults_are_reported_at_once() {
    let mut seen = 0;
    for folder in ["config/train", "config/train/reference"] {
        for file in std::fs::read_dir(crate::testing::project(folder)).unwrap() {
            let path = file.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            if text.contains("kind = \"pretrain\"") {
                PretrainRecipe::read(&path).unwrap();
                seen += 1;
            } else if text.contains("kind = \"finetune\"") {
                crate::train::classify::FinetuneRecipe::read(&path).unwrap();
                seen += 1;
            }
        }
    }
    assert!(seen >= 28, "{seen} recipes");
    let faults = PretrainRecipe {
        modalities: vec![Modality::Face],
        batch: 1,
        profile: Profile::Reference,
        ..recipe(0)
    }
    .faults();
    assert!(faults.len() >= 4, "{faults:?}");
}

#[test]
fn invalid_settings_are_refused_with_key_value_and_permitted_range() {
    let contrastive = |weight| Objective::Contrastive {
        weight,
        temperature: 0.1,
    };
    let clustering = |start_epoch, queue_reduction| {
        let (weight, mode) = (1.0, ClusterMode::Joint);
        Objective::Clustering {
            weight,
            mode,
            clusters: 6,
            queue: 2,
            queue_reduction,
            start_epoch,
        }
    };
    let faults = |objectives: Vec<Objective>| {
        PretrainRecipe {
            objectives,
            ..recipe(2)
        }
        .faults()
        .join("; ")
    };
    assert_eq!(faults(vec![clustering(0, 1)]), "");
    assert_eq!(faults(vec![clustering(1, 1), contrastive(1.0)]), "");
    let late = faults(vec![clustering(1, 1)]);
    assert!(
        late.contains("start_epoch") && late.contains("begins in epoch 0"),
        "{late}"
    );
    assert!(faults(vec![clustering(0, 0)]).contains("queue_reduction is 0, permitted"));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(
            faults(vec![contrastive(weight)]),
            format!("weight of contrastive is {weight}, permitted are numbers above 0")
        );
    }
    assert!(
        faults(vec![contrastive(1.0), clustering(0, 1), contrastive(0.5)])
            .contains("objective contrastive stands there twice")
    );
    for learning_rate in [0.0, f64::NAN, f64::INFINITY] {
        assert!(
            PretrainRecipe {
                learning_rate,
                ..recipe(2)
            }
            .faults()
            .join("")
            .contains("learning_rate is")
        );
    }
    let twice = PretrainRecipe {
        modalities: vec![Modality::Face; 2],
        weight_decay: -1.0,
        ..recipe(2)
    }
    .faults();
    assert_eq!(
        twice,
        [
            "weight_decay is -1, permitted are numbers from 0",
            "modalities names face twice, permitted is each once"
        ]
    );
}

#[test]
fn a_batch_without_a_pair_of_clips_to_contrast_leaves_the_weights() {
    let _turn = GENERATOR.lock();
    let (features, recipe) = (
        small(),
        PretrainRecipe {
            objectives: vec![Objective::Contrastive {
                weight: 1.0,
                temperature: 0.1,
            }],
            ..recipe(1)
        },
    );
    let training = vec![device().autodiff()];
    let net = PretextModel::new(&recipe.heads(&features), &recipe.pretext(), &device())
        .to_device(&training[0])
        .train();
    let dims: Vec<usize> = features.modalities().iter().map(|m| m.dim).collect();
    // The first clip has face and voice, the second voice and text.
    let modalities = [vec![0], vec![0, 1], vec![1]]
        .into_iter()
        .zip(dims)
        .map(|(clips, dim)| (clips.clone(), vec![0.5; clips.len() * dim]))
        .collect();
    let batch = FeatureBatch {
        count: 2,
        modalities,
    };
    let (_, losses) = train_step(
        &recipe,
        net,
        &mut recipe.optimizer(),
        &batch,
        0,
        0,
        None,
        1e-3,
        &training,
    )
    .unwrap();
    assert_eq!(losses, [("total", 0.0)]);
}
