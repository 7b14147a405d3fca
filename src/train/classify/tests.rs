//! Tests of fine-tuning over stores: checks of recipes, labels, the lock of a run.

use super::*;
use crate::testing::project;
use crate::train::synthetic::SyntheticSet;

/// The recipe of the linear evaluation.
fn linear() -> FinetuneRecipe {
    FinetuneRecipe::read(&project("config/train/linear.toml")).unwrap()
}

#[test]
fn faults_name_key_value_and_permitted_range() {
    for learning_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let faults = FinetuneRecipe {
            learning_rate,
            ..linear()
        }
        .faults();
        assert_eq!(
            faults,
            [format!(
                "learning_rate is {learning_rate}, permitted are numbers above 0"
            )]
        );
    }
    let wrong = FinetuneRecipe {
        weight_decay: -0.1,
        modalities: vec![Modality::Face, Modality::Voice, Modality::Face],
        ..linear()
    };
    assert_eq!(
        wrong.faults(),
        [
            "weight_decay is -0.1, permitted are numbers from 0",
            "modalities names face twice, permitted is each once"
        ]
    );
}

#[test]
fn labels_of_stores_are_renamed_merged_and_left_out_by_the_label_map() {
    let stores = ["joy", "happy", "sad", "calm"].map(String::from);
    assert_eq!(linear().labels_of(&stores), stores);
    let label_map =
        [("joy", "happy"), ("calm", "")].map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned()));
    assert_eq!(
        FinetuneRecipe {
            label_map: label_map.into(),
            ..linear()
        }
        .labels_of(&stores),
        ["happy", "sad"]
    );
}

#[test]
fn training_is_refused_while_another_process_holds_the_lock_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder(folder.path().to_owned());
    let _other = run.lock().unwrap();
    let features = SyntheticSet {
        train: 16,
        select: 8,
        test: 8,
        ..SyntheticSet::default()
    }
    .make();
    let error = train(&linear(), &features, vec![], None, None, &run, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("being trained by another process"),
        "{error}"
    );
    assert!(!run.at("run.json").exists());
}
