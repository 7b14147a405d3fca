//! What a head said of items whose truth is known.

use thiserror::Error;

use crate::manifest::Task;

/// Scores against the truth: the input of every metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgements {
    labels: Vec<String>,
    task: Task,
    /// Probabilities, `[items, labels]` row by row: a softmax's for [`Task::Single`], a sigmoid each for [`Task::Multi`].
    scores: Vec<f32>,
    /// What the probabilities were made of, before any temperature, `[items, labels]`.
    logits: Option<Vec<f32>>,
    truth: Truth,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// One index in the labels per item.
    Classes(Vec<usize>),
    /// Whether each label holds, `[items, labels]` row by row.
    Labels(Vec<bool>),
}

/// Scores and truth that do not belong together.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum JudgementError {
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
        "item {item} has a score of {score}, which is no probability; the head's weights are probably not numbers any more"
    )]
    Score { item: usize, score: f32 },
    #[error("at least two labels are needed")]
    Labels,
}

impl Judgements {
    /// Probabilities as they are. `logits`: for the reference's metrics, whose input they are.
    pub fn new(
        labels: Vec<String>,
        scores: Vec<f32>,
        logits: Option<Vec<f32>>,
        truth: Truth,
    ) -> Result<Judgements, JudgementError> {
        let width = labels.len();
        if width < 2 {
            return Err(JudgementError::Labels);
        }
        let (task, items) = match &truth {
            Truth::Classes(classes) => (Task::Single, classes.len()),
            Truth::Labels(holds) => (Task::Multi, holds.len() / width),
        };
        let shape = |what, found: usize| {
            if found == items * width {
                Ok(())
            } else {
                Err(JudgementError::Shape {
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
                    return Err(JudgementError::Class {
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
            return Err(JudgementError::Score {
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
            return Err(JudgementError::Score {
                item: at / width,
                score: *logit,
            });
        }
        Ok(Judgements {
            labels,
            task,
            scores,
            logits,
            truth,
        })
    }

    /// Logits, made probabilities as the daemon does: divided by `temperature`, then softmax or sigmoid by the kind of `truth`.
    pub fn from_logits(
        labels: Vec<String>,
        logits: Vec<f32>,
        temperature: f32,
        truth: Truth,
    ) -> Result<Judgements, JudgementError> {
        let scores = match &truth {
            Truth::Classes(_) => logits
                .chunks(labels.len().max(1))
                .flat_map(|row| softmax(row, temperature))
                .collect(),
            Truth::Labels(_) => logits.iter().map(|l| sigmoid(l / temperature)).collect(),
        };
        Judgements::new(labels, scores, Some(logits), truth)
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.scores.len() / self.labels.len()
    }
    pub fn labels(&self) -> &[String] {
        &self.labels
    }
    pub fn task(&self) -> Task {
        self.task
    }
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
    /// Probabilities of an item, one per label.
    pub fn scores(&self, item: usize) -> &[f32] {
        &self.scores[item * self.labels.len()..][..self.labels.len()]
    }
    /// `[items, labels]` row by row.
    pub fn logits(&self) -> Option<&[f32]> {
        self.logits.as_deref()
    }
    /// What the reference's metrics are given: logits, or probabilities where there are none.
    pub fn reference_input(&self) -> &[f32] {
        self.logits.as_deref().unwrap_or(&self.scores)
    }
    /// Whether `label` holds for `item`.
    pub fn holds(&self, item: usize, label: usize) -> bool {
        match &self.truth {
            Truth::Classes(classes) => classes[item] == label,
            Truth::Labels(holds) => holds[item * self.labels.len() + label],
        }
    }
    /// Label with the highest score (the first of equals) and that score: the daemon's `top` and `confidence`.
    pub fn top(&self, item: usize) -> (usize, f32) {
        let scores = self.scores(item);
        let top = argmax(scores);
        (top, scores[top])
    }
    /// Whether the top label is right.
    pub fn is_right(&self, item: usize) -> bool {
        self.holds(item, self.top(item).0)
    }
}

/// Index of the highest value, the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

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
    fn what_does_not_belong_together_is_refused() {
        let shape = Judgements::new(names(2), vec![0.5; 3], None, Truth::Classes(vec![0, 1]));
        assert_eq!(
            shape.unwrap_err(),
            JudgementError::Shape {
                what: "scores",
                found: 3,
                expected: 4
            }
        );
        let class = Judgements::new(names(2), vec![0.5; 2], None, Truth::Classes(vec![2]));
        assert_eq!(
            class.unwrap_err(),
            JudgementError::Class {
                item: 0,
                class: 2,
                labels: 2
            }
        );
        let broken = Judgements::from_logits(
            names(2),
            vec![0.0, 1.0, f32::NAN, 0.0],
            1.0,
            Truth::Classes(vec![0, 1]),
        );
        assert!(matches!(
            broken.unwrap_err(),
            JudgementError::Score { item: 1, .. }
        ));
        let labels = Judgements::new(names(2), vec![0.5; 4], None, Truth::Labels(vec![true; 3]));
        assert!(matches!(labels.unwrap_err(), JudgementError::Shape { .. }));
    }

    #[test]
    fn probabilities_are_the_daemons() {
        let judged =
            Judgements::from_logits(names(2), vec![2.0, 0.0], 2.0, Truth::Classes(vec![0]))
                .unwrap();
        assert!(
            (judged.scores(0)[0] - sigmoid(1.0)).abs() < 1e-6
                && judged.top(0).0 == 0
                && judged.is_right(0)
        );
        let multi = Judgements::from_logits(
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
