//! Settings files (recipes) of the command `pretrain`.

use std::path::Path;

use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};

use crate::modality::Modality;
use crate::train::adamw::AdamW;
use crate::train::features::Features;
use crate::train::heads::{HeadsShape, PretextShape};
use crate::train::objective::{Objective, ObjectiveSetting};
use crate::train::recipe::{self, RecipeKind};
use crate::train::schedule::RateSchedule;

/// Whether the defects of the reference, ConCluGen's published code, are kept. Heads that were
/// trained with one profile are not used with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Every defect is kept (`src/train/method.md` c), for comparison with ConCluGen's numbers.
    Reference,
    /// The defects are corrected (`src/train/method.md` f.1).
    Fixed,
}

/// A recipe with `kind = "pretrain"` (`config/train/<variant>.toml`): the settings of pre-training
/// on feature stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    pub kind: PretrainKind,
    /// Name of the recipe, for logs.
    pub name: String,
    pub profile: Profile,
    /// Seed of all random numbers of the training.
    pub seed: u64,
    /// The modalities. Their order determines the pairs of the contrastive loss and the order of
    /// the concatenated representations.
    pub modalities: Vec<Modality>,
    /// Length of a representation.
    pub representation: usize,
    /// Length of a projection.
    pub projection: usize,
    /// Whether each value of an embedding is first standardised to mean 0 and deviation 1.
    /// ConCluGen has no such step.
    pub standardise: bool,
    /// Whether the projection head ends in a ReLU, as in ConCluGen's code.
    pub rectified_projection: bool,
    pub epochs: usize,
    /// Number of clips in a batch.
    pub batch: usize,
    /// Highest learning rate of the schedule.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    /// The losses; the keys `[[objective]]`.
    #[serde(rename = "objective")]
    pub objectives: Vec<Objective>,
}

/// The only value of the key `kind` in a [`PretrainRecipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PretrainKind {
    Pretrain,
}

impl PretrainRecipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// The file is unreadable, of another kind, has an unknown key, or has an invalid setting
    /// ([`Self::faults`]).
    pub fn read(path: &Path) -> anyhow::Result<PretrainRecipe> {
        let recipe: PretrainRecipe = recipe::parse(path, RecipeKind::Pretrain)?;
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
        fault(self.objectives.is_empty(), "it has no [[objective]]");
        fault(
            self.batch < 2 || self.epochs == 0,
            "batch must be at least 2 and epochs at least 1",
        );
        fault(
            self.representation < 8 || self.projection == 0,
            "representation must be at least 8 and projection at least 1",
        );
        // At least one loss must be active in the first epoch.
        let late = self.objectives.iter().filter(|o| !o.is_active(0)).count();
        fault(
            late > 0 && late == self.objectives.len(),
            "clustering alone has a start_epoch above 0, permitted is 0: one objective at least \
             begins in epoch 0",
        );
        let setting = ObjectiveSetting {
            modalities: self.modalities.len(),
            objectives: self.objectives.len(),
            reference: self.profile == Profile::Reference,
            rectified_projection: self.rectified_projection,
        };
        for (place, objective) in self.objectives.iter().enumerate() {
            let name = objective.name();
            fault(
                self.objectives[..place].iter().any(|o| o.name() == name),
                &format!("objective {name} stands there twice, permitted is each once"),
            );
            (objective.faults(&setting).iter()).for_each(|text| fault(true, text));
        }
        let quirks = self.rectified_projection && !self.standardise;
        fault(
            self.profile == Profile::Reference && !quirks,
            "profile reference has rectified_projection = true and standardise = false",
        );
        faults
    }

    /// Settings of the representation heads, with the modalities and embedding lengths of
    /// `features`.
    pub fn heads(&self, features: &Features) -> HeadsShape {
        HeadsShape {
            modalities: features.modalities().to_vec(),
            representation: self.representation,
            standardise: self.standardise,
        }
    }

    /// Settings of the heads of pre-training that the objectives need.
    pub fn pretext(&self) -> PretextShape {
        let mut shape = PretextShape {
            projection: self.projection,
            clusters: 0,
            reconstruction: 0,
            rectified_projection: self.rectified_projection,
            rectified_reconstruction: true,
            alignment: None,
        };
        for objective in &self.objectives {
            objective.set_shape(&mut shape);
        }
        shape
    }

    /// AdamW with the weight decay of the recipe.
    pub fn optimizer(&self) -> ModuleOptimizer {
        AdamW {
            weight_decay: self.weight_decay,
        }
        .into()
    }
}
