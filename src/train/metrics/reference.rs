//! The metrics of the reference, ConCluGen's published code: torchmetrics 1.3.1 with the settings
//! of `classification_model.py:_setup_metrics` (`src/train/method.md` e.1).
//!
//! One metric differs from the literature. For items with several labels, the
//! [`Average::Weighted`] accuracy is each label's share of correct yes/no decisions, weighted by
//! the number of items with the label.

use crate::train::metrics::predictions::sigmoid;

/// How a metric's values for the labels are averaged to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Mean over labels, weighted by the number of items with the label (its support).
    Weighted,
    /// Unweighted mean over labels. With one label per item, labels that occur neither in the truth
    /// nor in the predictions are left out.
    Macro,
    /// One value from the sums of the labels' [`Decisions`].
    Micro,
}

/// Counts of the items by whether they have a label and whether it is predicted for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
    pub true_negative: u64,
}

impl Decisions {
    /// Number of items that have the label.
    pub fn support(&self) -> u64 {
        self.true_positive + self.false_negative
    }
    /// Number of items.
    pub fn count(&self) -> u64 {
        self.support() + self.false_positive + self.true_negative
    }
    /// The sums of both counts.
    fn add(self, other: Decisions) -> Decisions {
        Decisions {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            true_negative: self.true_negative + other.true_negative,
        }
    }
}

/// One of the four metrics that the reference, ConCluGen's code, reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceMetric {
    Accuracy,
    Precision,
    Recall,
    F1,
}

impl ReferenceMetric {
    pub const ALL: [ReferenceMetric; 4] = [
        ReferenceMetric::Accuracy,
        ReferenceMetric::Precision,
        ReferenceMetric::Recall,
        ReferenceMetric::F1,
    ];

    /// The metric of one label, 0..1; 0 if its denominator is 0. `multi`: items may have several
    /// labels; accuracy then includes true negatives, and otherwise equals recall.
    pub fn value(self, decisions: &Decisions, multi: bool) -> f64 {
        let Decisions {
            true_positive: tp,
            false_positive: fp,
            false_negative: fn_,
            true_negative: tn,
        } = *decisions;
        match self {
            ReferenceMetric::Accuracy if multi => share(tp + tn, tp + tn + fp + fn_),
            ReferenceMetric::Accuracy | ReferenceMetric::Recall => share(tp, tp + fn_),
            ReferenceMetric::Precision => share(tp, tp + fp),
            ReferenceMetric::F1 => share(2 * tp, 2 * tp + fn_ + fp),
        }
    }

    /// The metric averaged over labels, 0..1. `labels`: the counts of each label; `multi`: items
    /// may have several labels.
    pub fn averaged(self, labels: &[Decisions], multi: bool, average: Average) -> f64 {
        let weigh = |weight: &dyn Fn(&Decisions) -> u64| {
            let sum: u64 = labels.iter().map(weight).sum();
            let weighed: f64 = labels
                .iter()
                .map(|d| weight(d) as f64 * self.value(d, multi))
                .sum();
            if sum == 0 { 0.0 } else { weighed / sum as f64 }
        };
        match average {
            Average::Micro => self.value(
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

/// `part / of`; 0 if `of` is 0, as in torchmetrics.
fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}

/// Whether each value of `batch`, a score of one label, predicts its label by torchmetrics' rule.
///
/// If all values lie within 0..1, they are taken for probabilities, also if they are logits. A
/// value outside of 0..1 makes all of them logits, and a sigmoid is applied. A label is predicted
/// if its probability is above 0.5.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::figure::{LabelMetric, Metric, TallyCounts};
    use crate::train::metrics::predictions::{Predictions, Truth};
    use crate::train::metrics::tally::ItemCounts;
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

    fn counts(labels: usize, inputs: &[f32], truth: Truth) -> TallyCounts {
        let names = (0..labels).map(|label| label.to_string()).collect();
        let predictions = Predictions::from_logits(names, inputs.to_vec(), 1.0, truth).unwrap();
        TallyCounts::new(ItemCounts::new(&predictions, 0.0).tally(|_| 1))
    }

    /// Checks that every number of the fixture `expected` equals the metric of `evaluate`, computed
    /// from `counts`. Keys: `accuracy` (weighted average), `accuracy_macro`, …, `accuracy_None`
    /// (per label). Returns the number of keys.
    fn assert_agrees(expected: &Value, counts: &TallyCounts, case: &str) -> usize {
        let close = |ours: f64, theirs: &Value, name: &str| {
            let theirs = theirs.as_f64().unwrap();
            assert!(
                (ours - theirs).abs() <= 1e-6,
                "{case}, {name}: {ours} is not {theirs}"
            );
        };
        let task = counts.tally.task;
        for (name, value) in expected.as_object().unwrap() {
            let (kind, average) = name.split_once('_').unwrap_or((name, "weighted"));
            if average == "None" {
                let metric = LabelMetric::all(task)
                    .find(|metric| metric.name == format!("reference_{kind}"))
                    .unwrap_or_else(|| panic!("unknown metric {name}"));
                let theirs = value.as_array().unwrap();
                assert_eq!(counts.tally.labels, theirs.len());
                theirs.iter().enumerate().for_each(|(label, theirs)| {
                    close(metric.compute(counts, label).unwrap(), theirs, name)
                });
            } else {
                let metric = Metric::named(task, &format!("reference_{kind}_{average}"))
                    .unwrap_or_else(|| panic!("unknown metric {name}"));
                close(metric.compute(counts).unwrap(), value, name);
            }
        }
        expected.as_object().unwrap().len()
    }

    #[test]
    fn reference_metrics_equal_torchmetrics_for_every_averaging() {
        let fixture = crate::testing::golden("metrics.json");
        let mut compared = 0;
        for case in fixture["cases"].as_array().unwrap() {
            let (name, inputs) = (case["case"].as_str().unwrap(), &case["inputs"]);
            let width = inputs["logits"]["shape"][1].as_u64().unwrap() as usize;
            let of = |inputs: &[f32], truth: Truth| counts(width, inputs, truth);
            let (logits, truth) = (floats(&inputs["logits"]), truth(&inputs["targets"]));
            let all = of(&logits, truth.clone());
            compared += assert_agrees(&case["out"], &all, name);
            if let Some(unit) = inputs.get("logits_all_in_unit_interval") {
                let all = of(&floats(unit), truth.clone());
                compared += assert_agrees(&case["out_probs_in_unit_interval"], &all, name);
            }
            // With one label per item, the authors' sums over two batches equal those of one.
            if let (Some(expected), Truth::Classes(_)) = (case.get("out_two_batches"), &truth) {
                compared += assert_agrees(expected, &all, name);
            }
        }
        assert!(compared >= 40, "{compared}");
    }

    #[test]
    fn one_value_outside_of_0_to_1_applies_the_sigmoid_to_the_whole_batch() {
        // As a probability, 0.4 is a no; as a logit it is a yes (its sigmoid is 0.599).
        assert_eq!(multi_label_predictions(&[0.4, 0.6]), [false, true]);
        assert_eq!(
            multi_label_predictions(&[0.4, 0.6, -0.1]),
            [true, true, false]
        );
        assert_eq!(multi_label_predictions(&[0.5]), [false]);
    }

    #[test]
    fn macro_averages_leave_out_classes_that_neither_occur_nor_are_predicted() {
        let macro_accuracy = |counts: &TallyCounts| {
            let metric = Metric::named(counts.tally.task, "reference_accuracy_macro").unwrap();
            metric.compute(counts)
        };
        // Class 2 is predicted and never true; class 3 is neither.
        let logits = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]].concat();
        let found = counts(4, &logits, Truth::Classes(vec![0, 1]));
        assert!((macro_accuracy(&found).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        let weighted =
            ReferenceMetric::Accuracy.averaged(&found.reference, false, Average::Weighted);
        assert_eq!(weighted, 0.5);
        // The first of two equal logits is predicted.
        let tied = counts(2, &[0.5, 0.5], Truth::Classes(vec![1]));
        assert_eq!(tied.reference[0].false_positive, 1);
        // Without any item, the metric is undefined.
        assert_eq!(macro_accuracy(&counts(3, &[], Truth::Labels(vec![]))), None);
        let none = [Decisions::default(); 3];
        assert_eq!(
            ReferenceMetric::F1.averaged(&none, true, Average::Weighted),
            0.0
        );
    }
}
