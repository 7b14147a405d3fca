//! Metrics of face predictions against the votes of the pictures' annotators.

use serde::{Deserialize, Serialize};

use crate::labels::LABELS;
use crate::train::calibrate::{LabelledLogits, argmax};
use crate::train::data::votes::Votes;
use crate::train::metrics::wilson;

/// Agreement and calibration of face predictions against annotators' votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnnotatorAgreement {
    /// Number of pictures with votes.
    pub n: usize,
    /// Share of a picture's annotators who chose the predicted label, 0..1, mean over pictures.
    pub agreement: f64,
    /// Share of a picture's other annotators who chose the same label as one of its annotators,
    /// 0..1. Mean over the annotators of a picture, then over pictures with two or more votes.
    #[serde(rename = "among_themselves")]
    pub inter_annotator: f64,
    /// Cross-entropy of the predicted probabilities to the vote distributions, in nats.
    pub cross_entropy: f64,
    /// Mean entropy of the vote distributions, in nats.
    pub entropy: f64,
    /// Expected calibration error with 15 bins, 0..1: the confidence against the share of
    /// annotators who chose the predicted label.
    pub calibration_error: f64,
    /// Number of pictures with a single majority label.
    pub clear: usize,
    /// Accuracy, 0..1: share of predictions that equal the majority label. Pictures without a
    /// majority label do not count.
    pub accuracy: f64,
    /// Wilson's 95 % interval of [`AnnotatorAgreement::accuracy`].
    pub interval: [f64; 2],
    /// The metrics of each label, in the order of [`LABELS`].
    #[serde(rename = "of_labels")]
    pub labels: Vec<LabelAgreement>,
}

/// Metrics of one label over the pictures with a majority label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelAgreement {
    /// Name of the label.
    pub label: String,
    /// Number of pictures whose majority label is this label.
    pub n: usize,
    /// Recall, 0..1: share of the pictures with this majority label that are predicted as it. NaN
    /// without such pictures.
    pub recall: f64,
    /// Precision, 0..1: share of the predictions of this label that equal the picture's majority
    /// label. 0 without such predictions.
    pub precision: f64,
    /// [`AnnotatorAgreement::agreement`] over the pictures with this majority label.
    pub agreement: f64,
    /// [`AnnotatorAgreement::inter_annotator`] over the pictures with this majority label.
    #[serde(rename = "among_themselves")]
    pub inter_annotator: f64,
    /// Number of predictions of this label, without abstentions, per 1,000 pictures with the
    /// majority label *neutral*.
    #[serde(rename = "of_1000_neutral")]
    pub per_1000_neutral: f64,
}

/// Labelled predictions in which a picture has one row for each label with votes, weighted by the
/// label's share of the votes. `logits`: `[pictures, labels]`, row-major; `votes`: one per picture.
pub fn vote_predictions(logits: &[f32], votes: &[Votes]) -> LabelledLogits {
    let (mut rows, mut truth, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for (row, votes) in logits.chunks(LABELS.len()).zip(votes) {
        for (label, share) in votes.shares().into_iter().enumerate() {
            if share > 0.0 {
                rows.extend_from_slice(row);
                truth.push(label);
                shares.push(f64::from(share));
            }
        }
    }
    LabelledLogits::shared(LABELS.len(), rows, truth, shares).unweighted()
}

/// Labelled predictions with the majority label as the true label; pictures with a tie are omitted.
/// `logits`: `[pictures, labels]`, row-major; `votes`: one per picture.
pub fn majority_predictions(logits: &[f32], votes: &[Votes]) -> LabelledLogits {
    let (rows, truth): (Vec<&[f32]>, Vec<usize>) = logits
        .chunks(LABELS.len())
        .zip(votes)
        .filter_map(|(row, votes)| Some((row, votes.first()?)))
        .unzip();
    LabelledLogits::new(LABELS.len(), rows.concat(), truth)
}

/// The mean of `values`; 0 without values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
    sum / f64::max(count, 1.0)
}

impl AnnotatorAgreement {
    /// Metrics of `logits` (`[pictures, labels]`, row-major) divided by `temperature`, against
    /// `votes`, one per picture. On neutral pictures, predictions with a confidence below
    /// `threshold` are abstentions.
    pub fn new(
        logits: &[f32],
        votes: &[Votes],
        temperature: f64,
        threshold: f64,
    ) -> AnnotatorAgreement {
        let all = vote_predictions(logits, votes);
        let clear = majority_predictions(logits, votes);
        let answers: Vec<usize> = logits.chunks(LABELS.len()).map(argmax).collect();
        let agreement = |picture: usize| f64::from(votes[picture].shares()[answers[picture]]);
        let confident: Vec<(usize, usize)> = clear
            .scored_predictions(temperature)
            .iter()
            .zip(clear.predictions())
            .filter(|(verdict, _)| verdict.confidence >= threshold)
            .map(|(_, (truth, answer, _))| (truth, answer))
            .collect();
        let (sums, recalls) = (clear.sums(), clear.recalls());
        let of_label = |label: usize| {
            let pictures = || (0..votes.len()).filter(move |p| votes[*p].first() == Some(label));
            let answered = clear
                .predictions()
                .filter(|(_, answer, _)| *answer == label);
            let given = confident.iter().filter(|pair| **pair == (NEUTRAL, label));
            LabelAgreement {
                label: LABELS[label].to_owned(),
                n: sums[label] as usize,
                recall: recalls[label].unwrap_or(f64::NAN),
                precision: mean(answered.map(|(truth, ..)| f64::from(u8::from(truth == label)))),
                agreement: mean(pictures().map(agreement)),
                inter_annotator: mean(
                    pictures().filter_map(|p| votes[p].inter_annotator_agreement()),
                ),
                per_1000_neutral: 1000.0 * given.count() as f64 / sums[NEUTRAL].max(1.0),
            }
        };
        AnnotatorAgreement {
            n: votes.len(),
            agreement: mean((0..votes.len()).map(agreement)),
            inter_annotator: mean(votes.iter().filter_map(Votes::inter_annotator_agreement)),
            cross_entropy: all.loss(temperature),
            entropy: mean(votes.iter().map(Votes::entropy)),
            calibration_error: all.calibration_error(temperature),
            clear: clear.count(),
            accuracy: clear.accuracy(),
            interval: wilson(clear.accuracy(), clear.count()),
            labels: (0..LABELS.len()).map(of_label).collect(),
        }
    }

    /// The metrics as the lines of text that `evaluate` prints.
    pub fn sentences(&self) -> String {
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|of| {
                format!(
                    "{} {:.2} (precision {:.2}, of 1,000 neutral {:.0})",
                    of.label, of.recall, of.precision, of.per_1000_neutral
                )
            })
            .collect();
        format!(
            "    annotators (n {}): agreement with the prediction {:.4}, among annotators {:.4}; \
             cross-entropy {:.4} (entropy of the votes {:.4}), calibration error {:.3}\n    \
             pictures with a majority label (n {}): accuracy {:.4} [{:.4}, {:.4}]; {}",
            self.n,
            self.agreement,
            self.inter_annotator,
            self.cross_entropy,
            self.entropy,
            self.calibration_error,
            self.clear,
            self.accuracy,
            self.interval[0],
            self.interval[1],
            labels.join(", ")
        )
    }
}

/// Index of *neutral* in [`LABELS`].
const NEUTRAL: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_entropy_and_calibration_error_follow_from_the_votes() {
        let votes = |counts: [u32; 7]| Votes::new(counts, 0, 0).unwrap();
        let all = [
            votes([10, 0, 0, 0, 0, 0, 0]),
            votes([6, 0, 4, 0, 0, 0, 0]),
            votes([0, 10, 0, 0, 0, 0, 0]),
            // A tie: no majority label.
            votes([5, 0, 5, 0, 0, 0, 0]),
        ];
        // Predictions with confidence 0.8: neutral, sad, happy, sad.
        let row = |first: usize, second: usize| {
            let mut row = [-50.0f32; 7];
            (row[first], row[second]) = (4f32.ln(), 0.0);
            row
        };
        let logits = [row(0, 2), row(2, 0), row(1, 0), row(2, 0)].concat();
        let measured = AnnotatorAgreement::new(&logits, &all, 1.0, 0.45);
        assert_eq!((measured.n, measured.clear), (4, 3));
        assert!((measured.agreement - (1.0 + 0.4 + 1.0 + 0.5) / 4.0).abs() < 1e-6);
        let pairs = (6.0 * 5.0 + 4.0 * 3.0) / 90.0;
        let ties = 2.0 * 5.0 * 4.0 / 90.0;
        assert!((measured.inter_annotator - (2.0 + pairs + ties) / 4.0).abs() < 1e-9);
        assert!((measured.accuracy - 2.0 / 3.0).abs() < 1e-9);
        let (high, low) = (-(0.8f64.ln()), -(0.2f64.ln()));
        let loss = high + (0.4 * high + 0.6 * low) + high + 0.5 * (high + low);
        assert!((measured.cross_entropy - loss / 4.0).abs() < 1e-5);
        let entropy = -(0.6f64 * 0.6f64.ln() + 0.4 * 0.4f64.ln()) + 2f64.ln();
        assert!((measured.entropy - entropy / 4.0).abs() < 1e-6);
        // Every confidence is 0.8; 0.725 of the annotators agree.
        assert!((measured.calibration_error - 0.075).abs() < 1e-6);
        let neutral = &measured.labels[0];
        assert_eq!(
            (neutral.n, neutral.recall, neutral.precision),
            (2, 0.5, 1.0)
        );
        assert!((neutral.agreement - 0.7).abs() < 1e-6);
        let sad = &measured.labels[2];
        assert_eq!(
            (sad.n, sad.precision, sad.per_1000_neutral),
            (0, 0.0, 500.0)
        );
        // Abstentions count for no label.
        let abstaining = AnnotatorAgreement::new(&logits, &all, 1.0, 0.9);
        assert_eq!(abstaining.labels[2].per_1000_neutral, 0.0);
        assert!(
            measured
                .sentences()
                .contains("sad NaN (precision 0.00, of 1,000 neutral 500)")
        );
    }
}
