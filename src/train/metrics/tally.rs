//! Sums over items from which all metrics are computed. Each item is evaluated once; a bootstrap
//! resample only adds up the results again.

use crate::manifest::Task;
use crate::train::metrics::predictions::{Predictions, argmax};
use crate::train::metrics::reference::{Decisions, multi_label_predictions};

/// Number of bins of confidence, which have equal width: the bins of the expected calibration error
/// and of the reliability diagram.
pub const BINS: usize = 15;

/// The contribution of one item to a [`Tally`].
#[derive(Clone, Debug)]
struct ItemCount {
    /// [`Task::Single`]: one decision, the top label. [`Task::Multi`]: one decision per label.
    decisions: Vec<Decision>,
    /// Squared error of the probabilities.
    brier: f64,
    /// Negative log-likelihood of the truth, in nats.
    log_loss: f64,
    /// Whether all labels are predicted correctly.
    exact: bool,
    /// Whether the label with the highest score is true.
    top_right: bool,
    /// Whether the highest score reaches the abstention threshold.
    answered: bool,
}

/// A predicted label ([`Task::Single`]), or the yes or no to one label ([`Task::Multi`]).
#[derive(Clone, Copy, Debug)]
struct Decision {
    /// Index in [`Tally::cells`].
    cell: usize,
    /// Index in [`Tally::reference_cells`].
    reference_cell: usize,
    /// Index in [`Tally::bins`].
    bin: usize,
    /// Probability of the label.
    confidence: f64,
    /// Whether the label is true.
    right: bool,
}

/// The contribution of each item to a [`Tally`], computed once and added up for every resample.
#[derive(Clone, Debug)]
pub struct ItemCounts {
    task: Task,
    /// Number of labels.
    labels: usize,
    items: Vec<ItemCount>,
}

impl ItemCounts {
    /// Evaluates each item of `predictions`. An item whose highest score is below
    /// `abstain_threshold` (0..1) is an abstention.
    pub fn new(predictions: &Predictions, abstain_threshold: f32) -> ItemCounts {
        let labels = predictions.labels().len();
        let reference: Vec<bool> = match predictions.task() {
            Task::Single => predictions
                .reference_input()
                .chunks(labels)
                .flat_map(|row| one_hot(argmax(row), labels))
                .collect(),
            Task::Multi => multi_label_predictions(predictions.reference_input()),
        };
        let items = (0..predictions.count())
            .map(|item| {
                count_item(
                    predictions,
                    item,
                    &reference[item * labels..][..labels],
                    abstain_threshold,
                )
            })
            .collect();
        ItemCounts {
            task: predictions.task(),
            labels,
            items,
        }
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// The sums over all items, in which the item with index `i` is counted `times(i)` times.
    pub fn tally(&self, times: impl Fn(usize) -> u32) -> Tally {
        let width = if self.task == Task::Single {
            self.labels
        } else {
            4
        };
        let mut tally = Tally::new(self.task, self.labels, self.labels * width);
        for (index, item) in self.items.iter().enumerate() {
            let times = u64::from(times(index));
            if times > 0 {
                tally.add(item, times);
            }
        }
        tally
    }
}

/// `length` values, of which the one at `index` is true.
fn one_hot(index: usize, length: usize) -> impl Iterator<Item = bool> {
    (0..length).map(move |i| i == index)
}

/// Evaluates one item. `reference`: whether each label is predicted by the reference's rule.
fn count_item(
    predictions: &Predictions,
    item: usize,
    reference: &[bool],
    abstain_threshold: f32,
) -> ItemCount {
    let scores = predictions.scores(item);
    let labels = scores.len();
    let (top, confidence) = predictions.top(item);
    let holds: Vec<bool> = (0..labels)
        .map(|label| predictions.holds(item, label))
        .collect();
    let bin = |p: f32| ((f64::from(p) * BINS as f64) as usize).min(BINS - 1);
    let squares: f64 = scores
        .iter()
        .zip(&holds)
        .map(|(p, holds)| (f64::from(*p) - f64::from(u8::from(*holds))).powi(2))
        .sum();
    // The minimum of 1e-12 bounds the loss of a wrong certainty by 27.6 nats.
    let surprise = |p: f32| -f64::from(p).max(1e-12).ln();
    let (decisions, brier, log_loss) = match predictions.task() {
        Task::Single => {
            let truth = holds.iter().position(|h| *h).expect("a class holds");
            let predicted = reference
                .iter()
                .position(|r| *r)
                .expect("one is the highest");
            let right = top == truth;
            let decision = Decision {
                cell: truth * labels + top,
                reference_cell: truth * labels + predicted,
                bin: bin(confidence),
                confidence: confidence.into(),
                right,
            };
            (vec![decision], squares, surprise(scores[truth]))
        }
        Task::Multi => {
            let cell = |label: usize, predicted: bool| {
                label * 4 + 2 * usize::from(holds[label]) + usize::from(predicted)
            };
            let decision = |label: usize| Decision {
                cell: cell(label, scores[label] > 0.5),
                reference_cell: cell(label, reference[label]),
                bin: bin(scores[label]),
                confidence: scores[label].into(),
                right: holds[label],
            };
            let losses = scores.iter().zip(&holds).map(|(p, holds)| {
                if *holds {
                    surprise(*p)
                } else {
                    surprise(1.0 - p)
                }
            });
            (
                (0..labels).map(decision).collect(),
                squares / labels as f64,
                losses.sum::<f64>() / labels as f64,
            )
        }
    };
    let exact = match predictions.task() {
        Task::Single => holds[top],
        Task::Multi => scores
            .iter()
            .zip(&holds)
            .all(|(p, holds)| (*p > 0.5) == *holds),
    };
    ItemCount {
        decisions,
        brier,
        log_loss,
        exact,
        top_right: holds[top],
        answered: confidence >= abstain_threshold,
    }
}

/// Sums of one bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BinSum {
    /// Decisions in the bin: one per item, or with several labels one per item and label.
    pub decisions: u64,
    /// Correct decisions: the top label is true, or, with several labels, the label is true.
    pub right: u64,
    /// Sum of the confidences.
    pub confidence: f64,
}

/// Sums over items, from which every metric is computed ([`super::figure`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    pub task: Task,
    /// Number of labels.
    pub labels: usize,
    /// Number of items; an item that a resample draws twice counts twice.
    pub items: u64,
    /// Numbers of decisions, row-major. [`Task::Single`]: `[truth, predicted]`. [`Task::Multi`]:
    /// `[label, (true negatives, false positives, false negatives, true positives)]`.
    pub cells: Vec<u64>,
    /// As [`Tally::cells`], with labels predicted by ConCluGen's rule
    /// ([`multi_label_predictions`]; for [`Task::Single`] the highest logit).
    pub reference_cells: Vec<u64>,
    /// Sums of each bin of confidence, ascending.
    pub bins: [BinSum; BINS],
    /// Sum over items of the squared errors of the probabilities: their sum over labels
    /// ([`Task::Single`]) or their mean over labels ([`Task::Multi`]).
    pub brier: f64,
    /// Sum over items of the negative log-likelihood of the truth, in nats; with [`Task::Multi`] an
    /// item's value is the mean over its labels.
    pub log_loss: f64,
    /// Items whose labels are all predicted correctly.
    pub exact: u64,
    /// Items that are not abstentions.
    pub answered: u64,
    /// Items that are not abstentions and have the correct top label.
    pub answered_right: u64,
}

impl Tally {
    /// Sums without any item. `cells`: the length of [`Tally::cells`].
    fn new(task: Task, labels: usize, cells: usize) -> Tally {
        Tally {
            task,
            labels,
            items: 0,
            cells: vec![0; cells],
            reference_cells: vec![0; cells],
            bins: [BinSum::default(); BINS],
            brier: 0.0,
            log_loss: 0.0,
            exact: 0,
            answered: 0,
            answered_right: 0,
        }
    }

    /// Adds an item `times` times.
    fn add(&mut self, item: &ItemCount, times: u64) {
        self.items += times;
        for decision in &item.decisions {
            self.cells[decision.cell] += times;
            self.reference_cells[decision.reference_cell] += times;
            let bin = &mut self.bins[decision.bin];
            bin.decisions += times;
            bin.right += if decision.right { times } else { 0 };
            bin.confidence += decision.confidence * times as f64;
        }
        self.brier += item.brier * times as f64;
        self.log_loss += item.log_loss * times as f64;
        self.exact += if item.exact { times } else { 0 };
        self.answered += if item.answered { times } else { 0 };
        self.answered_right += if item.answered && item.top_right {
            times
        } else {
            0
        };
    }

    /// True and false positives and negatives of each label, in the order of the labels.
    pub fn decisions(&self) -> Vec<Decisions> {
        decisions(self.task, self.labels, &self.cells)
    }

    /// As [`Tally::decisions`], with labels predicted by ConCluGen's rule.
    pub fn reference_decisions(&self) -> Vec<Decisions> {
        decisions(self.task, self.labels, &self.reference_cells)
    }
}

/// True and false positives and negatives of each label. `cells`: as [`Tally::cells`].
fn decisions(task: Task, labels: usize, cells: &[u64]) -> Vec<Decisions> {
    if task == Task::Multi {
        let of = |c: &[u64]| Decisions {
            true_negative: c[0],
            false_positive: c[1],
            false_negative: c[2],
            true_positive: c[3],
        };
        return cells.chunks(4).map(of).collect();
    }
    let all: u64 = cells.iter().sum();
    let of = |label: usize| {
        let true_positive = cells[label * labels + label];
        let false_negative = cells[label * labels..][..labels].iter().sum::<u64>() - true_positive;
        let false_positive = (0..labels)
            .map(|truth| cells[truth * labels + label])
            .sum::<u64>()
            - true_positive;
        Decisions {
            true_positive,
            false_positive,
            false_negative,
            true_negative: all - true_positive - false_negative - false_positive,
        }
    };
    (0..labels).map(of).collect()
}
