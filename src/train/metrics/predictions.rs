//! A head's scores for items with known truth.

use thiserror::Error;

use crate::manifest::Task;

/// Scores of items with known truth: the input of every metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    labels: Vec<String>,
    task: Task,
    /// Probabilities, `[items, labels]` row by row: a softmax's for [`Task::Single`], a sigmoid
    /// each for [`Task::Multi`].
    scores: Vec<f32>,
    /// The logits of the probabilities, before any temperature, `[items, labels]`.
    logits: Option<Vec<f32>>,
    truth: Truth,
}

/// The true labels of the items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The index of each item's label.
    Classes(Vec<usize>),
    /// Whether each label is true, `[items, labels]` row by row.
    Labels(Vec<bool>),
}

/// Scores and truth that do not match in shape or range.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PredictionError {
    #[error("{what}: {found} values, {expected} were expected (items x labels)")]
    Shape {
        what: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("item {item} is of class {class}, and there are {labels} labels")]
    Class {
        item: usize,
        class: usize,
        labels: usize,
    },
    #[error(
        "item {item} has a score of {score}, which is no probability; the head's weights are \
         probably not numbers any more"
    )]
    Score { item: usize, score: f32 },
    #[error("at least two labels are needed")]
    Labels,
}

impl Predictions {
    /// Predictions from probabilities `[items, labels]`. `logits`: the input of the reference's
    /// metrics, if known.
    ///
    /// # Errors
    /// The shapes do not match, or a score is not a probability.
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

    /// Predictions from logits, with the daemon's conversion: division by `temperature`, then
    /// softmax or sigmoid by the kind of `truth`.
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
    /// Whether an item has one label or several.
    pub fn task(&self) -> Task {
        self.task
    }
    /// The true labels.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
    /// The probabilities of an item, one per label.
    pub fn scores(&self, item: usize) -> &[f32] {
        &self.scores[item * self.labels.len()..][..self.labels.len()]
    }
    /// The logits, `[items, labels]` row by row, if known.
    pub fn logits(&self) -> Option<&[f32]> {
        self.logits.as_deref()
    }
    /// The input of the reference's metrics: logits, or probabilities if there are none.
    pub fn reference_input(&self) -> &[f32] {
        self.logits.as_deref().unwrap_or(&self.scores)
    }
    /// Whether `label` is a true label of `item`.
    pub fn holds(&self, item: usize, label: usize) -> bool {
        match &self.truth {
            Truth::Classes(classes) => classes[item] == label,
            Truth::Labels(holds) => holds[item * self.labels.len() + label],
        }
    }
    /// The label with the highest score (the first one of a tie), and that score: the daemon's
    /// `top` and `confidence`.
    pub fn top(&self, item: usize) -> (usize, f32) {
        let scores = self.scores(item);
        let top = argmax(scores);
        (top, scores[top])
    }
    /// Whether the top label is a true label of `item`.
    pub fn is_right(&self, item: usize) -> bool {
        self.holds(item, self.top(item).0)
    }
}

/// Index of the highest value, the first one of a tie.
pub fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The logistic function, `1 / (1 + exp(-logit))`.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// The softmax of `row / temperature`.
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
    fn mismatched_scores_and_truth_are_refused() {
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
    fn probabilities_are_the_daemons() {
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
