//! Settings files (recipes) of the command `finetune --store`.

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

/// A recipe with `kind = "finetune"` (`config/train/*.toml`): the settings of a classifier over
/// feature stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneRecipe {
    pub kind: FinetuneKind,
    /// Name of the recipe, for logs and reports.
    pub name: String,
    /// Whether defects of ConCluGen's code are kept; the same as in the run of `--from`.
    pub profile: Profile,
    /// Seed of all random numbers of the training.
    pub seed: u64,
    /// Whether a clip has exactly one label or any number of labels.
    pub task: Task,
    /// `true`: the representation heads are trained too (fine-tuning). `false`: only the classifier
    /// is trained (linear evaluation).
    pub train_heads: bool,
    /// Modalities of the representation heads if they start with random weights. With `--from`, the
    /// pre-trained heads determine the modalities.
    pub modalities: Vec<Modality>,
    /// Length of the output of a representation head that starts with random weights.
    pub representation: usize,
    /// Whether heads that start with random weights first standardise each value of an embedding to
    /// mean 0 and deviation 1.
    pub standardise: bool,
    /// The classifier's name for a label that has another name in a store. Clips with a label that
    /// maps to "" are left out.
    #[serde(default)]
    pub label_map: BTreeMap<String, String>,
    /// The classifier's labels, in order. Empty: the labels of the stores, renamed by `label_map`.
    #[serde(default)]
    pub labels: Vec<String>,
    pub classifier: ClassifierShape,
    pub class_weights: ClassWeights,
    /// Probability with which each modality of a training clip is marked as absent, 0 to below 1.
    /// One modality of a clip is always kept. Thus the classifier is trained on every subset.
    pub modality_dropout: f64,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// Early stopping after this number of epochs without a better selection metric.
    pub patience: usize,
    /// Number of clips in a batch.
    pub batch: usize,
    /// Highest learning rate of the schedule.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    /// Share of the labelled training recordings that is used, above 0 to 1, drawn from each class.
    /// A value below 1 measures the effect of few labels.
    pub label_share: f64,
}

/// The only value of the key `kind` in a [`FinetuneRecipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneKind {
    Finetune,
}

/// Weights of the classes in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All classes have equal weight.
    None,
    /// Inverse class frequencies; with several labels per clip, negative over positive clips.
    Inverse,
    /// The weights of ConCluGen's code for the data set, errors included.
    Reference,
}

impl FinetuneRecipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// The file is unreadable, of another kind, has an unknown key, or has an invalid setting
    /// ([`Self::faults`]).
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

    /// The labels of the classifier: those of the recipe, or if it names none, the labels of the
    /// `stores`, renamed by `label_map` and without duplicates.
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
