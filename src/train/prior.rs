//! Logit adjustment for rare labels (Menon et al. 2021).
//!
//! A model trained on imbalanced data predicts rare labels too seldom. With the strength `s`, only
//! `s` times the log prior stays in the logits of such a model. For a model trained on balanced
//! data, `s` times the log prior is added to the logits. The strength is chosen on the selection
//! data.

use crate::labels::LABELS;
use crate::preprocess::normalise;
use crate::train::calibrate::LabelledLogits;
use crate::train::data::Part;
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::encoder_runs::encode_faces;
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;

/// The strength of the label prior in a model's logits, and the metrics at this strength.
///
/// Rare labels have a separate strength. Most of their gain in recall costs little accuracy, and
/// the balance of the frequent labels stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorStrength {
    /// Strength for labels that are not rare; 0: uniform prior, 1: the prior of the training data.
    pub common_labels: f32,
    /// Strength for labels with a share below [`RARE`]; a negative strength favours them.
    pub rare_labels: f32,
    /// Accuracy on the selection data at this strength, 0..1.
    pub accuracy: f64,
    /// Mean recall over labels on the selection data at this strength, 0..1.
    pub recall: f64,
}

impl PriorStrength {
    /// The log prior of each label, multiplied by the label's strength. `shares`: log prior of the
    /// labels, by [`log_shares`].
    pub fn prior(&self, shares: &[f32]) -> Vec<f32> {
        prior_at(self.common_labels, self.rare_labels, shares)
    }
}

/// Share of the training data, 0..1, below which a label is rare.
pub const RARE: f32 = 0.05;

/// Largest loss of accuracy (0..1) that is accepted for a better recall of rare labels.
const MOST_ACCURACY_LOST: f64 = 0.005;

/// The constants of the selection of strengths as text. A calibration stores a hash of them.
pub fn rules() -> String {
    format!("{RARE} {MOST_ACCURACY_LOST}")
}

/// The log prior of each label, multiplied by the strength for common or for rare labels.
fn prior_at(common_labels: f32, rare_labels: f32, shares: &[f32]) -> Vec<f32> {
    let sum: f32 = shares.iter().map(|log| log.exp()).sum();
    let strength = |log: f32| match log.exp() / sum < RARE {
        true => rare_labels,
        false => common_labels,
    };
    shares.iter().map(|log| log * strength(*log)).collect()
}

/// Selects the strengths of the label prior. `evaluate` returns the predictions at a strength for
/// common labels and a strength for rare labels.
///
/// First, one strength for all labels is selected out of eleven from 0 to 1: the mean of those with
/// an accuracy within one standard error of the best. Then a lower strength for rare labels is
/// selected, down to -1: the one with the best mean recall among those with an accuracy within
/// 0.005 of the best.
///
/// # Errors
/// Those of `evaluate`.
pub fn prior_strength(
    mut evaluate: impl FnMut(f32, f32) -> anyhow::Result<LabelledLogits>,
) -> anyhow::Result<PriorStrength> {
    let mut at = |common_labels: f32, rare_labels: f32| {
        let predictions = evaluate(common_labels, rare_labels)?;
        let strength = PriorStrength {
            common_labels,
            rare_labels,
            accuracy: predictions.accuracy(),
            recall: predictions.recall(),
        };
        anyhow::Ok((strength, predictions.count()))
    };
    let common = (0..=10)
        .map(|tenths| {
            let (tried, count) = at(tenths as f32 / 10.0, tenths as f32 / 10.0)?;
            Ok((tried.common_labels, tried.accuracy, count))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let common = mean_within_one_error(&common);
    let tried = (0..)
        .map(|tenths| common - tenths as f32 / 10.0)
        .take_while(|rare_labels| *rare_labels > -1.05)
        .map(|rare_labels| Ok(at(common, rare_labels)?.0))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let best = tried.iter().map(|one| one.accuracy).fold(0.0, f64::max);
    let permitted = tried
        .into_iter()
        .filter(|one| one.accuracy >= best - MOST_ACCURACY_LOST);
    Ok(permitted
        .max_by(|a, b| a.recall.total_cmp(&b.recall))
        .expect("the best is within its own bound"))
}

/// The mean of all settings with a score within one standard error of the best score. `tried`:
/// setting, score (0..1) and number of rows that the score is measured on.
///
/// The maximum itself would overfit, because neighbouring settings have nearly equal scores.
pub fn mean_within_one_error(tried: &[(f32, f64, usize)]) -> f32 {
    let best = tried
        .iter()
        .copied()
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .expect("something was tried");
    let error = (best.1 * (1.0 - best.1) / best.2.max(1) as f64).sqrt();
    let alike: Vec<f32> = tried
        .iter()
        .filter(|(_, share, _)| *share >= best.1 - error)
        .map(|(setting, ..)| *setting)
        .collect();
    alike.iter().sum::<f32>() / alike.len() as f32
}

/// Logarithm of each label's share of the total of `sums`, shifted so that their mean is zero.
pub fn log_shares(sums: &[f64]) -> Vec<f32> {
    let logs: Vec<f64> = sums.iter().map(|sum| sum.max(1.0).ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|log| (log - mean) as f32).collect()
}

/// `row` times `factor`, value by value.
pub fn scaled(row: &[f32], factor: f32) -> Vec<f32> {
    row.iter().map(|value| value * factor).collect()
}

/// `row` minus `other`, value by value.
pub fn difference(row: &[f32], other: &[f32]) -> Vec<f32> {
    row.iter().zip(other).map(|(a, b)| a - b).collect()
}

/// Selects the strengths by [`prior_strength`] for `logits` (`[rows, labels]`, row-major) that
/// already contain the fraction `held` (0..1) of the log prior `shares`. `firsts`: the majority
/// label of each row; rows without one are ignored.
pub fn strength_for(
    logits: &[f32],
    firsts: &[Option<usize>],
    shares: &[f32],
    held: f32,
) -> anyhow::Result<PriorStrength> {
    let labels = shares.len();
    let clear: Vec<(&[f32], usize)> = logits
        .chunks(labels)
        .zip(firsts)
        .filter_map(|(row, first)| Some((row, (*first)?)))
        .collect();
    prior_strength(|common_labels, rare_labels| {
        let added = prior_at(common_labels - held, rare_labels - held, shares);
        let rows = clear.iter().flat_map(|(row, _)| row.iter().zip(&added));
        let truth = clear.iter().map(|(_, truth)| *truth).collect();
        Ok(LabelledLogits::new(
            labels,
            rows.map(|(l, a)| l + a).collect(),
            truth,
        ))
    })
}

/// The log prior to add to the face encoder's logits, and the strength of the prior that then
/// remains in them. Without it, the logits contain the full log prior of the training data. The
/// strength is selected on the selection data.
pub fn encoder_correction(
    recipe: &Recipe,
    net: &Encoder,
    crops: &[LabelledCrop],
) -> anyhow::Result<(Vec<f32>, PriorStrength)> {
    let face = &recipe.face.preprocessing;
    let mut sums = [0.0; LABELS.len()];
    for sample in fer::with_votes(crops, Part::Train).0 {
        for (sum, share) in sums.iter_mut().zip(sample.votes.shares()) {
            *sum += f64::from(share);
        }
    }
    let (select, _) = fer::with_votes(crops, Part::Select);
    let inputs: Vec<Vec<f32>> = select
        .iter()
        .map(|c| normalise(&c.crop, &face.normalise))
        .collect();
    let (_, logits) = encode_faces(net, &inputs, face.size)?;
    let firsts: Vec<Option<usize>> = select.iter().map(|c| c.votes.first()).collect();
    let shares = log_shares(&sums);
    let chosen = strength_for(&logits, &firsts, &shares, 1.0)?;
    Ok((difference(&chosen.prior(&shares), &shares), chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rare_strength_maximises_recall_within_the_accuracy_bound() {
        // 10 of 1,000 rows have the rare label. A weaker prior finds more of these rows and loses
        // an increasing number of others. The strength of the frequent label has no effect.
        let evaluate = |common_labels: f32, rare_labels: f32| {
            let found = ((common_labels - rare_labels) * 10.0).round().max(0.0) as usize;
            let lost = found * found * 2 / 5;
            let row = |answer: usize| if answer == 1 { [0.0, 1.0] } else { [1.0, 0.0] };
            let rows =
                (0..1000).map(|i| row(usize::from(i < found || (10..10 + lost).contains(&i))));
            let truth = (0..1000).map(|i| usize::from(i < 10)).collect();
            Ok(LabelledLogits::new(2, rows.flatten().collect(), truth))
        };
        let chosen = prior_strength(evaluate).unwrap();
        assert!((chosen.common_labels - 0.5).abs() < 1e-6, "{chosen:?}");
        // Found minus lost: 0, 1, 1, 0, -2, -5; four found is within 0.005 of the best accuracy.
        assert!((chosen.rare_labels - 0.1).abs() < 1e-6, "{chosen:?}");
        assert!((chosen.accuracy - 0.988).abs() < 1e-9, "{chosen:?}");
    }

    #[test]
    fn the_prior_of_a_rare_label_uses_the_rare_strength() {
        let shares = log_shares(&[600.0, 380.0, 20.0]);
        let strength = PriorStrength {
            common_labels: 0.5,
            rare_labels: -1.0,
            accuracy: 0.0,
            recall: 0.0,
        };
        let prior = strength.prior(&shares);
        assert_eq!(prior[0], 0.5 * shares[0]);
        assert_eq!(prior[1], 0.5 * shares[1]);
        assert_eq!(prior[2], -shares[2]);
    }

    #[test]
    fn strength_for_accounts_for_a_prior_already_in_the_logits() {
        // The prior favours label 0; the evidence of the second row favours 1.
        let (shares, seen) = (
            log_shares(&[800.0, 200.0]),
            [[2.0, 0.0], [0.0, 1.0]].concat(),
        );
        let held: Vec<f32> = (seen.iter().zip(shares.iter().cycle()))
            .map(|(seen, share)| seen + share)
            .collect();
        assert!((shares[0] - shares[1] - 4f32.ln()).abs() < 1e-6);
        let firsts = [Some(0), Some(1)];
        for (logits, already) in [(&seen, 0.0), (&held, 1.0)] {
            let chosen = strength_for(logits, &firsts, &shares, already).unwrap();
            assert!(
                chosen.accuracy == 1.0 && chosen.common_labels < 0.75,
                "{chosen:?}"
            );
        }
        let tied = strength_for(&seen, &[Some(0), None], &shares, 0.0).unwrap();
        assert_eq!((tied.accuracy, tied.recall), (1.0, 1.0));
    }
}
