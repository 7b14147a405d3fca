//! The heads of a manifest: the primary one, which has labels, and further ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Manifest, SCHEMA, SCHEMA_OF_HEADS};
use crate::modality::Presence;

/// How many labels a clip has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Exactly one label a clip: scores are the softmax of the logits.
    Single,
    /// Any number of labels a clip: each score is the sigmoid of its logit.
    Multi,
}

/// The primary head: the classifier over embeddings. Its graph takes one embedding `[batch, dim]`
/// for each entry of `inputs`, in this order; an absent modality is zeros. The last input is the
/// presence `[batch, inputs]` of 0 and 1. The output is logits `[batch, labels]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadEntry {
    /// Name of the head; empty with [`SCHEMA`].
    #[serde(skip)]
    pub name: String,
    /// Name of the head's ONNX file beside the manifest.
    pub file: String,
    /// SHA-256 of `file`, 64 hexadecimal digits.
    pub sha256: String,
    /// Index of the graph's output that has the logits; 0 with [`SCHEMA`].
    #[serde(skip)]
    pub output: usize,
    /// Names of the encoders whose embeddings the graph takes, in the order of its inputs.
    pub inputs: Vec<String>,
    /// The temperature for each subset of modalities, by [`Presence::name`]. Logits are divided by
    /// it before the softmax or sigmoid.
    pub temperature: BTreeMap<String, f32>,
    /// Confidence, in [0, 1], below which the recognition abstains.
    pub abstain_threshold: f32,
}

/// What a head gives for a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// The scores of labels of which a clip has exactly one: the softmax of the outputs.
    Single,
    /// The scores of labels of which a clip has any number: the sigmoid of each output.
    Multi,
    /// Numbers, each within its range.
    Regression,
}

impl From<Task> for HeadKind {
    fn from(task: Task) -> HeadKind {
        match task {
            Task::Single => HeadKind::Single,
            Task::Multi => HeadKind::Multi,
        }
    }
}

/// One `[[head]]` beside the primary one. Its graph has the inputs that [`HeadEntry`] describes;
/// its output is `[batch, labels]`. Heads may share a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherHead {
    /// Name of the head, its key in an event's field `also`.
    pub name: String,
    pub kind: HeadKind,
    /// Names of the labels or numbers, in the order of the output.
    pub labels: Vec<String>,
    /// Regression: the lowest and highest value of each number. Values outside are clamped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<[f32; 2]>,
    /// Regression: whether the numbers are computed from other labels instead of learned from
    /// ratings of their own. Events state it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub derived: bool,
    /// Name of the head's ONNX file beside the manifest.
    pub file: String,
    /// SHA-256 of `file`, 64 hexadecimal digits.
    pub sha256: String,
    /// Index of the graph's output that this head reads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output: usize,
    /// Names of the encoders whose embeddings the graph takes, in the order of its inputs.
    pub inputs: Vec<String>,
    /// Labels: the head gives no answer for a clip if all scores are below this value, in [0, 1].
    /// `None`: it always answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstain_threshold: Option<f32>,
    /// Labels: the temperature for each subset of the inputs' modalities, by [`Presence::name`];
    /// 1 for a subset without one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub temperature: BTreeMap<String, f32>,
    /// Regression: slope and offset of each number for each subset of the inputs' modalities, by
    /// [`Presence::name`]; slope 1 and offset 0 for a subset without an entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scale: BTreeMap<String, Vec<[f32; 2]>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Names that a head may not have: the fields of an `expression` event that hold an answer.
const RESERVED: [&str; 8] = [
    "scores",
    "values",
    "top",
    "confidence",
    "abstain",
    "also",
    "derived",
    "modalities",
];

/// A sentence for each fault of the schema's version and of the heads' names, files and further
/// entries. [`Manifest::faults`] checks the rest of the primary head.
pub(super) fn faults(manifest: &Manifest) -> Vec<String> {
    let mut faults = Vec::new();
    let (schema, head) = (manifest.schema, &manifest.head);
    let is_list = !head.name.is_empty();
    if schema == SCHEMA && is_list {
        faults.push(format!(
            "schema is {SCHEMA}, a list [[head]] needs schema {SCHEMA_OF_HEADS}"
        ));
    } else if schema == SCHEMA_OF_HEADS && !is_list {
        faults.push(format!(
            "schema is {SCHEMA_OF_HEADS}, its heads must be a list [[head]], each with a name"
        ));
    } else if schema != SCHEMA && schema != SCHEMA_OF_HEADS {
        faults.push(format!(
            "schema is {schema}, this daemon reads {SCHEMA} and {SCHEMA_OF_HEADS}"
        ));
    }
    if is_list && RESERVED.contains(&head.name.as_str()) {
        faults.push(reserved(&head.name));
    }
    for (index, further) in manifest.further.iter().enumerate() {
        let earlier = &manifest.further[..index];
        faults.extend(name_fault(further, manifest, earlier));
        faults.extend(further.faults(manifest));
        let files = earlier
            .iter()
            .map(|other| (&other.name, &other.file, &other.sha256, &other.inputs))
            .chain([(&head.name, &head.file, &head.sha256, &head.inputs)]);
        for (name, file, sha256, inputs) in files {
            if *file == further.file && (sha256, inputs) != (&further.sha256, &further.inputs) {
                faults.push(format!(
                    "heads {} and {name} share {file}, but differ in sha256 or inputs",
                    further.name
                ));
            }
        }
    }
    faults
}

fn reserved(name: &str) -> String {
    format!(
        "a head is called {name}, these names are reserved: {}",
        RESERVED.join(", ")
    )
}

/// What is wrong with the name of `head`, which follows the heads `earlier`.
fn name_fault(head: &FurtherHead, manifest: &Manifest, earlier: &[FurtherHead]) -> Option<String> {
    let name = &head.name;
    if name.trim().is_empty() {
        Some("a [[head]] has an empty name".into())
    } else if RESERVED.contains(&name.as_str()) {
        Some(reserved(name))
    } else if *name == manifest.head.name || earlier.iter().any(|other| other.name == *name) {
        Some(format!("two heads are called {name}"))
    } else {
        None
    }
}

impl FurtherHead {
    /// A sentence for each fault of this head but those of its name and of shared files.
    fn faults(&self, manifest: &Manifest) -> Vec<String> {
        let name = &self.name;
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, text: String| {
            if wrong {
                faults.push(format!("head {name}: {text}"));
            }
        };
        let is_regression = self.kind == HeadKind::Regression;
        fault(
            self.labels.len() < if is_regression { 1 } else { 2 },
            "labels needs at least two, or one for a regression".into(),
        );
        for (index, label) in self.labels.iter().enumerate() {
            fault(
                self.labels[..index].contains(label),
                format!("labels names {label} twice"),
            );
        }
        fault(
            self.inputs.is_empty(),
            "inputs needs at least one encoder".into(),
        );
        for input in &self.inputs {
            if manifest.encoder(input).is_none() {
                fault(
                    true,
                    format!("inputs names {input}, which is not an encoder"),
                );
            } else {
                // `modalities` of an event describes the primary head's evidence.
                fault(
                    !manifest.head.inputs.contains(input),
                    format!("inputs names {input}, which is not an input of the primary head"),
                );
            }
        }
        if is_regression {
            fault(
                !self.temperature.is_empty() || self.abstain_threshold.is_some(),
                "temperature and abstain_threshold are for labels, a regression has scale".into(),
            );
            self.number_faults(&mut fault);
        } else {
            fault(
                !self.range.is_empty() || !self.scale.is_empty() || self.derived,
                "range, scale and derived are for kind \"regression\"".into(),
            );
            let threshold = self.abstain_threshold.unwrap_or(0.0);
            fault(
                !(0.0..=1.0).contains(&threshold),
                format!("abstain_threshold is {threshold}, permitted are 0 to 1"),
            );
            for (subset, temperature) in &self.temperature {
                fault(
                    !is_subset(subset),
                    format!("temperature names {subset}, which is not a subset of modalities"),
                );
                fault(
                    !(temperature.is_finite() && *temperature > 0.0),
                    format!("temperature of {subset} is {temperature}, it must be positive"),
                );
            }
        }
        faults
    }

    /// Passes each fault of the range and the scale of a regression to `fault`.
    fn number_faults(&self, fault: &mut impl FnMut(bool, String)) {
        fault(
            self.range.len() != self.labels.len(),
            format!(
                "range has {} entries, it needs one for each of {} numbers",
                self.range.len(),
                self.labels.len()
            ),
        );
        for ([low, high], label) in self.range.iter().zip(&self.labels) {
            fault(
                !(low.is_finite() && high.is_finite() && low < high),
                format!("range of {label} is {low} to {high}, the first must be the lower"),
            );
        }
        for (subset, lines) in &self.scale {
            fault(
                !is_subset(subset),
                format!("scale names {subset}, which is not a subset of modalities"),
            );
            fault(
                lines.len() != self.labels.len(),
                format!("scale of {subset} needs a slope and an offset for each number"),
            );
            fault(
                !lines.iter().flatten().all(|value| value.is_finite()),
                format!("scale of {subset} has a value that is not finite"),
            );
        }
    }
}

/// Whether `name` is the name of a subset of modalities.
fn is_subset(name: &str) -> bool {
    Presence::subsets().any(|presence| presence.name() == *name)
}
