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

/// `config/train/*.toml` of kind `finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneRecipe {
    pub kind: FinetuneKind,
    pub name: String,
    pub profile: Profile,
    pub seed: u64,
    pub task: Task,
    /// The heads are trained too (fine-tuning), not the classifier alone (linear evaluation).
    pub train_heads: bool,
    /// Without `--from`: heads begin at random, of these modalities and this length.
    pub modalities: Vec<Modality>,
    pub representation: usize,
    pub standardise: bool,
    /// Store's label to ours, where names differ. One that maps to "" is left out.
    #[serde(default)]
    pub label_map: BTreeMap<String, String>,
    /// Our labels, in order. Empty: the stores', by the names that `label_map` gives them.
    #[serde(default)]
    pub labels: Vec<String>,
    pub classifier: ClassifierShape,
    pub class_weights: ClassWeights,
    /// Each modality of a training clip is hidden with this probability (never the last one): so
    /// every subset is trained.
    pub modality_dropout: f64,
    pub epochs: usize,
    /// Early stopping: the number of epochs without a better selection figure.
    pub patience: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    /// Only this share of the labelled training clips is used, drawn by class (label scarcity).
    pub label_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneKind {
    Finetune,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    None,
    /// Rare classes weigh more; for several labels, negatives over positives.
    Inverse,
    /// The reference's numbers for the data set, errors included.
    Reference,
}

impl FinetuneRecipe {
    pub fn read(path: &Path) -> anyhow::Result<FinetuneRecipe> {
        let recipe: FinetuneRecipe = recipe::parse(path, RecipeKind::Finetune)?;
        recipe::check(path, &recipe.faults())?;
        Ok(recipe)
    }

    /// Every invalid setting, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let optimizer = recipe::optimizer_faults("", self.learning_rate, self.weight_decay);
        let mut faults = [
            self.schedule.faults(),
            optimizer,
            recipe::modality_faults(&self.modalities),
        ]
        .concat();
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
