//! Logit adjustment for rare labels (Menon et al. 2021).
//!
//! A model that is trained on imbalanced data predicts rare labels too seldom. Part of the log
//! prior is subtracted from the logits, as far as accuracy on the selection data permits.

use crate::labels::LABELS;
use crate::preprocess::normalise;
use crate::train::calibrate::LabelledLogits;
use crate::train::data::Part;
use crate::train::data::fer::{self, LabelledCrop};
use crate::train::encoder_runs::encode_faces;
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;

/// The strength of the label prior in the logits, and its metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// 0: uniform prior; 1: the training data's prior.
    pub of_prior: f32,
    pub accuracy: f64,
    /// Mean recall over labels.
    pub recall: f64,
}

/// Accuracy that better recall of rare labels may cost.
const MOST_ACCURACY_LOST: f64 = 0.005;

/// Selects one of eleven prior strengths: the best mean recall among those with an accuracy within
/// 0.005 of the best. `evaluate` gives the predictions at a strength.
pub fn prior_strength(
    mut evaluate: impl FnMut(f32) -> anyhow::Result<LabelledLogits>,
) -> anyhow::Result<Strength> {
    let tried = (0..=10)
        .map(|tenths| {
            let of_prior = tenths as f32 / 10.0;
            let predictions = evaluate(of_prior)?;
            Ok(Strength {
                of_prior,
                accuracy: predictions.accuracy(),
                recall: predictions.recall(),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let best = tried.iter().map(|one| one.accuracy).fold(0.0, f64::max);
    let permitted = tried
        .into_iter()
        .filter(|one| one.accuracy >= best - MOST_ACCURACY_LOST);
    Ok(permitted
        .max_by(|a, b| a.recall.total_cmp(&b.recall))
        .expect("the best is within its own bound"))
}

/// Log priors in proportion to `sums`, with zero mean.
pub fn log_shares(sums: &[f64]) -> Vec<f32> {
    let logs: Vec<f64> = sums.iter().map(|sum| sum.max(1.0).ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|log| (log - mean) as f32).collect()
}

/// `row` times `factor`.
pub fn times(row: &[f32], factor: f32) -> Vec<f32> {
    row.iter().map(|value| value * factor).collect()
}

/// [`prior_strength`] of `logits` (`[rows, labels]`, row-major), which contain the fraction `held`
/// of the log prior `shares` already. `firsts`: the majority label of each row; rows without are
/// ignored.
pub fn strength_for(
    logits: &[f32],
    firsts: &[Option<usize>],
    shares: &[f32],
    held: f32,
) -> anyhow::Result<Strength> {
    let labels = shares.len();
    let clear: Vec<(&[f32], usize)> = logits
        .chunks(labels)
        .zip(firsts)
        .filter_map(|(row, first)| Some((row, (*first)?)))
        .collect();
    prior_strength(|strength| {
        let added = times(shares, strength - held);
        let rows = clear.iter().flat_map(|(row, _)| row.iter().zip(&added));
        let truth = clear.iter().map(|(_, truth)| *truth).collect();
        Ok(LabelledLogits::new(
            labels,
            rows.map(|(l, a)| l + a).collect(),
            truth,
        ))
    })
}

/// The correction of the face encoder's logits, which contain the full log prior of its training
/// data, and the prior strength that remains. Chosen on the selection data.
pub fn for_encoder(
    recipe: &Recipe,
    net: &Encoder,
    crops: &[LabelledCrop],
) -> anyhow::Result<(Vec<f32>, Strength)> {
    let face = &recipe.face.preprocessing;
    let mut sums = [0.0; LABELS.len()];
    for sample in fer::voted(crops, Part::Train).0 {
        for (sum, share) in sums.iter_mut().zip(sample.votes.shares()) {
            *sum += f64::from(share);
        }
    }
    let (select, _) = fer::voted(crops, Part::Select);
    let inputs: Vec<Vec<f32>> = select
        .iter()
        .map(|c| normalise(&c.crop, &face.normalise))
        .collect();
    let (_, logits) = encode_faces(net, &inputs, face.size)?;
    let firsts: Vec<Option<usize>> = select.iter().map(|c| c.votes.first()).collect();
    let shares = log_shares(&sums);
    let chosen = strength_for(&logits, &firsts, &shares, 1.0)?;
    Ok((times(&shares, chosen.of_prior - 1.0), chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_the_best_accuracy_the_best_recall_is_taken() {
        // 10 of 1,000 rows have the rare label: a weaker prior finds more of them and loses others.
        let evaluate = |of_prior: f32| {
            let found = ((1.0 - of_prior) * 10.0).round() as usize;
            let lost = found * found * 2 / 5;
            let row = |answer: usize| if answer == 1 { [0.0, 1.0] } else { [1.0, 0.0] };
            let rows =
                (0..1000).map(|i| row(usize::from(i < found || (10..10 + lost).contains(&i))));
            let truth = (0..1000).map(|i| usize::from(i < 10)).collect();
            Ok(LabelledLogits::new(2, rows.flatten().collect(), truth))
        };
        let chosen = prior_strength(evaluate).unwrap();
        // Found minus lost: 0, 1, 1, 0, -2, -5; four found is within 0.005 of the best accuracy.
        assert!((chosen.of_prior - 0.6).abs() < 1e-6, "{chosen:?}");
        assert!((chosen.accuracy - 0.988).abs() < 1e-9, "{chosen:?}");
    }

    #[test]
    fn a_prior_in_the_logits_is_not_added_twice() {
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
                chosen.accuracy == 1.0 && chosen.of_prior < 0.75,
                "{chosen:?}"
            );
        }
        let tied = strength_for(&seen, &[Some(0), None], &shares, 0.0).unwrap();
        assert_eq!((tied.accuracy, tied.recall), (1.0, 1.0));
    }
}
