//! Tests of replacing a bundle by `export`.

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

/// An encoder set of the default bundle's face encoder; `graph` replaces its file.
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

/// Fine-tunes on a store of random embeddings of that set. Returns the run's folder.
fn run_over(encoders: &Path, folder: &Path, seed: u64) -> PathBuf {
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

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
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
fn an_export_that_fails_half_way_leaves_the_old_bundle_whole() {
    let _turn = GENERATOR.lock();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (good, broken, bundle) = (at("good"), at("broken"), at("bundles/mine"));
    encoder_set(&good, None);
    // Its hash is right, so that the export notices it only when it makes the goldens.
    encoder_set(&broken, Some(b"no graph"));
    let first = run_over(&good, folder.path(), 1);
    let second = run_over(&good, folder.path(), 2);
    let of_broken = run_over(&broken, folder.path(), 3);
    let open = || Bundle::open(&Runtime::load().unwrap(), &bundle, Provider::Cpu, 1).unwrap();

    export(&first, std::slice::from_ref(&good), &bundle, false, false).unwrap();
    let (old, opened) = (files(&bundle), open());
    let error = export(&second, std::slice::from_ref(&good), &bundle, false, false).unwrap_err();
    assert!(error.to_string().contains("add --overwrite"), "{error}");
    assert_eq!(exit_code(&error), 2);
    assert!(files(&bundle) == old);

    let error = export(&of_broken, &[broken], &bundle, true, false).unwrap_err();
    assert!(format!("{error:#}").contains("graph"), "{error:#}");
    assert!(files(&bundle) == old, "{error:#}");
    open();
    let beside: Vec<_> = std::fs::read_dir(at("bundles")).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left beside it: {beside:?}");

    export(&second, &[good], &bundle, true, false).unwrap();
    let renewed = open();
    assert!(files(&bundle) != old);
    // Of the same encoders, with another head.
    assert_eq!(renewed.manifest.fingerprint, opened.manifest.fingerprint);
    assert_ne!(
        renewed.manifest.score_fingerprint(),
        opened.manifest.score_fingerprint()
    );
}
