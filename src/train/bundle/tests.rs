//! Tests of the way from a store of few recordings over fine-tuning to a bundle and its card.

use super::*;
use crate::testing::project;
use crate::train::assess::{Assessment, RunPredictor, assess};
use crate::train::classify::StoreTraining;
use crate::train::data::Target;
use crate::train::fit::tests::GENERATOR;
use crate::train::store::{
    Entry, RECORDING, SCHEMA, Shard, ShardWriter, StoreSpec, StoredEncoder, WINDOW,
};

const LABELS: [&str; 5] = ["calm", "glad", "sad", "cross", "scared"];

/// Writes a store of 26 recordings, whose labels are [`LABELS`] in turn: 16 for training and 10 for
/// validation. `clips`: whether a row is a window or a whole recording. Embeddings depend on the
/// label only if `separable`. Returns the store's folder.
fn store(folder: &Path, clips: &str, separable: bool) -> PathBuf {
    let files = EncoderSetFiles::read(&[project("models/default")]).unwrap();
    let encoders: Vec<StoredEncoder> = files
        .manifest()
        .encoders
        .iter()
        .map(|e| StoredEncoder {
            name: e.name.clone(),
            modality: e.modality,
            dim: e.dim,
        })
        .collect();
    let spec = StoreSpec {
        schema: SCHEMA,
        fingerprint: files.fingerprint().to_owned(),
        dataset: "few".into(),
        labels: LABELS.map(String::from).to_vec(),
        clips: clips.into(),
        window: None,
        views: 1,
        encoders,
    };
    let path = folder.join("store");
    let mut writer = ShardWriter::open(&path, &spec, Shard::WHOLE).unwrap();
    for recording in 0..26 {
        let label = recording % LABELS.len();
        let item = format!("{recording:02}.mp4");
        let row = |window: usize| {
            let value = |i: usize| match separable && i % LABELS.len() == label {
                true => 1.0 + 0.01 * ((recording + window) % 3) as f32,
                false => 0.1,
            };
            let id = match clips {
                WINDOW => format!("{item}#{}", 200 * window),
                _ => item.clone(),
            };
            let entry = Entry {
                id,
                split: if recording < 16 {
                    Split::Train
                } else {
                    Split::Val
                },
                group: String::new(),
                target: Some(Target::Class(label)),
                present: vec![true, true, false],
                seconds: 2.0,
                text: None,
                view: 0,
            };
            (entry, (0..spec.dim()).map(value).collect::<Vec<f32>>())
        };
        let windows = if clips == WINDOW { 3 } else { 1 };
        writer
            .push(&item, &(0..windows).map(row).collect::<Vec<_>>())
            .unwrap();
    }
    path
}

/// Fine-tunes a linear classifier for face and voice on [`store`]. Returns the folder of the run.
fn finetuned(folder: &Path, clips: &str, separable: bool) -> PathBuf {
    let run = folder.join("run");
    classify::finetune(&StoreTraining {
        recipe: &project("config/train/linear.toml"),
        stores: &[store(folder, clips, separable)],
        from: None,
        run: Some(&run),
        modalities: &[Modality::Face, Modality::Voice],
    })
    .unwrap();
    run
}

#[test]
fn export_refuses_a_head_trained_on_whole_recordings_unless_allowed() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let run = finetuned(folder.path(), RECORDING, true);
    let (encoders, bundle) = ([project("models/default")], folder.path().join("bundle"));
    let error = export(&run, &encoders, &bundle, false, false).unwrap_err();
    assert_eq!(crate::train::refused::exit_code(&error), 2);
    let error = error.to_string();
    assert!(
        error.contains("means over whole recordings") && error.contains("--clips window"),
        "{error}"
    );
    assert!(!bundle.exists());
    export(&run, &encoders, &bundle, false, true).unwrap();
    let card = std::fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(
        card.contains("Training rows are means over whole recordings"),
        "{card}"
    );
}

#[test]
fn a_head_that_separates_few_recordings_answers_them() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let run = finetuned(folder.path(), WINDOW, true);
    let (_, _, calibration, _) = classify::load(&run).unwrap();
    assert_eq!(calibration.recordings, 10);
    assert!(
        calibration.subsets.values().all(|c| c.items == 10),
        "{calibration:?}"
    );
    assert!(calibration.answered.unwrap() > 0.9, "{calibration:?}");
    assert_eq!(calibration.low_coverage_warning(), None);
    let bundle = folder.path().join("bundle");
    export(&run, &[project("models/default")], &bundle, false, false).unwrap();
    let card = std::fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(
        card.contains("Training rows are windows as they are served"),
        "{card}"
    );
    assert!(!card.contains("hardly ever answers"), "{card}");
}

#[test]
fn card_and_report_warn_of_a_head_that_hardly_ever_answers() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let run = finetuned(folder.path(), WINDOW, false);
    let (_, _, calibration, _) = classify::load(&run).unwrap();
    assert_eq!(
        (calibration.abstain_threshold, calibration.answered),
        (0.45, Some(0.0))
    );
    let sentence = calibration.low_coverage_warning().unwrap();
    assert!(
        sentence.contains("0.0 % of the clips of 10 validation recordings"),
        "{sentence}"
    );
    let bundle = folder.path().join("bundle");
    export(&run, &[project("models/default")], &bundle, false, false).unwrap();
    let card = std::fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("hardly ever answers"), "{card}");

    // `evaluate` warns too. The windows of one recording are one resampling unit.
    let report = folder.path().join("report.html");
    let what = Assessment {
        measured: &run,
        stores: &[folder.path().join("store")],
        split: Some(Split::Val),
        report: Some(&report),
        json: false,
        command: String::new(),
    };
    assess(&what, &mut RunPredictor::open(&run).unwrap()).unwrap();
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("hardly ever answers"));
    let numbers = std::fs::read(report.with_extension("json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_slice(&numbers).unwrap();
    let measured = &numbers["measured"][0];
    assert_eq!(
        (&measured["items"], &measured["units"]),
        (&30.into(), &10.into())
    );
}
