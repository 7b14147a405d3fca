//! How far to trust a confidence: temperature, expected calibration error, and when to abstain.
//!
//! [`calibrate`] is for one label or several, each item weighing the same; [`Judged`] is for one label, each label weighing the same.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::train::metrics::figure::{Metric, Tallied};
use crate::train::metrics::tally::Marks;
use crate::train::metrics::{JudgementError, Judgements, Truth};

/// Index of the largest value; the first of equals.
pub fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// Logits with the truth; every label weighs the same in sum, whatever its count, since no one knows the labels' shares in front of
/// a user's camera.
#[derive(Clone, Debug)]
pub struct Judged {
    labels: usize,
    logits: Vec<f32>,
    truth: Vec<usize>,
    weights: Vec<f64>,
}

/// Top label's probability, whether it is right, and its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    pub confidence: f64,
    pub right: bool,
    pub weight: f64,
}

impl Judged {
    /// `logits` row by row, `labels` of them for each of `truth`.
    pub fn new(labels: usize, logits: Vec<f32>, truth: Vec<usize>) -> Self {
        assert_eq!(logits.len(), labels * truth.len());
        let mut counts = vec![0usize; labels];
        truth.iter().for_each(|t| counts[*t] += 1);
        let present = counts.iter().filter(|c| **c > 0).count() as f64;
        let weights = truth
            .iter()
            .map(|t| 1.0 / (present * counts[*t] as f64))
            .collect();
        Judged {
            labels,
            logits,
            truth,
            weights,
        }
    }

    /// The same rows, each weighing the same: for what has the labels' true shares.
    pub fn as_counted(mut self) -> Self {
        self.weights = vec![1.0 / self.truth.len().max(1) as f64; self.truth.len()];
        self
    }

    pub fn count(&self) -> usize {
        self.truth.len()
    }

    /// The metric of this name, each row weighing the same; `None` where there is nothing to judge or no such metric.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let labels = (0..self.labels).map(|label| label.to_string()).collect();
        let judged = Judgements::from_logits(
            labels,
            self.logits.clone(),
            1.0,
            Truth::Classes(self.truth.clone()),
        )
        .ok()?;
        Metric::named(judged.task(), name)?
            .compute(&Tallied::new(Marks::new(&judged, 0.0).tally(|_| 1)))
    }

    fn probabilities(&self, temperature: f64) -> impl Iterator<Item = Vec<f64>> {
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

    pub fn verdicts(&self, temperature: f64) -> Vec<Verdict> {
        let judged = self
            .probabilities(temperature)
            .zip(&self.truth)
            .zip(&self.weights);
        judged
            .map(|((row, truth), weight)| {
                let top =
                    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
                Verdict {
                    confidence: row[top],
                    right: top == *truth,
                    weight: *weight,
                }
            })
            .collect()
    }

    /// Truth and answer of each row.
    pub fn answers(&self) -> impl Iterator<Item = (usize, usize)> {
        self.logits
            .chunks(self.labels)
            .zip(&self.truth)
            .map(|(row, truth)| (*truth, largest(row)))
    }

    /// Share of rows that are right.
    pub fn accuracy(&self) -> f64 {
        self.verdicts(1.0).iter().filter(|v| v.right).count() as f64 / self.count().max(1) as f64
    }

    /// Mean of the labels' recalls (UAR).
    pub fn recall(&self) -> f64 {
        self.verdicts(1.0)
            .iter()
            .filter(|v| v.right)
            .map(|v| v.weight)
            .sum()
    }

    /// Recall of each label; `None` where there is no such row.
    pub fn recalls(&self) -> Vec<Option<f64>> {
        let verdicts = self.verdicts(1.0);
        (0..self.labels)
            .map(|label| {
                let of: Vec<_> = verdicts
                    .iter()
                    .zip(&self.truth)
                    .filter(|(_, t)| **t == label)
                    .collect();
                (!of.is_empty())
                    .then(|| of.iter().filter(|(v, _)| v.right).count() as f64 / of.len() as f64)
            })
            .collect()
    }

    /// Weighed negative log-likelihood.
    fn loss(&self, temperature: f64) -> f64 {
        let rows = self
            .probabilities(temperature)
            .zip(&self.truth)
            .zip(&self.weights);
        rows.map(|((row, truth), weight)| -weight * row[*truth].max(1e-12).ln())
            .sum()
    }

    /// The temperature with the least loss.
    pub fn temperature(&self) -> f64 {
        best_temperature(|temperature| self.loss(temperature))
    }

    /// Expected calibration error, 15 bins of equal width (Guo et al. 2017), weighed.
    pub fn calibration_error(&self, temperature: f64) -> f64 {
        error_of(&self.verdicts(temperature))
    }

    /// The calibration error that so few rows show by chance where every confidence is exactly right: the mean over 200 draws.
    pub fn chance_error(&self, temperature: f64) -> f64 {
        let mut verdicts = self.verdicts(temperature);
        let mut rng = StdRng::seed_from_u64(1);
        let one = |_| {
            verdicts.iter_mut().for_each(|verdict| {
                verdict.right = rng.random_bool(verdict.confidence.clamp(0.0, 1.0))
            });
            error_of(&verdicts)
        };
        (0..200).map(one).sum::<f64>() / 200.0
    }
}

fn error_of(verdicts: &[Verdict]) -> f64 {
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

/// The temperature in 0.05 to 20 with the least loss (golden-section search over its logarithm; a log-likelihood has one minimum there).
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

/// How strongly a temperature is believed to be 1 before anything was seen: a normal distribution of its logarithm, of variance 1/2.
const PRIOR: f64 = 1.0;

/// What a temperature does to one subset of modalities; `ece` and `nll` as the report defines them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    pub items: usize,
    pub temperature: f32,
    pub ece_before: f64,
    pub ece_after: f64,
    pub nll_before: f64,
    pub nll_after: f64,
}

/// The temperature by which the logits (`[items, labels]`, row by row) are divided for the least negative log-likelihood of the truth:
/// of a softmax for classes, of a sigmoid per label where several may hold. Without items: 1. Few items do not take it far from 1: to be e
/// times as warm or as cold costs as much as [`PRIOR`] nats of the truth's likelihood.
pub fn calibrate(
    labels: &[String],
    logits: &[f32],
    truth: &Truth,
) -> Result<Calibrated, JudgementError> {
    let judged = |temperature: f32| {
        Judgements::from_logits(labels.to_vec(), logits.to_vec(), temperature, truth.clone())
    };
    let before = judged(1.0)?;
    let items = before.count();
    let nll = |temperature: f64| log_loss(labels.len(), logits, truth, temperature);
    let temperature = if items == 0 {
        1.0
    } else {
        best_temperature(|t| nll(t) + PRIOR * t.ln().powi(2) / items as f64) as f32
    };
    let ece = |judged: &Judgements| {
        let tallied = Tallied::new(Marks::new(judged, 0.0).tally(|_| 1));
        Metric::named(judged.task(), "ece")
            .and_then(|metric| metric.compute(&tallied))
            .unwrap_or(0.0)
    };
    let (ece_before, ece_after) = (ece(&before), ece(&judged(temperature)?));
    Ok(Calibrated {
        items,
        temperature,
        ece_before,
        ece_after,
        nll_before: nll(1.0),
        nll_after: nll(temperature.into()),
    })
}

/// Mean negative log-likelihood in f64, over items (classes) or items and labels (several).
fn log_loss(labels: usize, logits: &[f32], truth: &Truth, temperature: f64) -> f64 {
    // ln(1 + e^x), for any x.
    let soft_plus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
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
                soft_plus(
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

/// An answer per item, as the daemon gives it: its confidence is the highest score. Each weighs 1; where every label is to weigh the
/// same in sum and only one holds, see [`Judged::verdicts`].
pub fn verdicts(judged: &Judgements) -> Vec<Verdict> {
    (0..judged.count())
        .map(|item| Verdict {
            confidence: judged.top(item).1.into(),
            right: judged.is_right(item),
            weight: 1.0,
        })
        .collect()
}

/// Where, coming down from `highest` in steps of 0.01, fewer than half of the answers within the next 0.05 are right: a confidence under
/// that is not worth an answer. `highest` where there is nothing to judge by.
pub fn abstain_threshold(verdicts: &[Verdict], highest: f64) -> f64 {
    let worth = |threshold: f64| {
        let near = verdicts
            .iter()
            .filter(|v| (threshold..threshold + 0.05).contains(&v.confidence));
        let [right, all] = near.fold([0.0, 0.0], |[right, all], v| {
            [right + if v.right { v.weight } else { 0.0 }, all + v.weight]
        });
        all > 0.0 && right >= 0.5 * all
    };
    let steps = (highest * 100.0).round() as u32;
    (0..steps)
        .rev()
        .map(|step| f64::from(step) * 0.01)
        .take_while(|threshold| worth(*threshold))
        .last()
        .unwrap_or(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two labels whose first is right in `right` of 100 cases, with the logit that a probability of `said` has.
    fn two(said: f64, right: usize) -> Judged {
        let logit = (said / (1.0 - said)).ln() as f32;
        let mut logits = Vec::new();
        let mut truth = Vec::new();
        for side in 0..2usize {
            for i in 0..100 {
                logits.extend(if side == 0 {
                    [logit, 0.0]
                } else {
                    [0.0, logit]
                });
                truth.push(if i < right { side } else { 1 - side });
            }
        }
        Judged::new(2, logits, truth)
    }

    #[test]
    fn a_boast_is_cooled_to_the_truth() {
        let judged = two(0.95, 70);
        assert!((judged.accuracy() - 0.7).abs() < 1e-9 && (judged.recall() - 0.7).abs() < 1e-9);
        assert!((judged.calibration_error(1.0) - 0.25).abs() < 1e-6);
        let temperature = judged.temperature();
        // ln(0.95/0.05) / ln(0.7/0.3)
        assert!((temperature - 3.475).abs() < 0.01, "{temperature}");
        assert!(judged.calibration_error(temperature) < 1e-3);
    }

    #[test]
    fn several_labels_share_a_temperature() {
        let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
        // Said with 0.95, true in 70 %; said with 0.05, true in 30 %.
        let logit = (0.95f32 / 0.05).ln();
        let logits: Vec<f32> = (0..10_000).flat_map(|_| [logit, -logit]).collect();
        let truth = Truth::Labels((0..10_000).flat_map(|i| [i % 10 < 7, i % 10 < 3]).collect());
        let found = calibrate(&names, &logits, &truth).unwrap();
        assert!((found.temperature - 3.475).abs() < 0.01, "{found:?}");
        assert!(
            (found.ece_before - 0.25).abs() < 1e-6
                && found.ece_after < 1e-3
                && found.nll_after < found.nll_before,
            "{found:?}"
        );
        // The same as one label of two, each item weighing the same.
        let rows: Vec<f32> = (0..10_000).flat_map(|_| [logit, 0.0]).collect();
        let one = calibrate(
            &names,
            &rows,
            &Truth::Classes((0..10_000).map(|i| usize::from(i % 10 >= 7)).collect()),
        )
        .unwrap();
        assert!(
            (one.temperature - found.temperature).abs() < 1e-3
                && (one.nll_after - found.nll_after).abs() < 1e-6,
            "{one:?}"
        );
        assert_eq!(
            calibrate(&names, &[], &Truth::Labels(vec![]))
                .unwrap()
                .temperature,
            1.0
        );
        assert!(calibrate(&names, &[f32::NAN, 0.0], &Truth::Classes(vec![0])).is_err());
    }

    #[test]
    fn a_few_clips_take_no_temperature_to_extremes() {
        let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
        let of = |clips: usize, truth: usize| {
            calibrate(
                &names,
                &[2.0, 0.0].repeat(clips),
                &Truth::Classes(vec![truth; clips]),
            )
            .unwrap()
            .temperature
        };
        // All right or all wrong: the more clips say so, the further it goes.
        assert!(
            (0.5..0.95).contains(&of(4, 0)) && of(400, 0) < 0.35,
            "{} {}",
            of(4, 0),
            of(400, 0)
        );
        assert!(
            (1.1..3.5).contains(&of(4, 1)) && of(400, 1) > 8.0,
            "{} {}",
            of(4, 1),
            of(400, 1)
        );
    }

    #[test]
    fn nll_is_the_reports() {
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let logits = [[0.3, -1.2, 2.0], [1.0, 0.4, -0.7]].concat();
        for truth in [
            Truth::Classes(vec![1, 0]),
            Truth::Labels(vec![true, false, true, false, false, true]),
        ] {
            let judged =
                Judgements::from_logits(names.clone(), logits.clone(), 1.7, truth.clone()).unwrap();
            let tallied = Tallied::new(Marks::new(&judged, 0.0).tally(|_| 1));
            let reported = Metric::named(judged.task(), "nll")
                .unwrap()
                .compute(&tallied)
                .unwrap();
            assert!((log_loss(3, &logits, &truth, f64::from(1.7f32)) - reported).abs() < 1e-6);
        }
        let verdicts = verdicts(
            &Judgements::from_logits(
                names,
                vec![0.0, 3.0, -3.0],
                1.0,
                Truth::Labels(vec![true, true, false]),
            )
            .unwrap(),
        );
        assert!(verdicts[0].right && (verdicts[0].confidence - 0.9526).abs() < 1e-3);
    }

    #[test]
    fn rare_labels_weigh_as_much_as_common_ones() {
        let judged = Judged::new(2, [[1.0, 0.0]; 10].concat(), [vec![0; 9], vec![1]].concat());
        assert!((judged.accuracy() - 0.9).abs() < 1e-9);
        assert!((judged.recall() - 0.5).abs() < 1e-9);
        assert_eq!(judged.recalls(), [Some(1.0), Some(0.0)]);
    }

    #[test]
    fn it_abstains_where_less_than_half_is_right() {
        let at = |confidence: f64, right| Verdict {
            confidence,
            right,
            weight: 1.0,
        };
        let mut verdicts: Vec<_> = (20..90)
            .flat_map(|c| {
                [
                    at(f64::from(c) * 0.01, c >= 33),
                    at(f64::from(c) * 0.01, c >= 33 && c % 2 == 0),
                ]
            })
            .collect();
        // One lucky answer far below does not count.
        verdicts.push(at(0.16, true));
        let threshold = abstain_threshold(&verdicts, 0.45);
        assert!((0.30..=0.34).contains(&threshold), "{threshold}");
        assert_eq!(abstain_threshold(&[at(0.9, true)], 0.45), 0.45);
    }
}
