//! Fuzz test of bundle manifests.

use super::*;
use crate::testing::fuzz::Target;
use crate::testing::project;

/// A manifest that uses the options that the default bundle leaves out.
const OPTIONS: &str = r#"
schema = 1
name = "x"
task = "multi"
labels = ["a", "b"]
fingerprint = ""
[window]
length_ms = 3000
hop_ms = 1000
[face]
size = 64
channels = 3
rate_hz = 25.0
template = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.75], [0.65, 0.75]]
min_quality = 0.0
[face.normalise]
kind = "fixed"
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.2, 0.2]
[[encoder]]
name = "face"
modality = "face"
kind = "window"
file = "face.onnx"
sha256 = ""
input = [3, 0, 64, 64]
dim = 512
rate_hz = 5.0
normalise = { kind = "per_crop", floor = 0.02 }
frozen = true
source = "x"
licence = "MIT"
[head]
file = "head.onnx"
sha256 = ""
inputs = ["face"]
abstain_threshold = 0.0
[head.temperature]
face = 1.0
"#;

/// `text` with its `[head]` as the first of two `[[head]]`, as schema 2 has them.
fn with_two_heads(text: &str) -> String {
    let (before, _) = text.split_once("[head]").expect("a manifest has a head");
    let head = |name: &str, rest: &str| {
        format!(
            "[[head]]\nname = \"{name}\"\nfile = \"head.onnx\"\nsha256 = \"\"\n\
             inputs = [\"face\"]\n{rest}\n"
        )
    };
    before
        .replace("schema = 1", "schema = 2")
        .lines()
        .filter(|line| !line.starts_with("task") && !line.starts_with("labels"))
        .map(|line| line.to_owned() + "\n")
        .chain([
            head(
                "expression",
                "kind = \"multi\"\nlabels = [\"a\", \"b\"]\nabstain_threshold = 0.1\n\
                 temperature = { face = 2.0 }",
            ),
            head(
                "affect",
                "kind = \"regression\"\nlabels = [\"valence\"]\nrange = [[-1.0, 1.0]]\n\
                 derived = true\noutput = 1\nscale = { face = [[2.0, 0.5]] }",
            ),
        ])
        .collect()
}

#[test]
fn the_seed_with_two_heads_is_a_manifest_without_faults_in_its_heads() {
    let manifest: Manifest = toml::from_str(&with_two_heads(OPTIONS)).unwrap();
    assert_eq!(manifest.further.len(), 1);
    assert_eq!(manifest.faults(), manifest.encoder_faults());
}

/// An accepted manifest is unchanged, with the same faults and fingerprint, after it is written and
/// read again. An error has a text.
fn check(input: &[u8]) {
    // Decoded as `Bundle` decodes it.
    let text = String::from_utf8_lossy(input);
    let manifest: Manifest = match toml::from_str(&text) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            return;
        }
    };
    let faults = manifest.faults();
    assert!(faults.iter().all(|fault| !fault.trim().is_empty()));
    assert!(faults.len() >= manifest.encoder_faults().len());
    let fingerprint = manifest.compute_fingerprint();
    assert_eq!(fingerprint.len(), 64);
    // The texts are compared, because NaN differs from itself.
    let written = toml::to_string(&manifest).expect("a manifest is TOML");
    let again: Manifest = toml::from_str(&written).unwrap_or_else(|error| {
        panic!("{error}\n{written}");
    });
    assert_eq!(format!("{again:?}"), format!("{manifest:?}"));
    assert_eq!(again.compute_fingerprint(), fingerprint);
    assert_eq!(again.faults(), faults);
}

#[test]
fn mutated_manifests_are_read_or_refused() {
    let default = std::fs::read(project("models/default/manifest.toml")).unwrap();
    Target::text("manifest", 3000)
        .seeds([default, OPTIONS.into(), with_two_heads(OPTIONS).into()])
        .words(&[
            "frame",
            "utterance",
            "power",
            "min_max",
            "int8",
            "[[encoder]]",
            "[[head]]",
            "regression",
            "rate_hz",
        ])
        .run(check);
}
