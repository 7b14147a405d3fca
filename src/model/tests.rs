//! Tests with an int8 encoder: the default bundle's face encoder, quantised on generated pictures.

use std::fs;

use super::golden::{Goldens, golden_crop, golden_samples};
use super::*;
use crate::manifest::Int8Entry;
use crate::onnx::quantise::{Example, quantise};
use crate::preprocess::normalise;
use crate::recognize::embed;
use crate::testing::project;

/// File name of the int8 graph.
const FILE: &str = "face.int8.onnx";

fn runtime() -> Runtime {
    Runtime::load().expect("ONNX Runtime; run `make setup`")
}

fn read_manifest(folder: &Path) -> Manifest {
    toml::from_str(&fs::read_to_string(folder.join("manifest.toml")).unwrap()).unwrap()
}

/// Writes the manifest and then SHA256SUMS.
fn write_manifest(folder: &Path, manifest: &Manifest) {
    fs::write(
        folder.join("manifest.toml"),
        toml::to_string(manifest).unwrap(),
    )
    .unwrap();
    seal(folder).unwrap();
}

/// Copies the default bundle into `folder`, without its int8 graphs.
pub(crate) fn copy_default_bundle(folder: &Path) {
    for entry in fs::read_dir(project("models/default"))
        .unwrap()
        .map(Result::unwrap)
    {
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let mut manifest = read_manifest(folder);
    manifest
        .encoders
        .iter_mut()
        .for_each(|encoder| encoder.int8 = None);
    let mut goldens: Goldens =
        serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap();
    goldens.cases.iter_mut().for_each(|case| case.int8.clear());
    fs::write(
        folder.join("golden.json"),
        serde_json::to_vec(&goldens).unwrap(),
    )
    .unwrap();
    write_manifest(folder, &manifest);
}

/// Adds an int8 face encoder to the bundle in `folder`, as an export does.
fn add_int8_face(folder: &Path) {
    let mut manifest = read_manifest(folder);
    let face = manifest.face.clone().unwrap();
    let example = |seed| Example {
        shape: vec![1, face.channels, face.size, face.size],
        values: normalise(
            &golden_crop(seed, 0, face.size, face.channels),
            &face.normalise,
        ),
    };
    let made = quantise(
        &runtime(),
        &fs::read(folder.join("face.onnx")).unwrap(),
        &(0..60).map(example).collect::<Vec<_>>(),
    )
    .unwrap();
    fs::write(folder.join(FILE), &made.bytes).unwrap();
    manifest
        .encoders
        .iter_mut()
        .find(|e| e.name == "face")
        .unwrap()
        .int8 = Some(Int8Entry {
        file: FILE.into(),
        sha256: hex_sha256(&made.bytes),
    });
    let (encoders, tokenizer) = EncoderFiles::read(folder, &manifest)
        .unwrap()
        .open(&runtime(), folder, &manifest, Provider::Cpu, 1)
        .unwrap();
    let head = Graph::open(
        &runtime(),
        "head",
        &fs::read(folder.join("head.onnx")).unwrap(),
        Provider::Cpu,
        1,
    )
    .unwrap();
    let mut bundle = Bundle {
        manifest: manifest.clone(),
        encoders,
        tokenizer,
        head,
        further: Vec::new(),
    };
    let mut goldens: Goldens =
        serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap();
    for case in goldens.cases.iter_mut().filter(|case| case.face_frames > 0) {
        let crops: Vec<_> = (0..case.face_frames)
            .map(|i| golden_crop(case.seed, i as u32, face.size, face.channels).into())
            .collect();
        let face = embed(&mut bundle, &crops, None, None)
            .unwrap()
            .remove("face")
            .unwrap();
        case.int8.insert("face".into(), face);
    }
    fs::write(
        folder.join("golden.json"),
        serde_json::to_vec(&goldens).unwrap(),
    )
    .unwrap();
    write_manifest(folder, &manifest);
}

fn open(folder: &Path, provider: Provider) -> Result<Bundle, BundleError> {
    Bundle::open(&runtime(), folder, provider, 1)
}

#[test]
fn the_cpu_runs_the_int8_graph_with_a_similar_embedding() {
    let folder = tempfile::tempdir().unwrap();
    copy_default_bundle(folder.path());
    let mut float = open(folder.path(), Provider::Cpu).unwrap();
    assert_eq!(
        (float.precision(), float.int8_encoders().count()),
        (Precision::Fp32, 0)
    );
    add_int8_face(folder.path());
    let mut int8 = open(folder.path(), Provider::Cpu).unwrap();
    assert_eq!(
        (int8.precision(), int8.int8_encoders().collect::<Vec<_>>()),
        (Precision::Int8, vec!["face"])
    );
    assert_eq!(
        int8.manifest.fingerprint, float.manifest.fingerprint,
        "embeddings mean the same"
    );
    let crops = [std::sync::Arc::new(golden_crop(77, 0, 48, 1))];
    let samples = golden_samples(77, 32_000);
    let [a, b] =
        [&mut float, &mut int8].map(|bundle| embed(bundle, &crops, Some(&samples), None).unwrap());
    let product = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    let alike = product(&a["face"], &b["face"])
        / (product(&a["face"], &a["face"]) * product(&b["face"], &b["face"])).sqrt();
    assert!(a["face"] != b["face"] && alike > 0.95, "{alike}");
    assert_eq!(a["voice"], b["voice"]);
    // Without a GPU, `Auto` is the CPU.
    let auto = open(folder.path(), Provider::Auto).unwrap();
    assert_eq!(
        auto.precision() == Precision::Int8,
        auto.provider() == Provider::Cpu
    );
}

#[test]
fn an_int8_entry_round_trips_and_its_file_and_goldens_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    copy_default_bundle(folder.path());
    let before = read_manifest(folder.path());
    assert!(
        !toml::to_string(&before).unwrap().contains("int8"),
        "bundles without such look as they always did"
    );
    add_int8_face(folder.path());
    let after = read_manifest(folder.path());
    assert_eq!(
        toml::from_str::<Manifest>(&toml::to_string(&after).unwrap()).unwrap(),
        after
    );
    assert_eq!(after.compute_fingerprint(), before.fingerprint);
    // Goldens without int8 embeddings, as from an older export, fail the self-test.
    let kept = fs::read(folder.path().join("golden.json")).unwrap();
    let mut goldens: Goldens = serde_json::from_slice(&kept).unwrap();
    goldens.cases.iter_mut().for_each(|case| case.int8.clear());
    fs::write(
        folder.path().join("golden.json"),
        serde_json::to_vec(&goldens).unwrap(),
    )
    .unwrap();
    seal(folder.path()).unwrap();
    assert!(matches!(
        open(folder.path(), Provider::Cpu),
        Err(BundleError::SelfTest { .. })
    ));
    fs::write(folder.path().join("golden.json"), kept).unwrap();
    // Another graph with the int8 file's name: SHA256SUMS is correct, the hash in the manifest is
    // not.
    fs::copy(folder.path().join("face.onnx"), folder.path().join(FILE)).unwrap();
    seal(folder.path()).unwrap();
    assert!(matches!(
        open(folder.path(), Provider::Cpu),
        Err(BundleError::WrongHash { file, .. }) if file == FILE
    ));
}
