//! Two fingerprints of a manifest: one of everything that determines the embeddings, one of
//! everything that determines the scores.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FacePreprocessing, FurtherHead, HeadEntry,
    HeadKind, Manifest, PREPROCESS_VERSION, Task, TextPreprocessing, WindowRule, hex_sha256,
};
use crate::modality::Modality;

impl Manifest {
    /// SHA-256, 64 hexadecimal digits, of everything that determines the embeddings:
    /// [`PREPROCESS_VERSION`], window, preprocessing settings and the encoders' hashes.
    ///
    /// Only the hashes of fp32 graphs are included. An int8 graph approximates an fp32 graph
    /// without training and is kept only if its measured loss is negligible. Stores are extracted
    /// with the fp32 graphs, heads are trained on these rows, and the same head serves either
    /// graph. An event's `provenance.precision` names the precision in use, and each file is
    /// checked against its hash.
    pub fn compute_fingerprint(&self) -> String {
        #[derive(Serialize)]
        struct Canonical<'a> {
            preprocess_version: u32,
            window: &'a WindowRule,
            face: &'a Option<FacePreprocessing>,
            audio: &'a Option<AudioPreprocessing>,
            text: &'a Option<TextPreprocessing>,
            encoders: Vec<Vec<serde_json::Value>>,
        }
        // Options that an entry lacks are left out, so that older bundles keep their fingerprint.
        let canonical_entry = |entry: &EncoderEntry| {
            let mut all = vec![json!(entry.name), json!(entry.sha256)];
            all.extend(entry.rate_hz.map(|rate_hz| json!({ "rate_hz": rate_hz })));
            all.extend(
                entry
                    .normalise
                    .as_ref()
                    .map(|normalise| json!({ "normalise": normalise })),
            );
            all
        };
        let canonical = Canonical {
            preprocess_version: PREPROCESS_VERSION,
            window: &self.window,
            face: &self.face,
            audio: &self.audio,
            text: &self.text,
            encoders: self.encoders.iter().map(canonical_entry).collect(),
        };
        hex_sha256(&serde_json::to_vec(&canonical).expect("settings serialise"))
    }

    /// SHA-256, 64 hexadecimal digits, of everything that determines the scores: the inputs of
    /// [`Manifest::compute_fingerprint`], the int8 graphs, task, labels and all heads.
    ///
    /// Events contain this fingerprint. Bundles that may give different scores for a clip differ in
    /// it, even if only their heads differ and they share a feature store.
    pub fn score_fingerprint(&self) -> String {
        // A struct and not a JSON map: the order of its fields does not depend on serde_json's
        // features.
        #[derive(Serialize)]
        struct Canonical<'a> {
            embeddings: String,
            encoders: Vec<(&'a str, Modality, EncoderKind, Option<&'a str>)>,
            task: Task,
            labels: &'a [String],
            head: &'a str,
            inputs: &'a [String],
            temperature: &'a BTreeMap<String, f32>,
            abstain_threshold: f32,
            // Left out of manifests with a single head, so that these keep their fingerprint.
            #[serde(skip_serializing_if = "Option::is_none")]
            output: Option<usize>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            further: Vec<Further<'a>>,
        }
        #[derive(Serialize)]
        struct Further<'a> {
            name: &'a str,
            kind: HeadKind,
            labels: &'a [String],
            range: &'a [[f32; 2]],
            derived: bool,
            head: &'a str,
            output: usize,
            inputs: &'a [String],
            abstain_threshold: Option<f32>,
            temperature: &'a BTreeMap<String, f32>,
            scale: &'a BTreeMap<String, Vec<[f32; 2]>>,
        }
        fn further(entry: &FurtherHead) -> Further<'_> {
            let FurtherHead {
                name,
                kind,
                labels,
                range,
                derived,
                file: _,
                sha256,
                output,
                inputs,
                abstain_threshold,
                temperature,
                scale,
            } = entry;
            Further {
                name,
                kind: *kind,
                labels,
                range,
                derived: *derived,
                head: sha256,
                output: *output,
                inputs,
                abstain_threshold: *abstain_threshold,
                temperature,
                scale,
            }
        }
        fn encoder(entry: &EncoderEntry) -> (&str, Modality, EncoderKind, Option<&str>) {
            let int8 = entry.int8.as_ref().map(|int8| int8.sha256.as_str());
            (&entry.name, entry.modality, entry.kind, int8)
        }
        // The pattern names every field, so that a new field of the head must be included or left
        // out here.
        let HeadEntry {
            name: _,
            file: _,
            sha256,
            output,
            inputs,
            temperature,
            abstain_threshold,
        } = &self.head;
        let canonical = Canonical {
            embeddings: self.compute_fingerprint(),
            encoders: self.encoders.iter().map(encoder).collect(),
            task: self.task,
            labels: &self.labels,
            head: sha256,
            inputs,
            temperature,
            abstain_threshold: *abstain_threshold,
            output: (*output != 0).then_some(*output),
            further: self.further.iter().map(further).collect(),
        };
        hex_sha256(&serde_json::to_vec(&canonical).expect("settings serialise"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Int8Entry;
    use crate::testing::project;

    fn default_bundle() -> Manifest {
        let text = std::fs::read_to_string(project("models/default/manifest.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    /// (Name, change of a manifest, whether the change also affects the embeddings).
    type Change = (&'static str, fn(&mut Manifest), bool);

    #[test]
    fn every_change_of_scores_changes_the_score_fingerprint() {
        let changes: [Change; 10] = [
            ("head", |m| m.head.sha256 = "0".repeat(64), false),
            ("inputs", |m| m.head.inputs.reverse(), false),
            (
                "temperature",
                |m| _ = m.head.temperature.insert("face".into(), 0.123),
                false,
            ),
            ("abstention", |m| m.head.abstain_threshold += 0.001, false),
            ("order of labels", |m| m.labels.swap(0, 1), false),
            ("task", |m| m.task = Task::Multi, false),
            (
                "int8 graph",
                |m| {
                    m.encoders[0].int8 = Some(Int8Entry {
                        file: "face.int8.onnx".into(),
                        sha256: "1".repeat(64),
                    });
                },
                false,
            ),
            ("encoder", |m| m.encoders[0].sha256 = "2".repeat(64), true),
            ("window", |m| m.window.length_ms += 1, true),
            (
                "preprocessing",
                |m| m.face.as_mut().unwrap().min_quality += 0.01,
                true,
            ),
        ];
        let default = default_bundle();
        let mut seen = vec![default.score_fingerprint()];
        for (what, change, of_embeddings) in changes {
            let mut changed = default.clone();
            change(&mut changed);
            let found = changed.score_fingerprint();
            assert!(found.len() == 64 && !seen.contains(&found), "{what}");
            seen.push(found);
            assert_eq!(
                changed.compute_fingerprint() != default.fingerprint,
                of_embeddings,
                "{what}: stores of the same encoders must match"
            );
        }
        // File names, the bundle's name and texts about the origin of weights do not affect scores.
        let mut renamed = default.clone();
        renamed.name = "other".into();
        renamed.head.file = "other.onnx".into();
        renamed.encoders[0].source = "elsewhere".into();
        assert_eq!(renamed.score_fingerprint(), default.score_fingerprint());
    }

    /// Stores and runs hold the fingerprint of the embeddings, so its computation must not change.
    #[test]
    fn the_embedding_fingerprint_of_the_default_bundle_does_not_change() {
        let default = default_bundle();
        assert_eq!(default.compute_fingerprint(), default.fingerprint);
    }
}
