//! Tests of reading several stores as one: labels, kinds of rows, refusal of NaN.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::manifest::Task;
use crate::train::data::Split;
use crate::train::labelled::LabelledClips;
use crate::train::metrics::Truth;
use crate::train::store::{SCHEMA, Shard, ShardWriter, StoredEncoder};

/// Writes a store with one training row per entry of `targets`. Returns its folder. Each row has a
/// face embedding of length 2 and a voice embedding of length 1.
fn store(folder: &Path, name: &str, labels: &[&str], targets: &[Option<Target>]) -> PathBuf {
    let encoder = |name: &str, modality, dim| StoredEncoder {
        name: name.into(),
        modality,
        dim,
    };
    let spec = StoreSpec {
        schema: SCHEMA,
        fingerprint: "f".into(),
        dataset: name.into(),
        labels: labels.iter().map(|label| label.to_string()).collect(),
        clips: "recording".into(),
        window: None,
        views: 1,
        encoders: vec![
            encoder("face", Modality::Face, 2),
            encoder("voice", Modality::Voice, 1),
        ],
    };
    let path = folder.join(name);
    let mut writer = ShardWriter::open(&path, &spec, Shard::WHOLE).unwrap();
    for (i, target) in targets.iter().enumerate() {
        let id = format!("{name}{i}");
        let (group, target) = (String::new(), target.clone());
        let entry = Entry {
            id: id.clone(),
            split: Split::Train,
            group,
            target,
            present: vec![true; 2],
            seconds: 1.0,
            text: None,
            view: 0,
        };
        writer.push(&id, &[(entry, vec![i as f32; 3])]).unwrap();
    }
    path
}

/// Targets of one class each.
fn classes<const N: usize>(classes: [usize; N]) -> [Option<Target>; N] {
    classes.map(|class| Some(Target::Class(class)))
}

#[test]
fn targets_of_each_store_are_mapped_by_its_own_list_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let talk = store(folder.path(), "talk", &[], &[None]);
    let a = store(folder.path(), "a", &["sad", "happy"], &classes([0, 1]));
    let b = store(
        folder.path(),
        "b",
        &["happy", "calm", "sad"],
        &classes([0, 1, 2]),
    );
    let features = Features::open(&[talk, a, b.clone()]).unwrap();
    assert_eq!(features.spec().labels, ["sad", "happy", "calm"]);
    assert_eq!(features.spec().dataset, "a + b");
    let targets: Vec<Option<Target>> = (0..features.count())
        .map(|row| features.target(row).unwrap())
        .collect();
    assert_eq!(
        targets,
        [&[None][..], &classes([0, 1])[..], &classes([1, 2, 0])[..]].concat()
    );

    let ours = ["happy", "sad"].map(String::from);
    let map = BTreeMap::from([("calm".to_owned(), String::new())]);
    let found = LabelledClips::find(&features, Split::Train, Task::Single, &ours, &map).unwrap();
    assert_eq!(
        (found.rows, found.truth),
        (vec![1, 2, 3, 5], Truth::Classes(vec![1, 0, 0, 1]))
    );
    assert_eq!(
        LabelledClips::unmapped_counts(&features, Some(Split::Train), &map).unwrap(),
        [("calm".to_owned(), 1)]
    );
    assert!(
        LabelledClips::unmapped_counts(&features, Some(Split::Test), &map)
            .unwrap()
            .is_empty()
    );
    let error = LabelledClips::find(
        &features,
        Split::Train,
        Task::Single,
        &ours,
        &BTreeMap::new(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("calm") && error.contains("label_map of a recipe of finetune"),
        "{error}"
    );
    // A label list that does not match the clips is an error.
    let spec = std::fs::read_to_string(b.join("store.json"))
        .unwrap()
        .replace(r#""sad""#, "")
        .replace(r#""calm","#, r#""calm""#);
    std::fs::write(b.join("store.json"), spec).unwrap();
    let features = Features::open(&[b]).unwrap();
    assert!(features.target(1).is_ok());
    assert!(features.target(2).unwrap_err().to_string().contains("b2"));
}

#[test]
fn stores_with_different_kinds_of_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| store(folder.path(), name, &["happy"], &classes([0])));
    let text = std::fs::read_to_string(b.join("store.json")).unwrap();
    std::fs::write(
        b.join("store.json"),
        text.replace(r#""recording""#, r#""recording_mean""#),
    )
    .unwrap();
    let error = Features::open(&[a, b]).unwrap_err().to_string();
    assert!(
        error.contains("another thing (recording_mean)") && error.contains("(recording)"),
        "{error}"
    );
}

#[test]
fn multi_label_stores_are_joined_and_not_mixed_with_single_label_ones() {
    let folder = tempfile::tempdir().unwrap();
    let several = |values: [f32; 2]| Some(Target::Values(values.to_vec()));
    let a = store(
        folder.path(),
        "a",
        &["sad", "happy"],
        &[several([1.0, 0.0])],
    );
    let b = store(folder.path(), "b", &["calm", "sad"], &[several([2.0, 3.0])]);
    let one = store(folder.path(), "one", &["sad", "happy"], &classes([0]));
    let features = Features::open(&[a, b.clone()]).unwrap();
    assert_eq!(
        features.target(1).unwrap(),
        Some(Target::Values(vec![3.0, 0.0, 2.0]))
    );
    let find = |features: &Features| {
        LabelledClips::find(
            features,
            None::<Split>,
            Task::Multi,
            &features.spec().labels,
            &BTreeMap::new(),
        )
    };
    assert_eq!(
        find(&features).unwrap().truth,
        Truth::Labels(vec![true, false, false, true, false, true])
    );
    // Pre-training reads both stores, because it uses no labels; labelled clips are refused.
    let features = Features::open(&[one.clone(), b.clone()]).unwrap();
    let error = find(&features).unwrap_err().to_string();
    assert!(
        [one, b]
            .iter()
            .all(|path| error.contains(&*path.to_string_lossy()))
            && error.contains("can not be mixed"),
        "{error}"
    );
}

#[test]
fn values_that_are_not_finite_are_reported_with_store_item_and_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path(), "a", &[], &[None, None]);
    let good = Features::open(std::slice::from_ref(&path)).unwrap();
    for (value, at, encoder) in [(f32::NAN, 1, "face"), (f32::INFINITY, 2, "voice")] {
        let mut values = [0.0; 3];
        values[at] = value;
        let other = store(folder.path(), encoder, &[], &[]);
        let mut writer = ShardWriter::open(
            &other,
            &StoreSpec {
                dataset: encoder.into(),
                ..good.spec().clone()
            },
            Shard::WHOLE,
        )
        .unwrap();
        writer
            .push(
                "clip",
                &[(
                    Entry {
                        id: "clip".into(),
                        ..good.entry(0).clone()
                    },
                    values.to_vec(),
                )],
            )
            .unwrap();
        let features = Features::open(&[path.clone(), other.clone()]).unwrap();
        assert!(features.batch(&[0, 1]).is_ok());
        let error = features.batch(&[0, 1, 2]).unwrap_err().to_string();
        let is_named = [
            &*other.to_string_lossy(),
            "row of clip",
            &format!("encoder {encoder}"),
            "no number",
        ]
        .iter()
        .all(|part| error.contains(*part));
        assert!(is_named, "{error}");
    }
}
