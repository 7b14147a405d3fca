//! Calibration of confidence: temperature, expected calibration error, abstention threshold.
//!
//! [`calibrate`] weighs all items equally, and supports tasks with one label or several labels per
//! item. [`LabelledLogits`] weighs all labels equally, and supports one label per row.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::train::metrics::figure::{Metric, TallyCounts};
pub use crate::train::metrics::predictions::argmax;
use crate::train::metrics::tally::ItemCounts;
use crate::train::metrics::{PredictionError, Predictions, Truth};

/// Logits of rows with their true labels. In class-balanced metrics every label has the same total
/// weight, whatever its number of rows, because label frequencies at a user's camera are unknown.
#[derive(Clone, Debug)]
pub struct LabelledLogits {
    /// Number of labels.
    labels: usize,
    /// `[rows, labels]`, row-major.
    logits: Vec<f32>,
    /// Index of the true label of each row.
    truth: Vec<usize>,
    /// Weight of each row before class balancing: 1, or less if an item has one row for each of its
    /// labels.
    shares: Vec<f64>,
    /// Weight of each row in class-balanced metrics; the weights sum to 1.
    weights: Vec<f64>,
}

/// The top label's probability in a row, and whether this label is correct.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredPrediction {
    /// Probability of the top label, 0..1.
    pub confidence: f64,
    /// Whether the top label is correct.
    pub right: bool,
    /// Weight of the row in metrics.
    pub weight: f64,
}

impl LabelledLogits {
    /// Rows with one label each. `labels`: number of labels; `logits`: `[rows, labels]`, row-major;
    /// `truth`: index of each row's true label.
    pub fn new(labels: usize, logits: Vec<f32>, truth: Vec<usize>) -> Self {
        let shares = vec![1.0; truth.len()];
        LabelledLogits::shared(labels, logits, truth, shares)
    }

    /// Rows with the weights `shares`; an item with several labels has one row for each. If a share
    /// is that of the annotators who chose the label, accuracy is the mean share of annotators who
    /// agree with the prediction. The loss is then the cross-entropy against the annotators'
    /// distribution.
    pub fn shared(labels: usize, logits: Vec<f32>, truth: Vec<usize>, shares: Vec<f64>) -> Self {
        assert_eq!(logits.len(), labels * truth.len());
        assert_eq!(shares.len(), truth.len());
        let mut predictions = LabelledLogits {
            labels,
            logits,
            truth,
            shares,
            weights: Vec::new(),
        };
        let sums = predictions.sums();
        let present = sums.iter().filter(|sum| **sum > 0.0).count() as f64;
        predictions.weights = (predictions.truth.iter().zip(&predictions.shares))
            .map(|(truth, share)| share / (present * sums[*truth]))
            .collect();
        predictions
    }

    /// Removes class balancing: the weight of a row is proportional to its share.
    pub fn unweighted(mut self) -> Self {
        let all = self.shares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        self.weights = self.shares.iter().map(|share| share / all).collect();
        self
    }

    /// Number of items: the sum of the rows' shares, rounded.
    pub fn count(&self) -> usize {
        self.shares.iter().sum::<f64>().round() as usize
    }

    /// Number of items for statistics. If a row has a share above 1, the number of rows, because
    /// shares are then no counts of items.
    pub fn rows(&self) -> usize {
        if self.shares.iter().any(|share| *share > 1.0) {
            self.truth.len()
        } else {
            self.count()
        }
    }

    /// Sum of the rows' shares for each label.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.labels];
        for (truth, share) in self.truth.iter().zip(&self.shares) {
            sums[*truth] += share;
        }
        sums
    }

    /// The metric `name`, with equal weights of all rows. `None` without rows, for an unknown name,
    /// or if a row has another share than 1.
    pub fn metric(&self, name: &str) -> Option<f64> {
        if self.shares.iter().any(|share| *share != 1.0) {
            return None;
        }
        let labels = (0..self.labels).map(|label| label.to_string()).collect();
        let predictions = Predictions::from_logits(
            labels,
            self.logits.clone(),
            1.0,
            Truth::Classes(self.truth.clone()),
        )
        .ok()?;
        Metric::named(predictions.task(), name)?.compute(&TallyCounts::new(
            ItemCounts::new(&predictions, 0.0).tally(|_| 1),
        ))
    }

    /// The softmax probabilities of each row, with its logits divided by `temperature`.
    pub fn probabilities(&self, temperature: f64) -> impl Iterator<Item = Vec<f64>> {
        self.logits.chunks(self.labels).map(move |row| {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let odds: Vec<f64> = row
                .iter()
                .map(|l| (f64::from(l - highest) / temperature).exp())
                .collect();
            let sum: f64 = odds.iter().sum();
            odds.into_iter().map(|o| o / sum).collect()
        })
    }

    /// The top label's probability in each row, with logits divided by `temperature`, whether the
    /// label is correct, and the row's class-balanced weight.
    pub fn scored_predictions(&self, temperature: f64) -> Vec<ScoredPrediction> {
        let predictions = self
            .probabilities(temperature)
            .zip(&self.truth)
            .zip(&self.weights);
        predictions
            .map(|((row, truth), weight)| {
                let top =
                    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
                ScoredPrediction {
                    confidence: row[top],
                    right: top == *truth,
                    weight: *weight,
                }
            })
            .collect()
    }

    /// For each row: index of the true label, index of the predicted label, and the row's share.
    pub fn predictions(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.logits
            .chunks(self.labels)
            .zip(&self.truth)
            .zip(&self.shares)
            .map(|((row, truth), share)| (*truth, argmax(row), *share))
    }

    /// Share of correct predictions, 0..1, weighted by the rows' shares.
    pub fn accuracy(&self) -> f64 {
        let right = self
            .predictions()
            .filter(|(truth, answer, _)| truth == answer);
        right.map(|(.., share)| share).sum::<f64>()
            / self.shares.iter().sum::<f64>().max(f64::MIN_POSITIVE)
    }

    /// Mean recall over the labels that have rows (unweighted average recall, UAR), 0..1. After
    /// [`LabelledLogits::unweighted`] it is the accuracy.
    pub fn recall(&self) -> f64 {
        self.scored_predictions(1.0)
            .iter()
            .filter(|v| v.right)
            .map(|v| v.weight)
            .sum()
    }

    /// Recall of each label, 0..1; `None` for a label without rows.
    pub fn recalls(&self) -> Vec<Option<f64>> {
        let mut right = vec![0.0; self.labels];
        for (truth, answer, share) in self.predictions() {
            right[truth] += if truth == answer { share } else { 0.0 };
        }
        (right.into_iter().zip(self.sums()))
            .map(|(right, sum)| (sum > 0.0).then(|| right / sum))
            .collect()
    }

    /// Negative log-likelihood in nats, with logits divided by `temperature` and class-balanced
    /// weights.
    pub fn loss(&self, temperature: f64) -> f64 {
        let rows = self
            .probabilities(temperature)
            .zip(&self.truth)
            .zip(&self.weights);
        rows.map(|((row, truth), weight)| -weight * row[*truth].max(1e-12).ln())
            .sum()
    }

    /// The temperature from 0.05 to 20 that minimises [`LabelledLogits::loss`].
    pub fn temperature(&self) -> f64 {
        best_temperature(|temperature| self.loss(temperature))
    }

    /// Expected calibration error, 0..1, with class-balanced weights and 15 bins of equal width
    /// (Guo et al. 2017). Logits are divided by `temperature`.
    pub fn calibration_error(&self, temperature: f64) -> f64 {
        binned_error(&self.scored_predictions(temperature))
    }

    /// Expected calibration error that perfectly calibrated confidences would have by chance at
    /// this number of rows: the mean over 200 random draws of the correctness of each row.
    pub fn chance_error(&self, temperature: f64) -> f64 {
        let mut verdicts = self.scored_predictions(temperature);
        let mut rng = StdRng::seed_from_u64(1);
        let one = |_| {
            verdicts.iter_mut().for_each(|verdict| {
                verdict.right = rng.random_bool(verdict.confidence.clamp(0.0, 1.0))
            });
            binned_error(&verdicts)
        };
        (0..200).map(one).sum::<f64>() / 200.0
    }
}

/// Expected calibration error with 15 bins of equal width; the weights must sum to 1.
fn binned_error(verdicts: &[ScoredPrediction]) -> f64 {
    let mut bins = [[0.0f64; 2]; 15];
    for verdict in verdicts {
        let bin = &mut bins[((verdict.confidence * 15.0) as usize).min(14)];
        bin[0] += verdict.weight * verdict.confidence;
        bin[1] += if verdict.right { verdict.weight } else { 0.0 };
    }
    bins.iter()
        .map(|[confidence, right]| (confidence - right).abs())
        .sum()
}

/// The temperature from 0.05 to 20 that minimises `loss`, by golden-section search over its
/// logarithm. A log-likelihood has one minimum in this range.
fn best_temperature(loss: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-3.0f64, 3.0f64);
    while high - low > 1e-4 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(left.exp()) < loss(right.exp()) {
            high = right
        } else {
            low = left
        }
    }
    ((low + high) / 2.0).exp()
}

/// Penalty in nats of a temperature of e or 1/e. It corresponds to a normal prior of the
/// temperature's logarithm with mean 0 and variance 1/2.
const PRIOR: f64 = 1.0;

/// Calibration of one subset of modalities, before and after division of the logits by the
/// temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Number of recordings; several windows of a recording count as one.
    pub items: usize,
    /// The fitted temperature: the divisor of the logits.
    pub temperature: f32,
    /// Expected calibration error at temperature 1, 0..1.
    pub ece_before: f64,
    /// Expected calibration error at the fitted temperature, 0..1.
    pub ece_after: f64,
    /// Mean negative log-likelihood at temperature 1, in nats.
    pub nll_before: f64,
    /// Mean negative log-likelihood at the fitted temperature, in nats.
    pub nll_after: f64,
}

/// Fits the temperature that minimises the negative log-likelihood of `truth`: of a softmax for one
/// label per row, of one sigmoid per label for several. `logits`: `[rows, labels]`, row-major.
///
/// `items` is the number of recordings of the rows; the windows of one recording count as one. With
/// 0, the temperature is 1. A prior keeps the temperature near 1 if there are few recordings: a
/// temperature of e or 1/e costs `PRIOR` nats.
///
/// # Errors
/// The lengths of `logits` and `truth` do not match.
pub fn calibrate(
    labels: &[String],
    logits: &[f32],
    truth: &Truth,
    items: usize,
) -> Result<Calibrated, PredictionError> {
    let predictions = |temperature: f32| {
        Predictions::from_logits(labels.to_vec(), logits.to_vec(), temperature, truth.clone())
    };
    let before = predictions(1.0)?;
    let nll = |temperature: f64| log_loss(labels.len(), logits, truth, temperature);
    let temperature = if items == 0 {
        1.0
    } else {
        best_temperature(|t| nll(t) + PRIOR * t.ln().powi(2) / items as f64) as f32
    };
    let ece = |predictions: &Predictions| {
        let counts = TallyCounts::new(ItemCounts::new(predictions, 0.0).tally(|_| 1));
        Metric::named(predictions.task(), "ece")
            .and_then(|metric| metric.compute(&counts))
            .unwrap_or(0.0)
    };
    let (ece_before, ece_after) = (ece(&before), ece(&predictions(temperature)?));
    Ok(Calibrated {
        items,
        temperature,
        ece_before,
        ece_after,
        nll_before: nll(1.0),
        nll_after: nll(temperature.into()),
    })
}

/// Mean negative log-likelihood in nats, in f64. The mean is over items for one label per item, and
/// over pairs of item and label for several.
fn log_loss(labels: usize, logits: &[f32], truth: &Truth, temperature: f64) -> f64 {
    // ln(1 + e^x), for any x.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let (sum, count) = match truth {
        Truth::Classes(classes) => {
            let loss = |(row, class): (&[f32], &usize)| {
                let highest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let sum: f64 = row
                    .iter()
                    .map(|l| ((f64::from(*l) - highest) / temperature).exp())
                    .sum();
                sum.ln() - (f64::from(row[*class]) - highest) / temperature
            };
            (
                logits.chunks(labels).zip(classes).map(loss).sum::<f64>(),
                classes.len(),
            )
        }
        Truth::Labels(holds) => {
            let loss = |(logit, holds): (&f32, &bool)| {
                softplus(
                    if *holds {
                        -f64::from(*logit)
                    } else {
                        f64::from(*logit)
                    } / temperature,
                )
            };
            (logits.iter().zip(holds).map(loss).sum::<f64>(), holds.len())
        }
    };
    sum / count.max(1) as f64
}

/// The top label's confidence in each item, and whether the label is correct, as the daemon
/// computes them. Every item has weight 1; for class-balanced weights see
/// [`LabelledLogits::scored_predictions`].
pub fn scored_predictions(predictions: &Predictions) -> Vec<ScoredPrediction> {
    (0..predictions.count())
        .map(|item| ScoredPrediction {
            confidence: predictions.top(item).1.into(),
            right: predictions.is_right(item),
            weight: 1.0,
        })
        .collect()
}

/// The highest abstention threshold; it applies if the data do not justify a lower one.
pub const HIGHEST_THRESHOLD: f64 = 0.45;

/// The rule by which [`abstain_threshold`] selects the threshold, as text for model cards.
pub const THRESHOLD_RULE: &str = "\
    The abstention threshold starts at 0.45. It is lowered while at least half of the answers \
    within 0.05 above it are right, and at least half of all answers from it to 0.45. With few \
    recordings more must be right: the accuracy of the least confident 30 is estimated as \
    (right + 1) / (recordings + labels), and must be at least a half too.";

/// Width of the range of confidence above a threshold whose answers decide whether the threshold is
/// accepted.
const BAND: f64 = 0.05;

/// Number of recordings whose answers suffice to reject a threshold.
const DECIDING: f64 = 30.0;

/// The abstention threshold for a model with `labels` labels, from held-out predictions on
/// `recordings` recordings.
///
/// The search goes down from [`HIGHEST_THRESHOLD`] in steps of 0.01. A step is accepted if the
/// least confident answers that it permits are right more often than wrong. These are the answers
/// within 0.05 above the step. If they come from fewer than 30 recordings, the next more confident
/// ones are added. Their accuracy is estimated by the rule of succession, `(right + 1) /
/// (recordings + labels)`, and must be at least a half. With few recordings, or many labels, nearly
/// all answers must therefore be right.
///
/// Besides, at least half of the answers within 0.05 above the step must be right, and at least
/// half of all answers from the step to [`HIGHEST_THRESHOLD`]. Thus more confident answers cannot
/// outweigh wrong ones. A step without predictions within 0.05 above it is skipped. A step that
/// fails on fewer than 30 recordings does not end the search. Several predictions of one recording
/// count as one together.
pub fn abstain_threshold(
    predictions: &[ScoredPrediction],
    labels: usize,
    recordings: usize,
) -> f64 {
    let mut by_confidence: Vec<&ScoredPrediction> = predictions.iter().collect();
    by_confidence.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let weight: f64 = predictions.iter().map(|v| v.weight).sum();
    let per_weight = recordings as f64 / weight.max(f64::MIN_POSITIVE);
    let mut found = HIGHEST_THRESHOLD;
    for step in (0..(HIGHEST_THRESHOLD * 100.0).round() as u32).rev() {
        let threshold = f64::from(step) * 0.01;
        let permitted =
            &by_confidence[by_confidence.partition_point(|v| v.confidence < threshold)..];
        let within = |v: &ScoredPrediction| v.confidence < threshold + BAND;
        if !permitted.first().is_some_and(|v| within(v)) {
            continue;
        }
        let [mut right, mut all] = [0.0; 2];
        for prediction in permitted {
            if !within(prediction) && all >= DECIDING {
                break;
            }
            all += prediction.weight * per_weight;
            if prediction.right {
                right += prediction.weight * per_weight;
            }
        }
        // Whether at least half of the permitted answers below the confidence `end` are right, by
        // weight.
        let half_right_below = |end: f64| {
            let below = permitted.iter().take_while(|v| v.confidence < end);
            below.fold(0.0, |sum, v| {
                sum + if v.right { v.weight } else { -v.weight }
            }) >= 0.0
        };
        if (right + 1.0) / (all + labels as f64) >= 0.5 {
            if half_right_below(threshold + BAND) && half_right_below(HIGHEST_THRESHOLD) {
                found = threshold;
            }
        } else if all >= DECIDING {
            break;
        }
    }
    found
}

/// Coverage: the share of predictions with a confidence of at least `threshold`, by weight, 0..1.
pub fn answered(verdicts: &[ScoredPrediction], threshold: f64) -> f64 {
    let weight = |least: f64| -> f64 {
        let reach = verdicts.iter().filter(|v| v.confidence >= least);
        reach.map(|v| v.weight).sum()
    };
    weight(threshold) / weight(0.0).max(f64::MIN_POSITIVE)
}

/// Coverage (share of predictions that reach the abstention threshold) below which a warning is
/// printed.
const LOW_COVERAGE: f64 = 0.1;

/// The warning that a model abstains from nearly all predictions. `share`: part of the clips that
/// reaches the abstention threshold, 0..1; `clips`: words for these clips. `None`: the share is not
/// low.
pub fn low_coverage_warning(share: f64, clips: &str) -> Option<String> {
    (share < LOW_COVERAGE).then(|| {
        format!(
            "It hardly ever answers: {:.1} % of {clips} reach the abstention threshold. More \
             labelled recordings, or fewer labels, make it more confident.",
            100.0 * share
        )
    })
}

#[cfg(test)]
mod tests;
