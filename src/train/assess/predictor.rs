//! The models that `evaluate` can measure on feature stores: the classifier of a run, or the head
//! of a bundle as the daemon runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::encode::{Provider, Runtime};
use crate::labels::{LABELS, label_index};
use crate::manifest::Task;
use crate::modality::Modality;
use crate::model::Bundle;
use crate::recognize::{Embeddings, head_logits};
use crate::train::checkpoint::Progress;
use crate::train::classify::{self, ClassifierRun, HeadCalibration, Recognition, inputs};
use crate::train::features::Features;
use crate::train::fit::{device, values};
use crate::train::report::{Line, LineChart, Training};

/// A model that maps rows of feature stores to logits: what `evaluate` measures.
pub trait Predictor {
    /// The title of the report.
    fn title(&self) -> String;
    /// Whether each clip has exactly one label or any number of labels.
    fn task(&self) -> Task;
    /// The names of the labels, in the order of the logits.
    fn labels(&self) -> &[String];
    /// The modalities whose embeddings the model takes.
    fn modalities(&self) -> Vec<Modality>;
    /// Hash of the encoders and the preprocessing that the input embeddings must come from.
    fn fingerprint(&self) -> &str;
    /// The folders of the stores that the model was trained on; empty if they are unknown.
    fn training_stores(&self) -> Vec<PathBuf>;
    /// Maps `theirs`, the label names of a store, to names of [`Predictor::labels`]. A name without
    /// an entry keeps its name. Clips with a label that maps to "" are left out.
    fn label_map(&self, theirs: &[String]) -> BTreeMap<String, String>;
    /// The logits of the rows with the indices `rows`, `[rows, labels]` row by row, not divided by
    /// the temperature. `shown`: whether each modality of the features is used.
    ///
    /// # Errors
    /// A row cannot be read, or the model fails.
    fn logits(
        &mut self,
        features: &Features,
        rows: &[usize],
        shown: &[bool],
    ) -> anyhow::Result<Vec<f32>>;
    /// The temperature of the subset of modalities with the name `subset` (`face+voice`); 1 if it
    /// is unknown.
    fn temperature(&self, subset: &str) -> f32;
    /// Confidence below which the model abstains, 0..1.
    fn abstain_threshold(&self) -> f32;
    /// Name of the vectors that [`Predictor::representations`] returns, for the report.
    fn representation_name(&self) -> &'static str;
    /// Vectors of the modality with index `modality` in the features, for the scatter plots of the
    /// report. Returns the length of a vector, and the vectors `[rows, length]` row by row.
    ///
    /// # Errors
    /// A row cannot be read, or the model fails.
    fn representations(
        &mut self,
        features: &Features,
        rows: &[usize],
        modality: usize,
    ) -> anyhow::Result<(usize, Vec<f32>)>;
    /// Notes for the report page, one sentence each.
    fn notes(&self) -> Vec<String>;
    /// The training curves; `None` if they are unknown.
    fn training(&self) -> Option<Training>;
}

/// The trained classifier in the folder of a run of `finetune --store`.
pub struct RunPredictor {
    /// Recipe, labels and stores of the run.
    pub run: ClassifierRun,
    net: Recognition,
    calibration: HeadCalibration,
    progress: Progress,
}

impl RunPredictor {
    /// Opens the run in `folder`.
    ///
    /// # Errors
    /// The folder has no finished run of `finetune`.
    pub fn open(folder: &Path) -> anyhow::Result<RunPredictor> {
        let (run, net, calibration, progress) = classify::load(folder)?;
        Ok(RunPredictor {
            run,
            net,
            calibration,
            progress,
        })
    }
}

impl Predictor for RunPredictor {
    fn title(&self) -> String {
        format!("{}: {}", self.run.recipe.name, self.run.dataset)
    }
    fn task(&self) -> Task {
        self.run.recipe.task
    }
    fn labels(&self) -> &[String] {
        &self.run.labels
    }
    fn modalities(&self) -> Vec<Modality> {
        self.run
            .heads
            .modalities
            .iter()
            .map(|m| m.modality)
            .collect()
    }
    fn fingerprint(&self) -> &str {
        &self.run.fingerprint
    }
    fn training_stores(&self) -> Vec<PathBuf> {
        classify::stores_of(&self.run)
    }
    fn label_map(&self, _: &[String]) -> BTreeMap<String, String> {
        self.run.recipe.label_map.clone()
    }

    fn logits(
        &mut self,
        features: &Features,
        rows: &[usize],
        shown: &[bool],
    ) -> anyhow::Result<Vec<f32>> {
        classify::logits(&self.net, features, rows, shown)
    }

    fn temperature(&self, subset: &str) -> f32 {
        self.calibration
            .subsets
            .get(subset)
            .map_or(1.0, |c| c.temperature)
    }
    fn abstain_threshold(&self) -> f32 {
        self.calibration.abstain_threshold
    }
    fn representation_name(&self) -> &'static str {
        "representations"
    }

    fn representations(
        &mut self,
        features: &Features,
        rows: &[usize],
        modality: usize,
    ) -> anyhow::Result<(usize, Vec<f32>)> {
        let (shown, mut all) = (vec![true; features.modalities().len()], Vec::new());
        for rows in rows.chunks(512) {
            let (embeddings, _) = inputs(features, rows, &shown, &device(), None)?;
            all.extend(values(
                self.net
                    .heads
                    .forward(modality, embeddings[modality].clone()),
            )?);
        }
        Ok((self.run.heads.representation, all))
    }

    fn notes(&self) -> Vec<String> {
        let heads = self
            .run
            .from
            .as_deref()
            .map_or("began with random weights".into(), |from| {
                format!("from {from}")
            });
        vec![format!(
            "Profile {}; heads {heads}.",
            format!("{:?}", self.run.recipe.profile).to_lowercase()
        )]
    }

    fn training(&self) -> Option<Training> {
        let chart = |title: &str, unit: &str, wanted: &dyn Fn(&str) -> bool| {
            let points = |values: &[f64]| {
                values
                    .iter()
                    .enumerate()
                    .map(|(i, v)| [i as f64, *v])
                    .collect()
            };
            let lines = self
                .progress
                .curves
                .iter()
                .filter(|(name, _)| wanted(name))
                .map(|(name, values)| Line {
                    name: name.clone(),
                    points: points(values),
                });
            LineChart {
                title: title.into(),
                unit: unit.into(),
                lines: lines.collect(),
            }
        };
        let charts = vec![
            chart("Loss", "loss", &|name| !name.starts_with("selection")),
            chart("Selection", "figure", &|name| name.starts_with("selection")),
        ];
        Some(Training {
            axis: "epoch".into(),
            charts,
            chosen: self.progress.best.map(|b| b as f64),
        })
    }
}

/// The head of a bundle as an ONNX graph, run on the CPU as in the daemon.
pub struct BundlePredictor {
    bundle: Bundle,
}

impl BundlePredictor {
    /// Opens the bundle in `folder`.
    ///
    /// # Errors
    /// The daemon would refuse the bundle.
    pub fn open(folder: &Path) -> anyhow::Result<BundlePredictor> {
        Ok(BundlePredictor {
            bundle: Bundle::open(&Runtime::load()?, folder, Provider::Cpu, 1)?,
        })
    }
}

impl Predictor for BundlePredictor {
    fn title(&self) -> String {
        format!("{}, on recordings of yours", self.bundle.manifest.name)
    }
    fn task(&self) -> Task {
        self.bundle.manifest.task
    }
    fn labels(&self) -> &[String] {
        &self.bundle.manifest.labels
    }
    fn modalities(&self) -> Vec<Modality> {
        Modality::ALL
            .into_iter()
            .filter(|m| {
                self.bundle
                    .manifest
                    .encoders
                    .iter()
                    .any(|e| e.modality == *m)
            })
            .collect()
    }
    fn fingerprint(&self) -> &str {
        &self.bundle.manifest.fingerprint
    }
    fn training_stores(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Maps a name to the label of the bundle with the same name or meaning, or to "" if the bundle
    /// has no such label.
    fn label_map(&self, theirs: &[String]) -> BTreeMap<String, String> {
        let ours = |name: &String| {
            let known = |wanted: &str| {
                self.labels()
                    .iter()
                    .find(|label| label.eq_ignore_ascii_case(wanted))
                    .cloned()
            };
            known(name)
                .or_else(|| known(LABELS[label_index(name)?]))
                .unwrap_or_default()
        };
        theirs
            .iter()
            .map(|name| (name.clone(), ours(name)))
            .collect()
    }

    fn logits(
        &mut self,
        features: &Features,
        rows: &[usize],
        shown: &[bool],
    ) -> anyhow::Result<Vec<f32>> {
        let mut all = Vec::with_capacity(rows.len() * self.labels().len());
        for row in rows {
            let embeddings: Embeddings = features.embeddings(*row, shown)?;
            all.extend(head_logits(&mut self.bundle, &embeddings)?);
        }
        Ok(all)
    }

    fn temperature(&self, subset: &str) -> f32 {
        self.bundle
            .manifest
            .head
            .temperature
            .get(subset)
            .copied()
            .unwrap_or(1.0)
    }
    fn abstain_threshold(&self) -> f32 {
        self.bundle.manifest.head.abstain_threshold
    }
    fn representation_name(&self) -> &'static str {
        "embeddings"
    }

    fn representations(
        &mut self,
        features: &Features,
        rows: &[usize],
        modality: usize,
    ) -> anyhow::Result<(usize, Vec<f32>)> {
        Ok((
            features.modalities()[modality].dim,
            features.batch(rows)?.modalities.swap_remove(modality).1,
        ))
    }

    fn notes(&self) -> Vec<String> {
        vec![
            "Encoders run as float graphs (the daemon may run them in int8 on a CPU); the head \
             runs as in the daemon."
                .to_owned(),
        ]
    }
    fn training(&self) -> Option<Training> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::golden::golden_crop;
    use crate::recognize::embed;
    use crate::testing::project;
    use crate::train::data::{Split, Target};
    use crate::train::store::{Entry, SCHEMA, StoreSpec, StoredEncoder};

    #[test]
    fn a_bundle_gives_stored_rows_the_logits_of_live_clips_and_maps_label_synonyms() {
        let mut predictor = BundlePredictor::open(&project("models/default")).unwrap();
        let map =
            predictor.label_map(&["Happiness", "disgust", "contempt", "calm"].map(String::from));
        let mapped = ["Happiness", "disgust", "contempt", "calm"].map(|name| map[name].as_str());
        assert_eq!(mapped, ["happy", "disgusted", "", "neutral"]);

        let live = embed(
            &mut predictor.bundle,
            &[Arc::new(golden_crop(3, 0, 48, 1))],
            None,
            Some("I am so glad."),
        )
        .unwrap();
        let encoders: Vec<StoredEncoder> = predictor
            .bundle
            .manifest
            .encoders
            .iter()
            .map(|e| StoredEncoder {
                name: e.name.clone(),
                modality: e.modality,
                dim: e.dim,
            })
            .collect();
        let zeros = |encoder: &StoredEncoder| vec![0.0; encoder.dim];
        let row: Vec<f32> = encoders
            .iter()
            .flat_map(|e| live.get(&e.name).cloned().unwrap_or_else(|| zeros(e)))
            .collect();
        let present = encoders
            .iter()
            .map(|e| live.contains_key(&e.name))
            .collect();
        let (fingerprint, labels) = (
            predictor.fingerprint().to_owned(),
            predictor.labels().to_vec(),
        );
        let spec = StoreSpec {
            schema: SCHEMA,
            fingerprint,
            dataset: "one".into(),
            labels,
            clips: "recording".into(),
            window: None,
            views: 1,
            encoders,
        };
        let target = Some(Target::Class(1));
        let entry = Entry {
            id: "a".into(),
            split: Split::Test,
            group: String::new(),
            target,
            present,
            seconds: 1.0,
            text: None,
            view: 0,
        };
        let features = Features::in_memory(spec, vec![(entry, row)])
            .with_modalities(&predictor.modalities())
            .unwrap();

        let both = predictor
            .logits(&features, &[0], &[true, false, true])
            .unwrap();
        assert_eq!(both, head_logits(&mut predictor.bundle, &live).unwrap());
        // The row has no voice, so using the voice changes nothing. Leaving out the face does.
        assert_eq!(
            both,
            predictor
                .logits(&features, &[0], &[true, true, true])
                .unwrap()
        );
        let mut words = live.clone();
        words.remove("face");
        let alone = predictor
            .logits(&features, &[0], &[false, false, true])
            .unwrap();
        assert!(alone != both && alone == head_logits(&mut predictor.bundle, &words).unwrap());
        let (dim, values) = predictor.representations(&features, &[0], 0).unwrap();
        assert_eq!(
            (dim, values.as_slice()),
            (live["face"].len(), live["face"].as_slice())
        );
    }
}
