//! The probabilities that a head predicts for items, with the items' true labels.

use thiserror::Error;

use crate::manifest::Task;

/// Predicted probabilities of items and their true labels: the input of every metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    labels: Vec<String>,
    task: Task,
    /// Probabilities, `[items, labels]` row by row: of a softmax over the labels for
    /// [`Task::Single`], of a sigmoid per label for [`Task::Multi`].
    scores: Vec<f32>,
    /// The logits from which `scores` were computed, not divided by a temperature, `[items,
    /// labels]` row by row. `None`: only the probabilities are known.
    logits: Option<Vec<f32>>,
    truth: Truth,
}

/// The true labels of the items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// One label per item: its index in the list of labels.
    Classes(Vec<usize>),
    /// Any number of labels per item: whether each label is true, `[items, labels]` row by row.
    Labels(Vec<bool>),
}

/// Scores and truth that are refused, because their shapes or values are invalid.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PredictionError {
    /// A list is not of the length items × labels.
    #[error("{what}: {found} values, {expected} were expected (items x labels)")]
    Shape {
        what: &'static str,
        found: usize,
        expected: usize,
    },
    /// The class of an item is not below the number of labels.
    #[error("item {item} is of class {class}, and there are {labels} labels")]
    Class {
        item: usize,
        class: usize,
        labels: usize,
    },
    /// A score is not within 0..1, or a logit is not finite.
    #[error(
        "item {item} has a score of {score}, which is no probability; the head's weights are \
         probably not numbers any more"
    )]
    Score { item: usize, score: f32 },
    /// There are fewer than two labels.
    #[error("at least two labels are needed")]
    Labels,
}

impl Predictions {
    /// Predictions from probabilities `scores` and, if known, their `logits`, each `[items,
    /// labels]` row by row. The metrics `reference_*` use the logits.
    ///
    /// # Errors
    /// There are fewer than two labels, the lengths do not match, a class is not below the number
    /// of labels, a score is not within 0..1, or a logit is not finite.
    pub fn new(
        labels: Vec<String>,
        scores: Vec<f32>,
        logits: Option<Vec<f32>>,
        truth: Truth,
    ) -> Result<Predictions, PredictionError> {
        let width = labels.len();
        if width < 2 {
            return Err(PredictionError::Labels);
        }
        let (task, items) = match &truth {
            Truth::Classes(classes) => (Task::Single, classes.len()),
            Truth::Labels(holds) => (Task::Multi, holds.len() / width),
        };
        let shape = |what, found: usize| {
            if found == items * width {
                Ok(())
            } else {
                Err(PredictionError::Shape {
                    what,
                    found,
                    expected: items * width,
                })
            }
        };
        shape("scores", scores.len())?;
        shape("logits", logits.as_ref().map_or(items * width, Vec::len))?;
        match &truth {
            Truth::Classes(classes) => {
                if let Some((item, class)) = classes
                    .iter()
                    .enumerate()
                    .find(|(_, class)| **class >= width)
                {
                    return Err(PredictionError::Class {
                        item,
                        class: *class,
                        labels: width,
                    });
                }
            }
            Truth::Labels(holds) => shape("truth", holds.len())?,
        }
        // A softmax in f32 may pass 1 by a rounding.
        if let Some((at, score)) = scores
            .iter()
            .enumerate()
            .find(|(_, s)| !(0.0..=1.0 + 1e-5).contains(*s))
        {
            return Err(PredictionError::Score {
                item: at / width,
                score: *score,
            });
        }
        if let Some((at, logit)) = logits
            .iter()
            .flatten()
            .enumerate()
            .find(|(_, l)| !l.is_finite())
        {
            return Err(PredictionError::Score {
                item: at / width,
                score: *logit,
            });
        }
        Ok(Predictions {
            labels,
            task,
            scores,
            logits,
            truth,
        })
    }

    /// Predictions from logits `[items, labels]`, row by row. As in the daemon, logits are divided
    /// by `temperature`; then a softmax ([`Truth::Classes`]) or a sigmoid ([`Truth::Labels`])
    /// makes them probabilities.
    ///
    /// # Errors
    /// Those of [`Predictions::new`].
    pub fn from_logits(
        labels: Vec<String>,
        logits: Vec<f32>,
        temperature: f32,
        truth: Truth,
    ) -> Result<Predictions, PredictionError> {
        let scores = match &truth {
            Truth::Classes(_) => logits
                .chunks(labels.len().max(1))
                .flat_map(|row| softmax(row, temperature))
                .collect(),
            Truth::Labels(_) => logits.iter().map(|l| sigmoid(l / temperature)).collect(),
        };
        Predictions::new(labels, scores, Some(logits), truth)
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.scores.len() / self.labels.len()
    }
    /// The labels, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
    /// Whether each item has exactly one label or any number of labels.
    pub fn task(&self) -> Task {
        self.task
    }
    /// The true labels of all items.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
    /// The probabilities of the item with index `item`, one per label.
    pub fn scores(&self, item: usize) -> &[f32] {
        &self.scores[item * self.labels.len()..][..self.labels.len()]
    }
    /// The logits, `[items, labels]` row by row; `None` if only the probabilities are known.
    pub fn logits(&self) -> Option<&[f32]> {
        self.logits.as_deref()
    }
    /// The input of the metrics `reference_*`, `[items, labels]` row by row: the logits if they are
    /// known, otherwise the probabilities.
    pub fn reference_input(&self) -> &[f32] {
        self.logits.as_deref().unwrap_or(&self.scores)
    }
    /// Whether the label with index `label` is true for the item with index `item`.
    pub fn holds(&self, item: usize, label: usize) -> bool {
        match &self.truth {
            Truth::Classes(classes) => classes[item] == label,
            Truth::Labels(holds) => holds[item * self.labels.len() + label],
        }
    }
    /// The index of the label with the highest probability of an item (the first one of a tie), and
    /// this probability. In the daemon's events they are `top` and `confidence`.
    pub fn top(&self, item: usize) -> (usize, f32) {
        let scores = self.scores(item);
        let top = argmax(scores);
        (top, scores[top])
    }
    /// Whether the label with the highest probability is true for the item with index `item`.
    pub fn is_right(&self, item: usize) -> bool {
        self.holds(item, self.top(item).0)
    }
}

/// Index of the highest of `values`, the first one of a tie; 0 for an empty list.
pub fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The logistic function, `1 / (1 + exp(-logit))`.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// The softmax of `row / temperature`: one probability per logit.
pub(crate) fn softmax(row: &[f32], temperature: f32) -> Vec<f32> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let odds: Vec<f32> = row
        .iter()
        .map(|l| ((l - highest) / temperature).exp())
        .collect();
    let sum: f32 = odds.iter().sum();
    odds.into_iter().map(|o| o / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("label {i}")).collect()
    }

    #[test]
    fn invalid_shapes_classes_and_scores_are_refused() {
        let shape = Predictions::new(names(2), vec![0.5; 3], None, Truth::Classes(vec![0, 1]));
        assert_eq!(
            shape.unwrap_err(),
            PredictionError::Shape {
                what: "scores",
                found: 3,
                expected: 4
            }
        );
        let class = Predictions::new(names(2), vec![0.5; 2], None, Truth::Classes(vec![2]));
        assert_eq!(
            class.unwrap_err(),
            PredictionError::Class {
                item: 0,
                class: 2,
                labels: 2
            }
        );
        let broken = Predictions::from_logits(
            names(2),
            vec![0.0, 1.0, f32::NAN, 0.0],
            1.0,
            Truth::Classes(vec![0, 1]),
        );
        assert!(matches!(
            broken.unwrap_err(),
            PredictionError::Score { item: 1, .. }
        ));
        let labels = Predictions::new(names(2), vec![0.5; 4], None, Truth::Labels(vec![true; 3]));
        assert!(matches!(labels.unwrap_err(), PredictionError::Shape { .. }));
    }

    #[test]
    fn logits_become_probabilities_by_temperature_and_softmax_or_sigmoid() {
        let predictions =
            Predictions::from_logits(names(2), vec![2.0, 0.0], 2.0, Truth::Classes(vec![0]))
                .unwrap();
        assert!(
            (predictions.scores(0)[0] - sigmoid(1.0)).abs() < 1e-6
                && predictions.top(0).0 == 0
                && predictions.is_right(0)
        );
        let multi = Predictions::from_logits(
            names(2),
            vec![2.0, -2.0],
            2.0,
            Truth::Labels(vec![false, true]),
        )
        .unwrap();
        assert!(
            (multi.scores(0)[1] - sigmoid(-1.0)).abs() < 1e-6
                && !multi.is_right(0)
                && multi.task() == Task::Multi
        );
        assert_eq!(argmax(&[0.3, 0.3, 0.1]), 0);
    }
}
