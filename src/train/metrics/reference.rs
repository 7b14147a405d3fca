//! The reference's metrics as coded: torchmetrics 1.3.1 as `classification_model.py:_setup_metrics`
//! sets it up (`src/train/method.md` e.1).
//!
//! Different from the literature: [`Average::Weighted`] accuracy of several labels weights each
//! label's share of right yes/no decisions by its support.

use crate::train::metrics::predictions::sigmoid;

/// How the values of the labels are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Weighted by support.
    Weighted,
    /// Unweighted mean over labels. With one label per item, only classes that occur in truth or
    /// predictions count.
    Macro,
    /// One value over the pooled decisions of all labels.
    Micro,
}

/// Binary decisions about one label, counted against the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    pub true_positive: u64,
    pub false_positive: u64,
    pub false_negative: u64,
    pub true_negative: u64,
}

impl Decisions {
    /// Number of items with the label.
    pub fn support(&self) -> u64 {
        self.true_positive + self.false_negative
    }
    /// Number of items.
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

/// One of the four metrics that the reference reports.
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

    /// The metric of one label; 0 if its denominator is 0. With several labels (`multi`), the
    /// accuracy counts true negatives.
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

    /// The metric averaged over `labels`.
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

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
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

    /// Compares every number of `expected` (`accuracy`: weighted; `accuracy_macro`, …;
    /// `accuracy_None`: per label) with the figure of `evaluate`. Returns how many there were.
    fn agree(expected: &Value, counts: &TallyCounts, case: &str) -> usize {
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
    fn figures_of_evaluate_are_torchmetrics_in_every_averaging() {
        let fixture = crate::testing::golden("metrics.json");
        let mut compared = 0;
        for case in fixture["cases"].as_array().unwrap() {
            let (name, inputs) = (case["case"].as_str().unwrap(), &case["inputs"]);
            let width = inputs["logits"]["shape"][1].as_u64().unwrap() as usize;
            let of = |inputs: &[f32], truth: Truth| counts(width, inputs, truth);
            let (logits, truth) = (floats(&inputs["logits"]), truth(&inputs["targets"]));
            let all = of(&logits, truth.clone());
            compared += agree(&case["out"], &all, name);
            if let Some(unit) = inputs.get("logits_all_in_unit_interval") {
                let all = of(&floats(unit), truth.clone());
                compared += agree(&case["out_probs_in_unit_interval"], &all, name);
            }
            // The authors' sum over two batches: with one label an item it is that of one batch.
            if let (Some(expected), Truth::Classes(_)) = (case.get("out_two_batches"), &truth) {
                compared += agree(expected, &all, name);
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
        // Ties go to the first.
        let tied = counts(2, &[0.5, 0.5], Truth::Classes(vec![1]));
        assert_eq!(tied.reference[0].false_positive, 1);
        // Without any item.
        assert_eq!(macro_accuracy(&counts(3, &[], Truth::Labels(vec![]))), None);
        let none = [Decisions::default(); 3];
        assert_eq!(
            ReferenceMetric::F1.averaged(&none, true, Average::Weighted),
            0.0
        );
    }
}
