//! Metrics of a bundle on one set of test data: accuracy, recalls, confusion matrix, calibration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::train::annotators::AnnotatorAgreement;
use crate::train::calibrate::LabelledLogits;
use crate::train::confusion::ConfusionMatrix;
use crate::train::metrics::wilson;

/// Metrics of a model on one set of test data; a row of the model card's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The evaluated model and test data, as the model card names them.
    #[serde(rename = "what")]
    pub name: String,
    /// Number of items.
    pub n: usize,
    /// Number of classes.
    pub classes: usize,
    /// Share of correct predictions, 0..1.
    pub accuracy: f64,
    /// Wilson's 95 % interval of the accuracy, as if rows were independent.
    pub interval: [f64; 2],
    /// Mean of the classes' recalls, 0..1.
    pub recall: f64,
    /// Recall, 0..1, and its 95 % Wilson interval, by class name.
    pub recalls: BTreeMap<String, (f64, [f64; 2])>,
    /// Accuracy on each subgroup of the test data.
    #[serde(rename = "conditions")]
    pub subgroups: Vec<Subgroup>,
    /// Agreement with the pictures' annotators; `None` except for faces.
    #[serde(rename = "crowd")]
    pub annotators: Option<AnnotatorAgreement>,
    /// Effect of a modality that is wrong and confident; `None` except for such fused predictions.
    #[serde(rename = "misled")]
    pub conflict: Option<ModalityConflict>,
    /// The confusion matrix; not serialised, so empty in a figure that is read from JSON.
    #[serde(skip)]
    pub confusion: ConfusionMatrix,
    /// F1, 0..1, weighted by the number of items of each class; `None` unless published results use
    /// it.
    pub weighted_f1: Option<f64>,
    /// Expected calibration error, 0..1, at the bundle's temperature; `None` except for the head.
    pub calibration_error: Option<f64>,
    /// The calibration error that perfectly calibrated confidences would have by chance with the
    /// same number of rows. `None` except for the head.
    pub chance_error: Option<f64>,
    /// Share of rows without abstention, 0..1; `None` except for the head.
    pub answered: Option<f64>,
    /// Accuracy, 0..1, on the rows without abstention; `None` except for the head.
    pub answered_accuracy: Option<f64>,
}

/// Accuracy on one subgroup of the test data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subgroup {
    /// Name of the corpus and the subgroup.
    #[serde(rename = "what")]
    pub name: String,
    /// Number of items.
    pub n: usize,
    /// Share of correct predictions, 0..1.
    pub accuracy: f64,
    /// Wilson's 95 % interval of the accuracy.
    pub interval: [f64; 2],
}

impl Subgroup {
    /// The accuracy of the subgroup `name`; `right`: for each prediction, whether it is correct.
    pub fn new(name: &str, right: &[bool]) -> Subgroup {
        let accuracy = right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64;
        Subgroup {
            name: name.to_owned(),
            n: right.len(),
            accuracy,
            interval: wilson(accuracy, right.len()),
        }
    }
}

/// Metrics on rows in which the modality `wrong_modality` alone predicts a wrong label with a
/// confidence of at least [`MIN_CONFIDENCE`](crate::train::conflict::MIN_CONFIDENCE).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModalityConflict {
    /// Name of the modality with the wrong prediction.
    #[serde(rename = "wrong")]
    pub wrong_modality: String,
    /// Share of rows whose fused prediction is the label of the wrong modality, without abstention,
    /// 0..1.
    #[serde(rename = "follows")]
    pub follow_share: f64,
    /// Share of rows with an abstention, 0..1.
    #[serde(rename = "abstained")]
    pub abstention_share: f64,
    /// Accuracy of the other modality alone on the same rows, 0..1.
    #[serde(rename = "alone")]
    pub other_accuracy: f64,
}

impl Figure {
    /// Accuracy, recalls and confusion matrix of `predictions`; the other metrics are `None` or
    /// empty. `name`: model and test data; `names`: class names by index.
    pub fn from_predictions(name: &str, predictions: &LabelledLogits, names: &[&str]) -> Figure {
        let recalls = (predictions.recalls().into_iter().zip(predictions.sums()))
            .zip(names)
            .filter_map(|((recall, sum), name)| {
                let interval = wilson(recall?, sum.round() as usize);
                Some((name.to_string(), (recall?, interval)))
            });
        Figure {
            name: name.to_owned(),
            n: predictions.count(),
            classes: names.len(),
            accuracy: predictions.accuracy(),
            interval: wilson(predictions.accuracy(), predictions.count()),
            recall: predictions.recall(),
            recalls: recalls.collect(),
            subgroups: Vec::new(),
            annotators: None,
            conflict: None,
            confusion: ConfusionMatrix::from_predictions(predictions, names),
            weighted_f1: None,
            calibration_error: None,
            chance_error: None,
            answered: None,
            answered_accuracy: None,
        }
    }

    /// Prints the metrics as text to standard output.
    pub fn print(&self) {
        println!(
            "{}: n {}, {} classes: accuracy {:.4} [{:.4}, {:.4}], mean recall {:.4}",
            self.name,
            self.n,
            self.classes,
            self.accuracy,
            self.interval[0],
            self.interval[1],
            self.recall
        );
        if let Some(f1) = self.weighted_f1 {
            println!("    weighted F1 {f1:.4}");
        }
        println!(
            "    {}",
            self.recalls
                .iter()
                .map(|(name, (recall, _))| format!("{name} {recall:.2}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        if let Some(annotators) = &self.annotators {
            println!("{}", annotators.sentences());
        }
        for subgroup in &self.subgroups {
            let [low, high] = subgroup.interval;
            println!(
                "    {}: n {}, accuracy {:.4} [{low:.4}, {high:.4}]",
                subgroup.name, subgroup.n, subgroup.accuracy
            );
        }
        if let (Some(error), Some(answered), Some(accuracy)) = (
            self.calibration_error,
            self.answered,
            self.answered_accuracy,
        ) {
            println!(
                "    calibration error {error:.3} (expected by chance {:.3}); answered {:.1} %, \
                 accuracy of answered {accuracy:.4}",
                self.chance_error.unwrap_or(f64::NAN),
                answered * 100.0
            );
        }
        if let Some(conflict) = &self.conflict {
            println!(
                "    misleading {}: {:.1} % follow it, {:.1} % abstain; accuracy without it {:.4}",
                conflict.wrong_modality,
                conflict.follow_share * 100.0,
                conflict.abstention_share * 100.0,
                conflict.other_accuracy
            );
        }
    }

    /// Adds the calibration error at `temperature`, and the share and accuracy of the rows with a
    /// confidence of at least `threshold` (0..1).
    pub fn with_confidence(
        mut self,
        predictions: &LabelledLogits,
        temperature: f64,
        threshold: f64,
    ) -> Figure {
        // Summed weights of rows without abstention: all, and correct ones.
        let (mut answered, mut right) = (0.0, 0.0);
        for (verdict, (.., share)) in predictions
            .scored_predictions(temperature)
            .iter()
            .zip(predictions.predictions())
        {
            if verdict.confidence >= threshold {
                answered += share;
                right += if verdict.right { share } else { 0.0 };
            }
        }
        self.calibration_error = Some(predictions.calibration_error(temperature));
        self.chance_error = Some(predictions.chance_error(temperature));
        self.answered = Some(answered / predictions.count().max(1) as f64);
        self.answered_accuracy = Some(right / f64::max(answered, 1.0));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_survives_json_except_for_its_confusion_matrix() {
        let logits = vec![2.0, 0.0, 0.0, 1.0, 3.0, 0.5];
        let predictions = LabelledLogits::new(2, logits, vec![0, 1, 1]);
        let written = Figure::from_predictions("three rows", &predictions, &["happy", "sad"]);
        let json = serde_json::to_string(&written).unwrap();
        let read: Figure = serde_json::from_str(&json).unwrap();
        assert_eq!(read.confusion, ConfusionMatrix::default());
        // The decimal text in JSON may change the last bit of a number.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert_eq!((&read.name, read.n), (&written.name, 3));
        assert!(close(read.accuracy, written.accuracy) && close(read.recall, 0.75));
        assert!(close(read.recalls["sad"].0, 0.5) && read.recalls.len() == 2);
    }
}
