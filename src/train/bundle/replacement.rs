//! Tests of `export` to the folder of an existing bundle.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::model::seal;
use crate::testing::project;
use crate::train::checkpoint::RunFolder;
use crate::train::classify::FinetuneRecipe;
use crate::train::data::Target;
use crate::train::fit::tests::GENERATOR;
use crate::train::refused::exit_code;
use crate::train::store::{Entry, SCHEMA, Shard, ShardWriter, StoreSpec, StoredEncoder};
use crate::train::synthetic::normals;

/// Writes an encoder set to `folder` that contains only the default bundle's face encoder. `graph`:
/// other contents for its ONNX file; `None`: the encoder's own.
fn encoder_set(folder: &Path, graph: Option<&[u8]>) {
    std::fs::create_dir(folder).unwrap();
    let default = project("models/default");
    let text = std::fs::read_to_string(default.join("manifest.toml")).unwrap();
    let mut manifest: Manifest = toml::from_str(&text).unwrap();
    manifest.encoders.retain(|e| e.modality == Modality::Face);
    (manifest.audio, manifest.text) = (None, None);
    let entry = &mut manifest.encoders[0];
    let bytes = graph.map_or(std::fs::read(default.join(&entry.file)).unwrap(), Vec::from);
    (entry.int8, entry.sha256) = (None, hex_sha256(&bytes));
    std::fs::write(folder.join(&entry.file), bytes).unwrap();
    std::fs::write(
        folder.join("manifest.toml"),
        toml::to_string(&manifest).unwrap(),
    )
    .unwrap();
    seal(folder).unwrap();
}

/// Fine-tunes a classifier on a store of random embeddings of the encoder set in `encoders`. Store
/// and run are written to `folder`. Returns the folder of the run.
fn finetuned_run(encoders: &Path, folder: &Path, seed: u64) -> PathBuf {
    let files = EncoderSetFiles::read(&[encoders.to_owned()]).unwrap();
    let face = &files.manifest().encoders[0];
    let spec = StoreSpec {
        schema: SCHEMA,
        fingerprint: files.fingerprint().to_owned(),
        dataset: "folder".into(),
        labels: vec!["sad".into(), "happy".into()],
        clips: "window".into(),
        window: None,
        views: 1,
        encoders: vec![StoredEncoder {
            name: face.name.clone(),
            modality: face.modality,
            dim: face.dim,
        }],
    };
    let (store, run) = (
        folder.join(format!("store{seed}")),
        folder.join(format!("run{seed}")),
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let mut writer = ShardWriter::open(&store, &spec, Shard::WHOLE).unwrap();
    for clip in 0..24 {
        let entry = Entry {
            id: format!("{clip:02}"),
            split: if clip < 16 { Split::Train } else { Split::Val },
            group: String::new(),
            target: Some(Target::Class(clip % 2)),
            present: vec![true],
            seconds: 1.0,
            text: None,
            view: 0,
        };
        let values = normals(face.dim, 1.0, &mut rng);
        writer.push(&entry.id.clone(), &[(entry, values)]).unwrap();
    }
    drop(writer);
    let recipe = FinetuneRecipe {
        modalities: vec![Modality::Face],
        representation: 16,
        epochs: 1,
        seed,
        ..FinetuneRecipe::read(&project("config/train/linear.toml")).unwrap()
    };
    let features = Features::open(std::slice::from_ref(&store)).unwrap();
    let features = features.with_modalities(&recipe.modalities).unwrap();
    let stores = vec![store.display().to_string()];
    let folder = RunFolder(run.clone());
    classify::train(&recipe, &features, stores, None, None, &folder, false).unwrap();
    run
}

/// Names and contents of the files in `folder`, sorted by name.
fn file_contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(e.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_failed_export_leaves_the_existing_bundle_unchanged() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (good, broken, bundle) = (at("good"), at("broken"), at("bundles/mine"));
    encoder_set(&good, None);
    // The hash of the broken graph is right, so export fails only when it computes the goldens.
    encoder_set(&broken, Some(b"no graph"));
    let first = finetuned_run(&good, folder.path(), 1);
    let second = finetuned_run(&good, folder.path(), 2);
    let of_broken = finetuned_run(&broken, folder.path(), 3);
    let open = || Bundle::open(&Runtime::load().unwrap(), &bundle, Provider::Cpu, 1).unwrap();

    export(&first, std::slice::from_ref(&good), &bundle, false, false).unwrap();
    let (old, opened) = (file_contents(&bundle), open());
    let error = export(&second, std::slice::from_ref(&good), &bundle, false, false).unwrap_err();
    assert!(error.to_string().contains("add --overwrite"), "{error}");
    assert_eq!(exit_code(&error), 2);
    assert!(file_contents(&bundle) == old);

    let error = export(&of_broken, &[broken], &bundle, true, false).unwrap_err();
    assert!(format!("{error:#}").contains("graph"), "{error:#}");
    assert!(file_contents(&bundle) == old, "{error:#}");
    open();
    let beside: Vec<_> = std::fs::read_dir(at("bundles")).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left beside it: {beside:?}");

    export(&second, &[good], &bundle, true, false).unwrap();
    let renewed = open();
    assert!(file_contents(&bundle) != old);
    // The new bundle has the same encoders and another head.
    assert_eq!(renewed.manifest.fingerprint, opened.manifest.fingerprint);
    assert_ne!(
        renewed.manifest.score_fingerprint(),
        opened.manifest.score_fingerprint()
    );
}
