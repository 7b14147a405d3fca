//! Example items by confidence, for error analysis.

use serde::Serialize;

use crate::manifest::Task;
use crate::train::metrics::Predictions;

/// An example item of a report: its id, words and labels, never its picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    pub id: String,
    /// The words of the item; `None`: unknown.
    pub text: Option<String>,
    /// Names of the true labels; empty if no label is true.
    pub truth: Vec<String>,
    /// Names of the predicted labels: the top label, or with several labels per item all labels
    /// with a probability above 0.5.
    #[serde(rename = "said")]
    pub predicted: Vec<String>,
    /// Probability of the top label, 0..1.
    pub confidence: f32,
}

/// Example items by the confidence of their predictions from one subset of modalities.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Examples {
    /// The name of the subset of modalities, such as `face+voice`.
    pub subset: String,
    /// The most confident correct predictions, by descending confidence.
    pub confident_right: Vec<Example>,
    /// The most confident wrong predictions, by descending confidence.
    pub confident_wrong: Vec<Example>,
    /// The least confident predictions, by ascending confidence.
    pub least_confident: Vec<Example>,
}

impl Examples {
    /// Selects up to `count` examples for each list. `ids` and `texts` have one entry per item of
    /// `predictions`, in its order; `texts` may be empty. Equal confidences are ordered by id.
    ///
    /// # Panics
    /// The lengths do not match.
    pub fn pick(
        subset: &str,
        predictions: &Predictions,
        ids: &[String],
        texts: &[Option<String>],
        count: usize,
    ) -> Examples {
        assert_eq!(ids.len(), predictions.count(), "an id per item");
        assert!(
            texts.is_empty() || texts.len() == ids.len(),
            "a text per item"
        );
        let mut order: Vec<usize> = (0..predictions.count()).collect();
        order.sort_by(|a, b| {
            predictions
                .top(*b)
                .1
                .total_cmp(&predictions.top(*a).1)
                .then_with(|| ids[*a].cmp(&ids[*b]))
        });
        let example = |item: &usize| {
            let names = |of: &dyn Fn(usize) -> bool| {
                predictions
                    .labels()
                    .iter()
                    .enumerate()
                    .filter(|(l, _)| of(*l))
                    .map(|(_, name)| name.clone())
                    .collect()
            };
            let (top, confidence) = predictions.top(*item);
            let predicted = |label: usize| {
                if predictions.task() == Task::Single {
                    label == top
                } else {
                    predictions.scores(*item)[label] > 0.5
                }
            };
            let text = texts.get(*item).cloned().flatten();
            Example {
                id: ids[*item].clone(),
                text,
                truth: names(&|label| predictions.holds(*item, label)),
                predicted: names(&predicted),
                confidence,
            }
        };
        // With several labels, a prediction is right if the predicted labels are the true labels.
        let is_right = |item: usize| {
            if predictions.task() == Task::Single {
                return predictions.is_right(item);
            }
            predictions
                .scores(item)
                .iter()
                .enumerate()
                .all(|(label, score)| predictions.holds(item, label) == (*score > 0.5))
        };
        let of = |right: bool| {
            order
                .iter()
                .filter(|item| is_right(**item) == right)
                .take(count)
                .map(example)
                .collect()
        };
        let least = order.iter().rev().take(count).map(example).collect();
        Examples {
            subset: subset.to_owned(),
            confident_right: of(true),
            confident_wrong: of(false),
            least_confident: least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::Truth;

    #[test]
    fn examples_are_selected_and_ordered_by_confidence() {
        let scores = [[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.1, 0.9]].concat();
        let labels = ["no", "yes"].map(String::from).to_vec();
        let predictions =
            Predictions::new(labels, scores, None, Truth::Classes(vec![0, 0, 0, 1])).unwrap();
        let ids: Vec<String> = ["d", "c", "b", "a"].map(String::from).to_vec();
        let texts = vec![None, Some("well".to_owned()), None, None];
        let examples = Examples::pick("face", &predictions, &ids, &texts, 2);
        let named = |list: &[Example]| list.iter().map(|e| e.id.clone()).collect::<Vec<_>>();
        assert_eq!(named(&examples.confident_right), ["a", "d"]);
        assert_eq!(named(&examples.least_confident), ["b", "c"]);
        let wrong = &examples.confident_wrong[0];
        assert_eq!(
            (
                wrong.id.as_str(),
                wrong.text.as_deref(),
                wrong.truth.as_slice(),
                wrong.predicted.as_slice()
            ),
            (
                "c",
                Some("well"),
                &["no".to_owned()][..],
                &["yes".to_owned()][..]
            )
        );
    }

    #[test]
    fn a_prediction_of_several_labels_is_right_if_every_label_is() {
        // Item 0 has no true and no predicted label. Items 1 and 2 have two true labels, of which
        // one and both are predicted.
        let scores = [[0.4, 0.1], [0.9, 0.2], [0.8, 0.7]].concat();
        let truth = Truth::Labels(vec![false, false, true, true, true, true]);
        let predictions =
            Predictions::new(["a", "b"].map(String::from).to_vec(), scores, None, truth).unwrap();
        let examples = Examples::pick(
            "face",
            &predictions,
            &["0", "1", "2"].map(String::from),
            &[],
            3,
        );
        let named = |list: &[Example]| list.iter().map(|e| e.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (
                named(&examples.confident_right),
                named(&examples.confident_wrong)
            ),
            (vec!["2".into(), "0".into()], vec!["1".to_owned()])
        );
    }
}
