//! What an encoder answered to each picture in earlier epochs, as part of what it learns next.
//!
//! Of labels as noisy as FER2013's a part is overruled so, in one run and at no cost: the answers are those of training itself
//! (temporal ensembling, Laine and Aila 2017; the share grows as in Kim et al. 2021, progressive self-knowledge distillation).

use std::sync::{Mutex, MutexGuard};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::train::metrics::judgements::softmax;

/// `[face.remembered]` of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RememberedRecipe {
    /// How much of a target the answers are when the run ends, 0 to 1; from none they grow evenly. The rest is the label.
    pub share: f32,
    /// An answer of so many epochs ago counts half.
    pub half_life_epochs: f32,
}

/// Running means of answers, an item a row.
#[derive(Debug)]
pub struct Remembered {
    recipe: RememberedRecipe,
    classes: usize,
    /// Per item the weighted sum of probabilities, then the weights' sum.
    rows: Mutex<Vec<f32>>,
}

impl Remembered {
    pub fn new(items: usize, classes: usize, recipe: RememberedRecipe) -> Remembered {
        Remembered { recipe, classes, rows: Mutex::new(vec![0.0; items * (classes + 1)]) }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<f32>> {
        self.rows.lock().expect("nothing panics while it holds the rows")
    }

    /// Puts what was answered to `item` into its `target`, as much as belongs there after `progress` (0 to 1) of the run.
    pub fn blend(&self, item: usize, progress: f32, target: &mut [f32]) {
        let width = self.classes + 1;
        let rows = self.locked();
        let (sums, weight) = rows[item * width..][..width].split_at(self.classes);
        if weight[0] > 0.0 {
            let share = self.recipe.share * progress;
            target.iter_mut().zip(sums).for_each(|(target, sum)| *target += share * (sum / weight[0] - *target));
        }
    }

    /// One more answer to `item`.
    pub fn note(&self, item: usize, logits: &[f32]) {
        let width = self.classes + 1;
        let keep = 0.5f32.powf(1.0 / self.recipe.half_life_epochs);
        let answer = softmax(logits, 1.0).into_iter().chain([1.0]);
        self.locked()[item * width..][..width].iter_mut().zip(answer).for_each(|(sum, p)| *sum = keep * *sum + (1.0 - keep) * p);
    }

    /// All of it, for a checkpoint.
    pub fn rows(&self) -> Vec<f32> {
        self.locked().clone()
    }

    /// # Errors
    /// Where it is of other items.
    pub fn go_on(&self, rows: Vec<f32>) -> anyhow::Result<()> {
        let mut ours = self.locked();
        ensure!(rows.len() == ours.len(), "the checkpoint remembers {} values, and there are {}: it is of other pictures", rows.len(), ours.len());
        *ours = rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_answers_count_more_and_one_alone_counts_whole() {
        let remembered = Remembered::new(2, 2, RememberedRecipe { share: 1.0, half_life_epochs: 1.0 });
        let target = || {
            let mut target = [0.0, 1.0];
            remembered.blend(1, 1.0, &mut target);
            target
        };
        assert_eq!(target(), [0.0, 1.0], "nothing was answered");
        remembered.note(1, &[40.0, 0.0]);
        assert!((target()[0] - 1.0).abs() < 1e-6, "{:?}", target());
        remembered.note(1, &[0.0, 40.0]);
        assert!((target()[0] - 1.0 / 3.0).abs() < 1e-6, "an epoch later it counts half: {:?}", target());
        let mut other = [0.0, 1.0];
        remembered.blend(0, 1.0, &mut other);
        assert_eq!(other, [0.0, 1.0], "each item has its own");
    }
}
