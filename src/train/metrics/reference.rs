//! The reference's metrics as coded: torchmetrics 1.3.1 as `classification_model.py:_setup_metrics`
//! sets it up (`src/train/method.md` e.1).
//!
//! Different from the literature: [`Average::Weighted`] accuracy of several labels weights each
//! label's share of right yes/no decisions by its support.

use crate::train::metrics::predictions::{Predictions, Truth, argmax, sigmoid};

/// Averaging over labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Weighted by support.
    Weighted,
    /// Each label weighs the same; of single-label classes only those that occur in truth or
    /// predictions.
    Macro,
    /// All labels' decisions pooled.
    Micro,
}

/// Right and wrong decisions about one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
    pub true_negative: u64,
}

impl Decisions {
    /// The number of items with the label.
    pub fn support(&self) -> u64 {
        self.true_positive + self.false_negative
    }
    pub fn count(&self) -> u64 {
        self.support() + self.false_positive + self.true_negative
    }
    fn add(self, other: Decisions) -> Decisions {
        Decisions {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            true_negative: self.true_negative + other.true_negative,
        }
    }
}

/// One of the reference's four metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Accuracy,
    Precision,
    Recall,
    F1,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Accuracy, Kind::Precision, Kind::Recall, Kind::F1];

    /// One label's value; an empty denominator gives 0. `multi`: with several labels, where true
    /// negatives count for accuracy.
    pub fn of(self, decisions: &Decisions, multi: bool) -> f64 {
        let Decisions {
            true_positive: tp,
            false_positive: fp,
            false_negative: fn_,
            true_negative: tn,
        } = *decisions;
        match self {
            Kind::Accuracy if multi => share(tp + tn, tp + tn + fp + fn_),
            Kind::Accuracy | Kind::Recall => share(tp, tp + fn_),
            Kind::Precision => share(tp, tp + fp),
            Kind::F1 => share(2 * tp, 2 * tp + fn_ + fp),
        }
    }

    /// The labels' values averaged.
    pub fn averaged(self, labels: &[Decisions], multi: bool, average: Average) -> f64 {
        let weigh = |weight: &dyn Fn(&Decisions) -> u64| {
            let sum: u64 = labels.iter().map(weight).sum();
            let weighed: f64 = labels
                .iter()
                .map(|d| weight(d) as f64 * self.of(d, multi))
                .sum();
            if sum == 0 { 0.0 } else { weighed / sum as f64 }
        };
        match average {
            Average::Micro => self.of(
                &labels
                    .iter()
                    .fold(Decisions::default(), |sum, d| sum.add(*d)),
                multi,
            ),
            Average::Weighted => weigh(&Decisions::support),
            Average::Macro => weigh(&|d| u64::from(multi || d.support() + d.false_positive > 0)),
        }
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

/// Decisions per label, summed over updates as torchmetrics sums them.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceCounts {
    pub labels: Vec<Decisions>,
    pub multi: bool,
}

impl ReferenceCounts {
    pub fn new(labels: usize, multi: bool) -> ReferenceCounts {
        ReferenceCounts {
            labels: vec![Decisions::default(); labels],
            multi,
        }
    }

    /// All predictions as one batch.
    pub fn of(predictions: &Predictions) -> ReferenceCounts {
        let mut counts = ReferenceCounts::new(
            predictions.labels().len(),
            matches!(predictions.truth(), Truth::Labels(_)),
        );
        counts.update(predictions.reference_input(), predictions.truth());
        counts
    }

    /// One batch: `input` is `[items, labels]`, logits or probabilities.
    pub fn update(&mut self, input: &[f32], truth: &Truth) {
        let width = self.labels.len();
        match truth {
            Truth::Classes(classes) => {
                for (row, class) in input.chunks(width).zip(classes) {
                    let predicted = argmax(row);
                    for (label, decisions) in self.labels.iter_mut().enumerate() {
                        decide(decisions, predicted == label, *class == label);
                    }
                }
            }
            Truth::Labels(holds) => {
                for (at, (predicted, holds)) in multi_label_predictions(input)
                    .into_iter()
                    .zip(holds)
                    .enumerate()
                {
                    decide(&mut self.labels[at % width], predicted, *holds);
                }
            }
        }
    }

    pub fn averaged(&self, kind: Kind, average: Average) -> f64 {
        kind.averaged(&self.labels, self.multi, average)
    }

    /// torchmetrics' `average=None`.
    pub fn per_label(&self, kind: Kind) -> Vec<f64> {
        self.labels.iter().map(|d| kind.of(d, self.multi)).collect()
    }
}

/// The predicted labels of a batch: above 0.5, after a sigmoid if any value of the batch lies
/// outside of 0..1. Logits that all lie within are treated as probabilities, as in torchmetrics.
pub fn multi_label_predictions(batch: &[f32]) -> Vec<bool> {
    let probabilities = batch.iter().all(|v| (0.0..=1.0).contains(v));
    batch
        .iter()
        .map(|v| {
            if probabilities {
                *v > 0.5
            } else {
                sigmoid(*v) > 0.5
            }
        })
        .collect()
}

fn decide(decisions: &mut Decisions, predicted: bool, holds: bool) {
    match (predicted, holds) {
        (true, true) => decisions.true_positive += 1,
        (true, false) => decisions.false_positive += 1,
        (false, true) => decisions.false_negative += 1,
        (false, false) => decisions.true_negative += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn floats(array: &Value) -> Vec<f32> {
        array["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect()
    }

    fn truth(targets: &Value) -> Truth {
        let values: Vec<i64> = targets["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap())
            .collect();
        match targets["shape"].as_array().unwrap().len() {
            1 => Truth::Classes(values.into_iter().map(|v| v as usize).collect()),
            _ => Truth::Labels(values.into_iter().map(|v| v != 0).collect()),
        }
    }

    fn kind(name: &str) -> Kind {
        match name {
            "accuracy" => Kind::Accuracy,
            "precision" => Kind::Precision,
            "recall" => Kind::Recall,
            "f1" => Kind::F1,
            other => panic!("unknown metric {other}"),
        }
    }

    /// Every number of `expected` (`accuracy`: weighted; `accuracy_macro`, …; `accuracy_None`: per
    /// label). Returns how many there were.
    fn agree(expected: &Value, counts: &ReferenceCounts, case: &str) -> usize {
        let close = |ours: f64, theirs: &Value, name: &str| {
            let theirs = theirs.as_f64().unwrap();
            assert!(
                (ours - theirs).abs() <= 1e-6,
                "{case}, {name}: {ours} is not {theirs}"
            );
        };
        for (name, value) in expected.as_object().unwrap() {
            let (kind_name, average) = name.split_once('_').unwrap_or((name, "weighted"));
            let kind = kind(kind_name);
            match average {
                "weighted" => close(counts.averaged(kind, Average::Weighted), value, name),
                "macro" => close(counts.averaged(kind, Average::Macro), value, name),
                "micro" => close(counts.averaged(kind, Average::Micro), value, name),
                "None" => {
                    let (ours, theirs) = (counts.per_label(kind), value.as_array().unwrap());
                    assert_eq!(ours.len(), theirs.len());
                    ours.iter()
                        .zip(theirs)
                        .for_each(|(ours, theirs)| close(*ours, theirs, name));
                }
                other => panic!("unknown averaging {other}"),
            }
        }
        expected.as_object().unwrap().len()
    }

    #[test]
    fn all_cases_and_averagings_are_torchmetrics() {
        let fixture = crate::testing::golden("metrics.json");
        let mut compared = 0;
        for case in fixture["cases"].as_array().unwrap() {
            let (name, inputs) = (case["case"].as_str().unwrap(), &case["inputs"]);
            let width = inputs["logits"]["shape"][1].as_u64().unwrap() as usize;
            let truth = truth(&inputs["targets"]);
            let of = |inputs: &[f32]| {
                let mut counts = ReferenceCounts::new(width, matches!(truth, Truth::Labels(_)));
                counts.update(inputs, &truth);
                counts
            };
            let logits = floats(&inputs["logits"]);
            compared += agree(&case["out"], &of(&logits), name);
            if let Some(unit) = inputs.get("logits_all_in_unit_interval") {
                compared += agree(
                    &case["out_probs_in_unit_interval"],
                    &of(&floats(unit)),
                    name,
                );
            }
            if let (Some(expected), Truth::Classes(classes)) = (case.get("out_two_batches"), &truth)
            {
                let half = classes.len() / 2;
                let mut counts = ReferenceCounts::new(width, false);
                counts.update(
                    &logits[..half * width],
                    &Truth::Classes(classes[..half].to_vec()),
                );
                counts.update(
                    &logits[half * width..],
                    &Truth::Classes(classes[half..].to_vec()),
                );
                compared += agree(expected, &counts, name);
            }
        }
        assert!(compared >= 40, "{compared}");
    }

    #[test]
    fn the_sigmoid_is_the_batchs_and_not_the_values() {
        // 0.4 is no yes as a probability; as a logit it is (0.599).
        assert_eq!(multi_label_predictions(&[0.4, 0.6]), [false, true]);
        assert_eq!(
            multi_label_predictions(&[0.4, 0.6, -0.1]),
            [true, true, false]
        );
        assert_eq!(multi_label_predictions(&[0.5]), [false]);
    }

    #[test]
    fn classes_that_never_occur_count_in_no_macro() {
        let mut counts = ReferenceCounts::new(4, false);
        // Class 2 is predicted and never true; class 3 is neither.
        counts.update(
            &[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].concat(),
            &Truth::Classes(vec![0, 1]),
        );
        assert!((counts.averaged(Kind::Accuracy, Average::Macro) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(counts.averaged(Kind::Accuracy, Average::Weighted), 0.5);
        // Ties go to the first.
        let mut tied = ReferenceCounts::new(2, false);
        tied.update(&[0.5, 0.5], &Truth::Classes(vec![1]));
        assert_eq!(tied.labels[0].false_positive, 1);
        // Without any item.
        assert_eq!(
            ReferenceCounts::new(3, true).averaged(Kind::F1, Average::Weighted),
            0.0
        );
    }
}
