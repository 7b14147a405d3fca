//! Recipes of kind `pretrain`.

use std::path::Path;

use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};

use crate::modality::Modality;
use crate::train::adamw::AdamW;
use crate::train::features::Features;
use crate::train::heads::{HeadsShape, PretextShape};
use crate::train::objective::Objective;
use crate::train::recipe::{self, RecipeKind};
use crate::train::schedule::RateSchedule;

/// Whether defects of the reference are kept. Heads of different profiles are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Every defect is kept (`src/train/method.md` c), for parity.
    Reference,
    /// The defects are corrected (`src/train/method.md` f.1).
    Fixed,
}

/// A recipe of kind `pretrain` (`config/train/<variant>.toml`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    pub kind: PretrainKind,
    pub name: String,
    pub profile: Profile,
    pub seed: u64,
    /// The modalities, in the order of pairs and of the concatenation.
    pub modalities: Vec<Modality>,
    /// Length of a representation.
    pub representation: usize,
    /// Length of a projection.
    pub projection: usize,
    /// Whether embeddings are standardised first to mean 0 and deviation 1. Not in the reference.
    pub standardise: bool,
    /// Whether projections end in a rectifier, as in the reference.
    pub rectified_projection: bool,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    #[serde(rename = "objective")]
    pub objectives: Vec<Objective>,
}

/// The value of the key `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PretrainKind {
    Pretrain,
}

impl PretrainRecipe {
    /// Reads and checks a recipe.
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
        let has = |name: &str| self.objectives.iter().any(|o| o.name() == name);
        fault(self.objectives.is_empty(), "it has no [[objective]]");
        fault(
            has("contrastive") && self.modalities.len() < 2,
            "contrastive needs two modalities",
        );
        fault(
            has("simclr") && self.objectives.len() > 1,
            "simclr stands alone",
        );
        fault(
            self.batch < 2 || self.epochs == 0,
            "batch must be at least 2 and epochs at least 1",
        );
        fault(
            self.representation < 8 || self.projection == 0,
            "representation must be at least 8 and projection at least 1",
        );
        // Without a loss there is nothing to minimise.
        let late = self.objectives.iter().filter(|o| !o.is_active(0)).count();
        fault(
            late > 0 && late == self.objectives.len(),
            "clustering alone has a start_epoch above 0, permitted is 0: one objective at least \
             begins in epoch 0",
        );
        for (place, objective) in self.objectives.iter().enumerate() {
            let (name, weight) = (objective.name(), objective.weight());
            fault(
                self.objectives[..place].iter().any(|o| o.name() == name),
                &format!("objective {name} stands there twice, permitted is each once"),
            );
            fault(
                !(weight > 0.0 && weight.is_finite()),
                &format!("weight of {name} is {weight}, permitted are numbers above 0"),
            );
            match objective {
                Objective::Contrastive { temperature, .. }
                | Objective::Simclr { temperature, .. } => {
                    fault(
                        !(*temperature > 0.0 && temperature.is_finite()),
                        &format!(
                            "temperature of {name} is {temperature}, permitted are numbers above 0"
                        ),
                    );
                }
                Objective::Clustering {
                    clusters,
                    queue_reduction,
                    ..
                } => {
                    fault(*clusters < 2, "clusters must be at least 2");
                    fault(
                        *queue_reduction == 0,
                        "queue_reduction is 0, permitted are numbers from 1, which keeps all rows",
                    );
                }
                Objective::Reconstruction {
                    hidden, rectified, ..
                } => {
                    fault(*hidden == 0, "hidden must be at least 1");
                    fault(
                        self.profile == Profile::Reference && !rectified,
                        "profile reference has rectified reconstructions",
                    );
                }
            }
        }
        let quirks = self.rectified_projection && !self.standardise;
        fault(
            self.profile == Profile::Reference && !quirks,
            "profile reference has rectified_projection = true and standardise = false",
        );
        faults
    }

    /// Settings of the representation heads for these features.
    pub fn heads(&self, features: &Features) -> HeadsShape {
        HeadsShape {
            modalities: features.modalities().to_vec(),
            representation: self.representation,
            standardise: self.standardise,
        }
    }

    /// Settings of the pre-training heads.
    pub fn pretext(&self) -> PretextShape {
        let mut shape = PretextShape {
            projection: self.projection,
            clusters: 0,
            reconstruction: 0,
            rectified_projection: self.rectified_projection,
            rectified_reconstruction: true,
        };
        for objective in &self.objectives {
            match objective {
                Objective::Clustering { clusters, .. } => shape.clusters = *clusters,
                Objective::Reconstruction {
                    hidden, rectified, ..
                } => (shape.reconstruction, shape.rectified_reconstruction) = (*hidden, *rectified),
                _ => {}
            }
        }
        shape
    }

    /// The optimiser with the recipe's weight decay.
    pub fn optimizer(&self) -> ModuleOptimizer {
        AdamW {
            weight_decay: self.weight_decay,
        }
        .into()
    }
}
