//! Fingerprints of a manifest: of everything that determines the embeddings, and of everything that
//! determines the scores.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use super::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FacePreprocessing, HeadEntry, Manifest,
    PREPROCESS_VERSION, Task, TextPreprocessing, WindowRule, hex_sha256,
};
use crate::modality::Modality;

impl Manifest {
    /// SHA-256 of everything that determines the embeddings: the preprocessing version, the
    /// canonical settings, the encoders' hashes.
    ///
    /// It covers the fp32 graphs only: an int8 graph approximates one without training, and is kept
    /// only if its measured loss is negligible. Stores are extracted with the fp32 graphs, heads
    /// are trained on those rows, and the same head serves either graph. An event's
    /// `provenance.precision` names the graph in use, and each file is checked against its hash.
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
        // Absent options are left out, so that older bundles keep their fingerprint.
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

    /// SHA-256 of everything that determines the scores, 64 hexadecimal digits: the inputs of
    /// [`Manifest::compute_fingerprint`], the int8 graphs, task, labels and head.
    ///
    /// Events contain it. Two bundles that may give different scores for a clip have different
    /// values, even if only their heads differ and both can use the same feature store.
    pub fn score_fingerprint(&self) -> String {
        // A struct: its fields keep their order, whatever features serde_json is built with.
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
        }
        fn encoder(entry: &EncoderEntry) -> (&str, Modality, EncoderKind, Option<&str>) {
            let int8 = entry.int8.as_ref().map(|int8| int8.sha256.as_str());
            (&entry.name, entry.modality, entry.kind, int8)
        }
        // Exhaustive, so that a new field of the head is decided upon here.
        let HeadEntry {
            file: _,
            sha256,
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

    /// A change, and whether it changes the embeddings too.
    type Change = (&'static str, fn(&mut Manifest), bool);

    #[test]
    fn whatever_changes_scores_changes_their_fingerprint() {
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
        // Names of files and texts of provenance change no score.
        let mut renamed = default.clone();
        renamed.name = "other".into();
        renamed.head.file = "other.onnx".into();
        renamed.encoders[0].source = "elsewhere".into();
        assert_eq!(renamed.score_fingerprint(), default.score_fingerprint());
    }

    /// Stores and runs hold the embeddings' fingerprint, so its rule stays.
    #[test]
    fn the_fingerprint_of_embeddings_keeps_its_value() {
        let default = default_bundle();
        assert_eq!(default.compute_fingerprint(), default.fingerprint);
    }
}
