//! The encoders that compute the embeddings of a feature store. They run as in the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::clip::{Clip, Crop};
use crate::encode::{EncodeError, Provider, Runtime, first_that_works};
use crate::manifest::{
    AudioPreprocessing, EncoderEntry, EncoderKind, FacePreprocessing, HeadEntry, Manifest, SCHEMA,
    Task, TextPreprocessing, WindowRule,
};
use crate::modality::Modality;
use crate::model::{BundleError, Encoder, EncoderFiles, check_sums};
use crate::preprocess::{LogMel, Tokenizer};
use crate::recognize::{Embeddings, FaceCache, encode_clip, frame_embeddings, text_embedding};

mod stages;

/// The sections of `encoders.toml`, or of a bundle's `manifest.toml`, that describe encoders. The
/// bundle's head is ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sections {
    pub window: WindowRule,
    pub face: Option<FacePreprocessing>,
    pub audio: Option<AudioPreprocessing>,
    pub text: Option<TextPreprocessing>,
    #[serde(rename = "encoder", default)]
    pub encoders: Vec<EncoderEntry>,
}

/// Name of the file that marks a folder as an encoder set.
pub(crate) const SET: &str = "encoders.toml";

/// The joined encoders of one or several folders, whose files are read and checked.
/// [`EncoderSetFiles::open`] opens the graphs, once for each worker.
#[derive(Clone, Debug)]
pub struct EncoderSetFiles {
    /// The joined sections as a manifest without labels, whose head has no inputs.
    rules: Manifest,
    /// Each folder with its own sections.
    folders: Vec<(PathBuf, Manifest)>,
}

/// An encoder set with open graphs, owned by one thread.
#[derive(Debug)]
pub struct EncoderSet {
    rules: Manifest,
    encoders: Vec<Encoder>,
    tokenizer: Option<Tokenizer>,
    /// Spectrograms for voice encoders; `None`: there are none.
    mel: Option<LogMel>,
    /// For each encoder, the embeddings of recent faces.
    caches: Vec<FaceCache>,
}

/// A manifest with these sections, no labels, and a head without file and inputs.
pub(crate) fn headless(sections: Sections) -> Manifest {
    let Sections {
        window,
        face,
        audio,
        text,
        encoders,
    } = sections;
    let (name, fingerprint, labels) = (String::new(), String::new(), Vec::new());
    let mut rules = Manifest {
        schema: SCHEMA,
        name,
        task: Task::Single,
        labels,
        fingerprint,
        window,
        face,
        audio,
        text,
        encoders,
        head: HeadEntry::default(),
        further: Vec::new(),
    };
    rules.fingerprint = rules.compute_fingerprint();
    rules
}

/// The sections of an encoder set or bundle as a manifest. The files of `folder` are checked
/// against `SHA256SUMS`.
fn read_folder(folder: &Path) -> anyhow::Result<Manifest> {
    let name = if folder.join(SET).is_file() {
        SET
    } else {
        "manifest.toml"
    };
    let text = std::fs::read_to_string(folder.join(name)).with_context(|| {
        format!(
            "{} holds neither encoders.toml nor manifest.toml: name an \
                                  encoder set or a bundle with --encoders",
            folder.display()
        )
    })?;
    check_sums(folder, &[name])?;
    let sections: Sections = toml::from_str(&text)
        .with_context(|| format!("{name} in {} cannot be understood", folder.display()))?;
    let rules = headless(sections);
    let faults = rules.encoder_faults();
    ensure!(
        faults.is_empty(),
        "{name} in {} contradicts itself: {}",
        folder.display(),
        faults.join("; ")
    );
    Ok(rules)
}

/// Joins a section of two encoder sets into `ours`: the section that only one set has, or the
/// section of both sets, which must be equal.
fn join_section<S: PartialEq>(
    ours: &mut Option<S>,
    theirs: Option<S>,
    what: &str,
    folder: &Path,
) -> anyhow::Result<()> {
    match (&ours, theirs) {
        (Some(ours), Some(theirs)) if *ours != theirs => {
            bail!(
                "{}: its [{what}] is not that of the encoders named before: one store holds one \
                 preprocessing, extract into another store",
                folder.display()
            )
        }
        (None, theirs) => *ours = theirs,
        _ => {}
    }
    Ok(())
}

impl EncoderSetFiles {
    /// Reads and joins the encoder sets in `folders`. The window is that of the first folder.
    ///
    /// # Errors
    /// A folder cannot be read or is damaged, or there is no encoder. Two folders have different
    /// preprocessing, or encoders of the same name.
    pub fn read(folders: &[PathBuf]) -> anyhow::Result<EncoderSetFiles> {
        let mut joined: Option<Manifest> = None;
        let mut read = Vec::new();
        for folder in folders {
            let rules = read_folder(folder)?;
            read.push((folder.clone(), rules.clone()));
            let Some(all) = &mut joined else {
                joined = Some(rules);
                continue;
            };
            join_section(&mut all.face, rules.face, "face", folder)?;
            join_section(&mut all.audio, rules.audio, "audio", folder)?;
            join_section(&mut all.text, rules.text, "text", folder)?;
            for entry in rules.encoders {
                ensure!(
                    all.encoder(&entry.name).is_none(),
                    "{}: there is an encoder {:?} already: rename one of them",
                    folder.display(),
                    entry.name
                );
                all.encoders.push(entry);
            }
        }
        let mut rules = joined.context("no encoders were named: give --encoders")?;
        ensure!(
            !rules.encoders.is_empty(),
            "there is no encoder in {}",
            folders
                .iter()
                .map(|f| f.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        );
        rules.fingerprint = rules.compute_fingerprint();
        Ok(EncoderSetFiles {
            rules,
            folders: read,
        })
    }

    /// [`Manifest::compute_fingerprint`] of the joined sections; for a single bundle, its own
    /// fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.rules.fingerprint
    }

    /// Window, preprocessing and encoders, as a manifest without labels and head.
    pub fn manifest(&self) -> &Manifest {
        &self.rules
    }

    /// Whether the set has an encoder of this modality.
    pub fn has_encoder_of(&self, modality: Modality) -> bool {
        self.rules.encoders.iter().any(|e| e.modality == modality)
    }

    /// Opens every graph on `provider` with `threads` threads for each graph. The float graphs are
    /// used even if int8 ones exist. A store then has the same content on every machine, as its
    /// fingerprint states ([`Manifest::compute_fingerprint`]).
    pub fn open(
        &self,
        runtime: &Runtime,
        provider: Provider,
        threads: usize,
    ) -> anyhow::Result<EncoderSet> {
        let at_fault = |error: &BundleError| matches!(error, BundleError::Graph { .. });
        let (encoders, tokenizer) = first_that_works(provider, at_fault, |provider| {
            let (mut encoders, mut tokenizer) = (Vec::new(), None);
            for (folder, rules) in &self.folders {
                let (opened, words) = EncoderFiles::read(folder, rules)?
                    .fp32()
                    .open(runtime, folder, rules, provider, threads)?;
                encoders.extend(opened);
                tokenizer = tokenizer.or(words);
            }
            Ok::<_, BundleError>((encoders, tokenizer))
        })?;
        let caches = encoders.iter().map(|_| FaceCache::default()).collect();
        Ok(EncoderSet {
            mel: self.rules.audio.as_ref().map(LogMel::new),
            rules: self.rules.clone(),
            encoders,
            tokenizer,
            caches,
        })
    }
}

impl EncoderSet {
    /// Reads the encoder sets in `folders` and opens their graphs; see [`EncoderSetFiles::open`].
    pub fn open(
        runtime: &Runtime,
        folders: &[PathBuf],
        provider: Provider,
        threads: usize,
    ) -> anyhow::Result<EncoderSet> {
        EncoderSetFiles::read(folders)?.open(runtime, provider, threads)
    }

    /// The encoders, in the order of their embeddings in a store's row.
    pub fn entries(&self) -> impl Iterator<Item = &EncoderEntry> {
        self.encoders.iter().map(|e| &e.entry)
    }

    /// Gives all faces of a clip the same weight, regardless of the manifest's `half_life_ms`. A
    /// row of a whole recording must not favour the end of the recording.
    pub fn with_equal_face_weights(mut self) -> EncoderSet {
        self.rules.window.half_life_ms = None;
        self
    }

    /// Forgets the cached faces. Call it before a new session, because ids of faces start again in
    /// it.
    pub fn start_session(&mut self) {
        self.caches
            .iter_mut()
            .for_each(|cache| *cache = FaceCache::default());
    }

    /// The embeddings of a clip's face and voice by encoder name, as the daemon computes them,
    /// except for [`EncoderSet::with_equal_face_weights`]. Modalities that the clip lacks are
    /// omitted.
    pub fn encode(&mut self, clip: &Clip) -> Result<Embeddings, EncodeError> {
        let presence = clip.presence();
        let mut embeddings = Embeddings::new();
        for (encoder, cache) in self.encoders.iter_mut().zip(&mut self.caches) {
            let modality = encoder.entry.modality;
            if modality != Modality::Text && *presence.get(modality) {
                embeddings.insert(
                    encoder.entry.name.clone(),
                    encode_clip(encoder, &self.rules, self.mel.as_ref(), cache, clip)?,
                );
            }
        }
        Ok(embeddings)
    }

    /// The embeddings of a text by encoder name; empty if the text has no token.
    pub fn encode_text(&mut self, text: &str) -> Result<Embeddings, EncodeError> {
        let mut embeddings = Embeddings::new();
        for encoder in self
            .encoders
            .iter_mut()
            .filter(|e| e.entry.modality == Modality::Text)
        {
            if let Some(embedding) = text_embedding(encoder, self.tokenizer.as_ref(), text)? {
                embeddings.insert(encoder.entry.name.clone(), embedding);
            }
        }
        Ok(embeddings)
    }

    /// The embeddings of one face crop by encoder name. Only encoders of single frames are run.
    pub fn encode_picture(&mut self, crop: Arc<Crop>) -> Result<Embeddings, EncodeError> {
        let mut embeddings = Embeddings::new();
        for encoder in self
            .encoders
            .iter_mut()
            .filter(|e| e.entry.modality == Modality::Face && e.entry.kind == EncoderKind::Frame)
        {
            let embedding =
                frame_embeddings(encoder, &self.rules, std::slice::from_ref(&crop))?.swap_remove(0);
            embeddings.insert(encoder.entry.name.clone(), embedding);
        }
        Ok(embeddings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_crop;
    use crate::model::seal;
    use crate::testing::project;

    #[test]
    fn a_bundle_opens_as_an_encoder_set_with_its_fingerprint_and_embeddings() {
        let files = EncoderSetFiles::read(&[project("models/default")]).unwrap();
        let manifest: Manifest = toml::from_str(
            &std::fs::read_to_string(project("models/default/manifest.toml")).unwrap(),
        )
        .unwrap();
        assert_eq!(files.fingerprint(), manifest.fingerprint);
        assert!(
            files.has_encoder_of(Modality::Face)
                && files.has_encoder_of(Modality::Voice)
                && files.has_encoder_of(Modality::Text)
        );
        let mut set = files
            .open(&Runtime::load().unwrap(), Provider::Cpu, 1)
            .unwrap();
        assert_eq!(
            set.entries()
                .map(|e| (e.name.as_str(), e.dim))
                .collect::<Vec<_>>(),
            [("face", 128), ("voice", 128), ("text", 384)]
        );
        // The embeddings equal those of the opened bundle.
        let crop = Arc::new(golden_crop(3, 0, 48, 1));
        let mut bundle = crate::model::Bundle::open(
            &Runtime::load().unwrap(),
            &project("models/default"),
            Provider::Cpu,
            1,
        )
        .unwrap();
        let theirs =
            crate::recognize::embed(&mut bundle, std::slice::from_ref(&crop), None, None).unwrap();
        let ours = set.encode_picture(crop).unwrap();
        // A store's embeddings are of the float graphs; a bundle on a CPU may run int8.
        if bundle.precision() == crate::encode::Precision::Fp32 {
            assert_eq!(ours, theirs);
        }
        assert!(
            set.encoders
                .iter()
                .all(|e| e.graph.precision() == crate::encode::Precision::Fp32)
        );
    }

    /// Measures the error of int8 on faces: the embeddings must have nearly the same direction, and
    /// at most 5 % of the predictions may differ. The model card has the cost in accuracy.
    #[test]
    fn int8_predictions_on_real_faces_match_float() {
        let Some(archive) = crate::testing::material("faces/fer2013_training_publictest.tar.xz")
        else {
            return;
        };
        let mut crops = Vec::new();
        let tar = liblzma::read::XzDecoder::new(std::fs::File::open(archive).unwrap());
        let enough = crate::train::data::fer::for_each_picture(tar, |_, jpeg| {
            crops.push(Arc::new(crate::train::data::fer::grey_crop(jpeg)?));
            ensure!(crops.len() < 400, "enough");
            Ok(())
        });
        assert_eq!(enough.unwrap_err().to_string(), "enough");
        let runtime = Runtime::load().unwrap();
        let mut float = EncoderSetFiles::read(&[project("models/default")])
            .unwrap()
            .open(&runtime, Provider::Cpu, 1)
            .unwrap();
        let mut light =
            crate::model::Bundle::open(&runtime, &project("models/default"), Provider::Cpu, 1)
                .unwrap();
        assert_eq!(light.precision(), crate::encode::Precision::Int8);
        let (mut alike, mut same) = (0.0, 0);
        for crop in &crops {
            let theirs = float.encode_picture(crop.clone()).unwrap();
            let ours = crate::recognize::embed(&mut light, std::slice::from_ref(crop), None, None)
                .unwrap();
            let product =
                |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let (a, b) = (&theirs["face"], &ours["face"]);
            alike += product(a, b) / (product(a, a) * product(b, b)).sqrt() / crops.len() as f64;
            let mut top = |embeddings| {
                crate::train::calibrate::argmax(
                    &crate::recognize::head_logits(&mut light, embeddings).unwrap(),
                )
            };
            same += usize::from(top(&theirs) == top(&ours));
        }
        assert!(
            alike > 0.99 && same as f64 > 0.95 * crops.len() as f64,
            "cosine {alike}, {same} of {} answers",
            crops.len()
        );
    }

    /// Writes the default bundle's face encoder as an encoder set of its own; `change` edits its
    /// `encoders.toml`.
    fn face_set(folder: &Path, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(project("models/default/manifest.toml")).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        for name in [
            "schema",
            "name",
            "task",
            "labels",
            "fingerprint",
            "audio",
            "text",
            "head",
        ] {
            table.remove(name);
        }
        let encoders = table["encoder"].as_array_mut().unwrap();
        encoders.truncate(1);
        encoders[0].as_table_mut().unwrap().remove("int8");
        std::fs::write(
            folder.join("encoders.toml"),
            change(toml::to_string(&table).unwrap()),
        )
        .unwrap();
        std::fs::copy(
            project("models/default/face.onnx"),
            folder.join("face.onnx"),
        )
        .unwrap();
        seal(folder).unwrap();
    }

    #[test]
    fn encoder_sets_with_equal_preprocessing_are_joined_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let join = || EncoderSetFiles::read(&[project("models/default"), folder.path().into()]);
        face_set(folder.path(), |text| text);
        assert!(
            join()
                .unwrap_err()
                .to_string()
                .contains("an encoder \"face\" already")
        );
        face_set(folder.path(), |text| {
            text.replace("name = \"face\"", "name = \"face_b\"")
                .replace("length_ms = 2000", "length_ms = 1000")
        });
        let joined = join().unwrap();
        assert_eq!(
            joined
                .manifest()
                .encoders
                .iter()
                .map(|e| e.name.as_str())
                .collect::<Vec<_>>(),
            ["face", "voice", "text", "face_b"]
        );
        assert_eq!(joined.manifest().window.length_ms, 2000);
        assert_ne!(
            joined.fingerprint(),
            EncoderSetFiles::read(&[project("models/default")])
                .unwrap()
                .fingerprint()
        );
        joined
            .open(&Runtime::load().unwrap(), Provider::Cpu, 1)
            .unwrap();
        face_set(folder.path(), |text| {
            text.replace("name = \"face\"", "name = \"face_b\"")
                .replace("min_quality = ", "min_quality = 1")
        });
        assert!(
            join()
                .unwrap_err()
                .to_string()
                .contains("its [face] is not that")
        );
        std::fs::write(folder.path().join("face.onnx"), b"flipped").unwrap();
        assert!(join().unwrap_err().to_string().contains("face.onnx"));
    }
}
