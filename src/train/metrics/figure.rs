//! The metrics by name, each with a definition of one sentence for the legend of reports.

use crate::manifest::Task;
use crate::train::metrics::reference::{Average, Decisions, ReferenceMetric};
use crate::train::metrics::tally::{BINS, Tally};

/// A [`Tally`] with its true and false positives and negatives per label: the input of a metric.
#[derive(Clone, Debug)]
pub struct TallyCounts {
    pub tally: Tally,
    /// Counts of each label, in the order of the tally's labels.
    pub labels: Vec<Decisions>,
    /// As `labels`, with predictions by ConCluGen's rule ([`Tally::reference_cells`]).
    pub reference: Vec<Decisions>,
}

impl TallyCounts {
    /// Counts the decisions of `tally`.
    pub fn new(tally: Tally) -> TallyCounts {
        let (labels, reference) = (tally.decisions(), tally.reference_decisions());
        TallyCounts {
            tally,
            labels,
            reference,
        }
    }

    fn multi(&self) -> bool {
        self.tally.task == Task::Multi
    }
}

/// A metric over all items. Its value is `None` if it is undefined, for example without items.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Name in reports and in JSON, for example `war`.
    pub name: &'static str,
    /// Definition in one sentence, the legend in reports.
    pub definition: &'static str,
    /// Whether the summary table of a report shows the metric; its full list shows every metric.
    pub headline: bool,
    pub better: Better,
    /// Whether the metric is defined for items with exactly one label.
    single: bool,
    /// Whether the metric is defined for items with any number of labels.
    multi: bool,
    compute: fn(&TallyCounts) -> Option<f64>,
}

/// Whether higher or lower values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// The metric measures an amount, not quality (for example the share of answered items).
    Neither,
}

impl Metric {
    /// Whether the metric is defined for this task.
    pub fn is_for(&self, task: Task) -> bool {
        if task == Task::Single {
            self.single
        } else {
            self.multi
        }
    }
    /// The metric's value; `None` where it is undefined.
    pub fn compute(&self, counts: &TallyCounts) -> Option<f64> {
        (self.compute)(counts)
    }
    /// The metrics that are defined for `task`, in the order of a report.
    pub fn all(task: Task) -> impl Iterator<Item = &'static Metric> {
        METRICS.iter().filter(move |metric| metric.is_for(task))
    }
    /// The metric with this name; `None` if `task` has no such metric.
    pub fn named(task: Task, name: &str) -> Option<&'static Metric> {
        Metric::all(task).find(|metric| metric.name == name)
    }
}

/// A metric of each label (recall, precision, …), with the fields of [`Metric`].
#[derive(Clone, Copy)]
pub struct LabelMetric {
    pub name: &'static str,
    pub definition: &'static str,
    single: bool,
    multi: bool,
    compute: fn(&TallyCounts, usize) -> Option<f64>,
}

impl LabelMetric {
    /// The metric of the label with index `label` in `counts`; `None` where it is undefined.
    pub fn compute(&self, counts: &TallyCounts, label: usize) -> Option<f64> {
        (self.compute)(counts, label)
    }
    /// The metrics of each label that are defined for `task`, in the order of a report.
    pub fn all(task: Task) -> impl Iterator<Item = &'static LabelMetric> {
        LABEL_METRICS.iter().filter(move |metric| {
            if task == Task::Single {
                metric.single
            } else {
                metric.multi
            }
        })
    }
}

/// Table of [`Metric`]s. An entry's first word is its task: `single`, `multi` or `both`.
macro_rules! metrics {
    ($(
        $task:ident $headline:literal $better:ident $name:literal,
        $definition:literal,
        $compute:expr;
    )*) => {
        &[$(Metric {
            name: $name, definition: $definition, headline: $headline, better: Better::$better,
            single: for_single(stringify!($task)),
            multi: for_multi(stringify!($task)),
            compute: $compute,
        }),*]
    };
}

/// Whether a table entry with the task word `task` is for single-label tasks.
const fn for_single(task: &str) -> bool {
    task.as_bytes()[0] != b'm'
}

/// Whether a table entry with the task word `task` is for multi-label tasks.
const fn for_multi(task: &str) -> bool {
    task.as_bytes()[0] != b's'
}

static METRICS: &[Metric] = metrics! {
    single true Higher "war",
        "Weighted average recall of the literature: the share of items whose top label is right, \
         which is plain accuracy.",
        |t| exact(t);
    single true Higher "uar",
        "Unweighted average recall: the mean of the classes' recalls, over the classes that occur.",
        |t| mean_of(t, recall);
    multi true Higher "mosei_wa",
        "CMU-MOSEI's usual weighted accuracy: per label (TP x N/P + TN) / 2N with P items that \
         have it and N that have not, then the mean over the labels that occur both ways.",
        |t| mean_of(t, mosei_wa);
    multi true Higher "mosei_f1",
        "CMU-MOSEI's usual F1: per label the mean of the F1 of yes and of no, weighted by how \
         often each is true, then the mean over labels.",
        |t| mean_of(t, mosei_f1);
    multi true Higher "exact_match", "Share of items of which every label is right.", |t| exact(t);
    multi true Higher "label_accuracy",
        "Share of all (item, label) answers that are right (1 - Hamming loss).",
        |t| mean_of(t, |d| share(d.true_positive + d.true_negative, d.count()));
    both true Higher "f1_macro",
        "Mean of the labels' F1, each label the same; of single-label classes those that are true \
         or predicted at least once.",
        |t| Some(ReferenceMetric::F1.averaged(&t.labels, t.multi(), Average::Macro))
            .filter(|_| t.tally.items > 0);
    multi true Higher "f1_micro",
        "F1 over all labels' answers in one pot.",
        |t| Some(ReferenceMetric::F1.averaged(&t.labels, true, Average::Micro))
            .filter(|_| t.tally.items > 0);
    both true Higher "f1_weighted",
        "Mean of the labels' F1, weighted by how often each label is true.",
        |t| Some(ReferenceMetric::F1.averaged(&t.labels, t.multi(), Average::Weighted))
            .filter(|_| t.tally.items > 0);
    single true Higher "reference_accuracy_weighted",
        "ConCluGen's own 'accuracy' as coded: classes' recalls weighted by how often each is \
         true, the same number as war.",
        |t| reference(t, ReferenceMetric::Accuracy, Average::Weighted);
    multi true Higher "reference_accuracy_weighted",
        "ConCluGen's own 'accuracy' as coded: each label's share of right yes/no answers, \
         weighted by how often the label is true; neither mosei_wa nor exact_match.",
        |t| reference(t, ReferenceMetric::Accuracy, Average::Weighted);
    both true Higher "reference_precision_weighted",
        "ConCluGen's own 'precision' as coded: labels' precisions (0 for a label never \
         predicted), weighted by how often each is true.",
        |t| reference(t, ReferenceMetric::Precision, Average::Weighted);
    both true Higher "reference_recall_weighted",
        "ConCluGen's own 'recall' as coded: labels' recalls, weighted by how often each is true.",
        |t| reference(t, ReferenceMetric::Recall, Average::Weighted);
    both true Higher "reference_f1_weighted",
        "ConCluGen's own 'F1' as coded: labels' F1, weighted by how often each is true.",
        |t| reference(t, ReferenceMetric::F1, Average::Weighted);
    both false Higher "reference_accuracy_macro",
        "torchmetrics' accuracy with average='macro'.",
        |t| reference(t, ReferenceMetric::Accuracy, Average::Macro);
    both false Higher "reference_precision_macro",
        "torchmetrics' precision with average='macro'.",
        |t| reference(t, ReferenceMetric::Precision, Average::Macro);
    both false Higher "reference_recall_macro",
        "torchmetrics' recall with average='macro'.",
        |t| reference(t, ReferenceMetric::Recall, Average::Macro);
    both false Higher "reference_f1_macro",
        "torchmetrics' F1 with average='macro'.",
        |t| reference(t, ReferenceMetric::F1, Average::Macro);
    both false Higher "reference_accuracy_micro",
        "torchmetrics' accuracy with average='micro'.",
        |t| reference(t, ReferenceMetric::Accuracy, Average::Micro);
    both false Higher "reference_precision_micro",
        "torchmetrics' precision with average='micro'.",
        |t| reference(t, ReferenceMetric::Precision, Average::Micro);
    both false Higher "reference_recall_micro",
        "torchmetrics' recall with average='micro'.",
        |t| reference(t, ReferenceMetric::Recall, Average::Micro);
    both false Higher "reference_f1_micro",
        "torchmetrics' F1 with average='micro'.",
        |t| reference(t, ReferenceMetric::F1, Average::Micro);
    single true Lower "ece",
        "Expected calibration error: items in 15 bins of equal width by the top label's \
         probability, lower edge within; the mean over items of |mean probability - share right| \
         of the bin.",
        |t| calibration_error(t);
    multi true Lower "ece",
        "Expected calibration error: (item, label) pairs in 15 bins of equal width by the label's \
         probability, lower edge within; the mean over pairs of |mean probability - share that \
         hold| of the bin.",
        |t| calibration_error(t);
    single true Lower "brier",
        "Brier score: the mean over items of the sum over labels of (probability - truth) \
         squared, 0 to 2.",
        |t| mean(t, t.tally.brier);
    multi true Lower "brier",
        "Brier score: the mean over items and labels of (probability - truth) squared, 0 to 1.",
        |t| mean(t, t.tally.brier);
    single true Lower "nll",
        "Negative log-likelihood: the mean over items of -ln of the probability of what is true.",
        |t| mean(t, t.tally.log_loss);
    multi true Lower "nll",
        "Negative log-likelihood: the mean over items and labels of -ln of the probability given \
         to the label's truth (binary cross-entropy).",
        |t| mean(t, t.tally.log_loss);
    both true Neither "answered",
        "Share of items that are answered: the highest score reaches the abstain threshold.",
        |t| share(t.tally.answered, t.tally.items);
    both true Higher "answered_accuracy",
        "Of the answered items, the share whose top label is right.",
        |t| share(t.tally.answered_right, t.tally.answered);
};

macro_rules! label_metrics {
    ($($task:ident $name:literal, $definition:literal, $compute:expr;)*) => {
        &[$(LabelMetric {
            name: $name,
            definition: $definition,
            single: for_single(stringify!($task)),
            multi: for_multi(stringify!($task)),
            compute: $compute,
        }),*]
    };
}

static LABEL_METRICS: &[LabelMetric] = label_metrics! {
    both "recall",
        "Of the items that have the label, the share that are predicted to have it.",
        |t, l| recall(&t.labels[l]);
    both "precision",
        "Of the items predicted to have the label, the share that have it.",
        |t, l| share(
            t.labels[l].true_positive,
            t.labels[l].true_positive + t.labels[l].false_positive,
        );
    both "f1",
        "Harmonic mean of recall and precision.",
        |t, l| f1(
            t.labels[l].true_positive,
            t.labels[l].false_positive,
            t.labels[l].false_negative,
        );
    multi "mosei_wa", "(TP x N/P + TN) / 2N of this label.", |t, l| mosei_wa(&t.labels[l]);
    multi "mosei_f1",
        "F1 of yes and of no of this label, weighted by how often each is true.",
        |t, l| mosei_f1(&t.labels[l]);
    both "reference_accuracy",
        "The reference's per-class accuracy (torchmetrics, average=None).",
        |t, l| reference_label(t, l, ReferenceMetric::Accuracy);
    both "reference_precision",
        "The reference's per-class precision; 0 where the label is never predicted.",
        |t, l| reference_label(t, l, ReferenceMetric::Precision);
    both "reference_recall",
        "The reference's per-class recall; 0 where the label never holds.",
        |t, l| reference_label(t, l, ReferenceMetric::Recall);
    both "reference_f1",
        "The reference's per-class F1; 0 where the label neither holds nor is predicted.",
        |t, l| reference_label(t, l, ReferenceMetric::F1);
};

/// `part / of`; `None` if `of` is 0.
fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

fn mean(counts: &TallyCounts, sum: f64) -> Option<f64> {
    (counts.tally.items > 0).then(|| sum / counts.tally.items as f64)
}

fn exact(counts: &TallyCounts) -> Option<f64> {
    share(counts.tally.exact, counts.tally.items)
}

fn recall(decisions: &Decisions) -> Option<f64> {
    share(decisions.true_positive, decisions.support())
}

fn f1(true_positive: u64, false_positive: u64, false_negative: u64) -> Option<f64> {
    share(
        2 * true_positive,
        2 * true_positive + false_positive + false_negative,
    )
}

/// `(TP·N/P + TN) / 2N`, which is the mean of the recalls of positive and of negative items.
fn mosei_wa(decisions: &Decisions) -> Option<f64> {
    let negatives = decisions.false_positive + decisions.true_negative;
    Some((recall(decisions)? + share(decisions.true_negative, negatives)?) / 2.0)
}

/// F1 of positives and F1 of negatives, weighted by their numbers of items.
fn mosei_f1(d: &Decisions) -> Option<f64> {
    let yes = f1(d.true_positive, d.false_positive, d.false_negative).unwrap_or(0.0);
    let no = f1(d.true_negative, d.false_negative, d.false_positive).unwrap_or(0.0);
    let negatives = d.false_positive + d.true_negative;
    (d.count() > 0).then(|| (yes * d.support() as f64 + no * negatives as f64) / d.count() as f64)
}

/// Mean of `of` over the labels for which it is defined; `None` without any such label.
fn mean_of(counts: &TallyCounts, of: impl Fn(&Decisions) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = counts.labels.iter().filter_map(of).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn reference(counts: &TallyCounts, kind: ReferenceMetric, average: Average) -> Option<f64> {
    Some(kind.averaged(&counts.reference, counts.multi(), average))
        .filter(|_| counts.tally.items > 0)
}

fn reference_label(counts: &TallyCounts, label: usize, kind: ReferenceMetric) -> Option<f64> {
    Some(kind.value(&counts.reference[label], counts.multi())).filter(|_| counts.tally.items > 0)
}

fn calibration_error(counts: &TallyCounts) -> Option<f64> {
    let decisions: u64 = counts.tally.bins.iter().map(|b| b.decisions).sum();
    let gaps: f64 = counts
        .tally
        .bins
        .iter()
        .map(|b| (b.confidence - b.right as f64).abs())
        .sum();
    const { assert!(BINS == 15, "the definition says so") };
    (decisions > 0).then(|| gaps / decisions as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::tally::ItemCounts;
    use crate::train::metrics::{Predictions, Truth};

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("label {i}")).collect()
    }

    fn value(predictions: &Predictions, threshold: f32, name: &str) -> f64 {
        let counts = TallyCounts::new(ItemCounts::new(predictions, threshold).tally(|_| 1));
        Metric::named(predictions.task(), name)
            .unwrap_or_else(|| panic!("no metric {name}"))
            .compute(&counts)
            .unwrap()
    }

    /// Three items of class 0, predicted 0, 0, 1; two of class 1, predicted 1, 0; one of class 2.
    fn six_items() -> Predictions {
        let rows = [
            [0.7, 0.2, 0.1],
            [0.6, 0.3, 0.1],
            [0.3, 0.5, 0.2],
            [0.1, 0.8, 0.1],
            [0.5, 0.4, 0.1],
            [0.0, 0.1, 0.9],
        ];
        Predictions::new(
            names(3),
            rows.concat(),
            None,
            Truth::Classes(vec![0, 0, 0, 1, 1, 2]),
        )
        .unwrap()
    }

    #[test]
    fn single_label_metrics_equal_values_computed_by_hand() {
        let predictions = six_items();
        let close = |name, expected: f64| {
            let ours = value(&predictions, 0.6, name);
            assert!(
                (ours - expected).abs() < 1e-6,
                "{name}: {ours} is not {expected}"
            );
        };
        close("war", 4.0 / 6.0);
        close("reference_accuracy_weighted", 4.0 / 6.0);
        close("uar", (2.0 / 3.0 + 0.5 + 1.0) / 3.0);
        close("f1_macro", (2.0 / 3.0 + 0.5 + 1.0) / 3.0);
        close("f1_weighted", (2.0 / 3.0 * 3.0 + 0.5 * 2.0 + 1.0) / 6.0);
        // Bins of 1/15: .7 → 10, .6 → 9, .5 twice → 7 (both wrong), .8 → 12, .9 → 13.
        close("ece", (0.3 + 0.4 + 1.0 + 0.2 + 0.1) / 6.0);
        close(
            "nll",
            -(0.7f64.ln() + 0.6f64.ln() + 0.3f64.ln() + 0.8f64.ln() + 0.4f64.ln() + 0.9f64.ln())
                / 6.0,
        );
        close("brier", (0.14 + 0.26 + 0.78 + 0.06 + 0.62 + 0.02) / 6.0);
        close("answered", 4.0 / 6.0);
        close("answered_accuracy", 1.0);
        assert!(Metric::named(predictions.task(), "mosei_wa").is_none());
    }

    #[test]
    fn multi_label_metrics_equal_values_computed_by_hand() {
        // Label 0 holds in 1 of 4 and is predicted in 2; label 1 never holds and is predicted once.
        let scores = [[0.9, 0.2], [0.8, 0.6], [0.1, 0.1], [0.2, 0.3]].concat();
        let predictions = Predictions::new(
            names(2),
            scores,
            None,
            Truth::Labels(vec![true, false, false, false, false, false, false, false]),
        )
        .unwrap();
        let close = |name, expected: f64| {
            let ours = value(&predictions, 0.5, name);
            assert!(
                (ours - expected).abs() < 1e-6,
                "{name}: {ours} is not {expected}"
            );
        };
        // TP 1, P 1, TN 2, N 3: (1 x 3/1 + 2) / 6; label 1 has no P.
        close("mosei_wa", 5.0 / 6.0);
        let first = (2.0 / 3.0 * 1.0 + 0.8 * 3.0) / 4.0;
        let second = (6.0 / 7.0 * 4.0) / 4.0;
        close("mosei_f1", (first + second) / 2.0);
        close("exact_match", 3.0 / 4.0);
        close("label_accuracy", 6.0 / 8.0);
        close("f1_macro", (2.0 / 3.0) / 2.0);
        close("f1_micro", 2.0 / (2.0 + 2.0));
        close("reference_accuracy_weighted", 3.0 / 4.0);
        close("reference_accuracy_macro", 6.0 / 8.0);
        close(
            "brier",
            (0.01 + 0.04 + 0.64 + 0.36 + 0.01 + 0.01 + 0.04 + 0.09) / 8.0,
        );
        // Bins: .9→13; .2 .2→3 (.2 x 15 is 3 or just under); .8→12 (or 11); .6→9 (or 8); .1 .1→1;
        // .3→4: no bin mixes yes and no.
        close("ece", (0.1 + 0.4 + 0.8 + 0.6 + 0.2 + 0.3) / 8.0);
        close("answered", 0.5);
        close("answered_accuracy", 0.5);
        assert!(Metric::named(predictions.task(), "war").is_none());
    }

    #[test]
    fn reference_metrics_decide_on_logits_and_other_metrics_on_probabilities() {
        // The reference takes logits within 0..1 for probabilities, so 0.4 is a no. The other
        // metrics use sigmoid(0.4), which is above 0.5: a yes.
        let predictions = Predictions::from_logits(
            names(2),
            vec![0.4, 0.2],
            1.0,
            Truth::Labels(vec![true, true]),
        )
        .unwrap();
        assert_eq!(
            (
                value(&predictions, 0.5, "reference_recall_micro"),
                value(&predictions, 0.5, "exact_match")
            ),
            (0.0, 1.0)
        );
    }

    #[test]
    fn metric_names_are_unique_and_have_definitions() {
        for task in [Task::Single, Task::Multi] {
            let mut seen = std::collections::BTreeSet::new();
            for metric in Metric::all(task) {
                assert!(seen.insert(metric.name), "{} twice", metric.name);
                assert!(metric.definition.ends_with('.') && metric.definition.len() > 30);
            }
            assert!(seen.len() > 15);
        }
    }

    #[test]
    fn all_metrics_are_undefined_without_items() {
        let predictions = Predictions::new(names(2), vec![], None, Truth::Classes(vec![])).unwrap();
        let counts = TallyCounts::new(ItemCounts::new(&predictions, 0.5).tally(|_| 1));
        assert!(Metric::all(Task::Single).all(|metric| metric.compute(&counts).is_none()));
        assert!(LabelMetric::all(Task::Single).all(|metric| metric.compute(&counts, 0).is_none()));
    }
}
