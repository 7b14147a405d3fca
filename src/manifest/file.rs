//! The two forms of `manifest.toml`: with a single `[head]` ([`SCHEMA`](super::SCHEMA)), and with a
//! list `[[head]]` ([`SCHEMA_OF_HEADS`](super::SCHEMA_OF_HEADS)).

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    AudioPreprocessing, EncoderEntry, FacePreprocessing, FurtherHead, HeadEntry, HeadKind,
    Manifest, Task, TextPreprocessing, WindowRule,
};

/// A manifest as it is written. With a single head, `task` and `labels` describe it; in a list,
/// each entry has its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestFile {
    schema: u32,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    fingerprint: String,
    window: WindowRule,
    face: Option<FacePreprocessing>,
    audio: Option<AudioPreprocessing>,
    text: Option<TextPreprocessing>,
    #[serde(rename = "encoder")]
    encoders: Vec<EncoderEntry>,
    head: Heads,
}

/// The value of `head`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Heads {
    One(HeadEntry),
    /// The first one is the primary head.
    List(Vec<FurtherHead>),
}

/// By hand, because serde's `untagged` drops the names and positions from error messages.
impl<'de> Deserialize<'de> for Heads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Heads, D::Error> {
        struct OneOrList;
        impl<'de> Visitor<'de> for OneOrList {
            type Value = Heads;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table [head] or a list [[head]]")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Heads, A::Error> {
                HeadEntry::deserialize(MapAccessDeserializer::new(map)).map(Heads::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Heads, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Heads::List)
            }
        }
        deserializer.deserialize_any(OneOrList)
    }
}

impl TryFrom<ManifestFile> for Manifest {
    type Error = String;

    /// # Errors
    /// `task` or `labels` is missing beside a single head or present beside a list, or the first
    /// head of a list cannot be the primary one.
    fn try_from(file: ManifestFile) -> Result<Manifest, String> {
        let (task, labels, head, further) = match file.head {
            Heads::One(head) => {
                let task = file.task.ok_or("missing field `task`")?;
                let labels = file.labels.ok_or("missing field `labels`")?;
                (task, labels, head, Vec::new())
            }
            Heads::List(heads) => {
                if file.task.is_some() || file.labels.is_some() {
                    return Err("task and labels must be in each [[head]], not beside them".into());
                }
                let mut heads = heads.into_iter();
                let first = heads.next().ok_or("the list [[head]] is empty")?;
                let (task, labels, head) = primary(first)?;
                (task, labels, head, heads.collect())
            }
        };
        Ok(Manifest {
            schema: file.schema,
            name: file.name,
            task,
            labels,
            fingerprint: file.fingerprint,
            window: file.window,
            face: file.face,
            audio: file.audio,
            text: file.text,
            encoders: file.encoders,
            head,
            further,
        })
    }
}

/// Task, labels and entry of the primary head, the first of a list.
fn primary(first: FurtherHead) -> Result<(Task, Vec<String>, HeadEntry), String> {
    let name = first.name;
    if name.is_empty() {
        return Err("the first [[head]] has an empty name".into());
    }
    let task = match first.kind {
        HeadKind::Single => Task::Single,
        HeadKind::Multi => Task::Multi,
        HeadKind::Regression => {
            return Err(format!(
                "the first [[head]], {name}, is a regression, but the primary head must have \
                 labels; put a head of kind \"single\" or \"multi\" first"
            ));
        }
    };
    if !first.range.is_empty() || !first.scale.is_empty() || first.derived {
        return Err(format!(
            "head {name}: range, scale and derived are for kind \"regression\""
        ));
    }
    let abstain_threshold = first
        .abstain_threshold
        .ok_or_else(|| format!("the first [[head]], {name}, needs abstain_threshold"))?;
    let head = HeadEntry {
        name,
        file: first.file,
        sha256: first.sha256,
        output: first.output,
        inputs: first.inputs,
        temperature: first.temperature,
        abstain_threshold,
    };
    Ok((task, first.labels, head))
}

impl From<Manifest> for ManifestFile {
    /// A manifest without a name for its primary head is written with a single head.
    fn from(manifest: Manifest) -> ManifestFile {
        let (mut task, mut labels) = (Some(manifest.task), Some(manifest.labels));
        let head = if manifest.head.name.is_empty() {
            Heads::One(manifest.head)
        } else {
            let HeadEntry {
                name,
                file,
                sha256,
                output,
                inputs,
                temperature,
                abstain_threshold,
            } = manifest.head;
            let first = FurtherHead {
                name,
                kind: manifest.task.into(),
                labels: labels.take().unwrap_or_default(),
                range: Vec::new(),
                derived: false,
                file,
                sha256,
                output,
                inputs,
                abstain_threshold: Some(abstain_threshold),
                temperature,
                scale: Default::default(),
            };
            task = None;
            Heads::List(std::iter::once(first).chain(manifest.further).collect())
        };
        ManifestFile {
            schema: manifest.schema,
            name: manifest.name,
            task,
            labels,
            fingerprint: manifest.fingerprint,
            window: manifest.window,
            face: manifest.face,
            audio: manifest.audio,
            text: manifest.text,
            encoders: manifest.encoders,
            head,
        }
    }
}
