//! Recipes of kind `finetune`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::manifest::Task;
use crate::modality::Modality;
use crate::train::features::distinct;
use crate::train::heads::ClassifierShape;
use crate::train::pretrain::Profile;
use crate::train::recipe::{self, RecipeKind};
use crate::train::schedule::RateSchedule;

/// A recipe of kind `finetune` (`config/train/*.toml`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneRecipe {
    pub kind: FinetuneKind,
    pub name: String,
    pub profile: Profile,
    pub seed: u64,
    pub task: Task,
    /// Whether the heads are trained too (fine-tuning) or the classifier alone (linear evaluation).
    pub train_heads: bool,
    /// Modalities of the random initial heads, without `--from`.
    pub modalities: Vec<Modality>,
    /// Length of a representation of these heads.
    pub representation: usize,
    /// Whether embeddings are standardised first to mean 0 and deviation 1.
    pub standardise: bool,
    /// Our label for each label of a store with another name. A label that maps to "" is left out.
    #[serde(default)]
    pub label_map: BTreeMap<String, String>,
    /// Our labels, in order. Empty: the labels of the stores, renamed by `label_map`.
    #[serde(default)]
    pub labels: Vec<String>,
    pub classifier: ClassifierShape,
    pub class_weights: ClassWeights,
    /// Probability of hiding each modality of a training clip, but never the last one. So the
    /// classifier is trained on every subset.
    pub modality_dropout: f64,
    pub epochs: usize,
    /// Early stopping after this number of epochs without a better selection metric.
    pub patience: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    /// Share of the labelled training clips that is used, drawn by class (label scarcity).
    pub label_share: f64,
}

/// The value of the key `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneKind {
    Finetune,
}

/// Weights of the classes in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    None,
    /// Inverse class frequencies; with several labels, negatives over positives.
    Inverse,
    /// The reference's weights for the data set, errors included.
    Reference,
}

impl FinetuneRecipe {
    /// Reads and checks a recipe.
    pub fn read(path: &Path) -> anyhow::Result<FinetuneRecipe> {
        let recipe: FinetuneRecipe = recipe::parse(path, RecipeKind::Finetune)?;
        recipe::check(path, &recipe.faults())?;
        Ok(recipe)
    }

    /// Every invalid setting, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = recipe::store_training_faults(
            &self.schedule,
            self.learning_rate,
            self.weight_decay,
            &self.modalities,
        );
        let mut fault = |wrong: bool, text: &str| faults.extend(wrong.then(|| text.to_owned()));
        fault(
            self.batch == 0 || self.epochs == 0 || self.patience == 0,
            "batch, epochs and patience must be at least 1",
        );
        fault(
            !(0.0..1.0).contains(&self.modality_dropout),
            "modality_dropout must be in 0 to 1",
        );
        fault(
            !(self.label_share > 0.0 && self.label_share <= 1.0),
            "label_share must be above 0 and at most 1",
        );
        fault(
            self.classifier.layers == 0,
            "classifier.layers must be at least 1",
        );
        fault(
            self.profile == Profile::Reference && (self.classifier.presence || self.standardise),
            "profile reference has neither presence inputs nor standardise",
        );
        faults
    }

    /// The recipe's labels; if it names none, the stores' labels as `label_map` renames them.
    pub(super) fn labels_of(&self, stores: &[String]) -> Vec<String> {
        if !self.labels.is_empty() {
            return self.labels.clone();
        }
        distinct(
            stores
                .iter()
                .map(|name| self.label_map.get(name).unwrap_or(name))
                .filter(|name| !name.is_empty()),
        )
    }
}
