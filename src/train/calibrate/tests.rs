//! Tests of temperatures, class balancing and the selection of the abstention threshold.

use super::*;

/// 100 predictions of each of two labels with the probability `predicted`, of which `right` are
/// correct.
fn two_labels(predicted: f64, right: usize) -> LabelledLogits {
    let logit = (predicted / (1.0 - predicted)).ln() as f32;
    let mut logits = Vec::new();
    let mut truth = Vec::new();
    for side in 0..2usize {
        for i in 0..100 {
            logits.extend(if side == 0 {
                [logit, 0.0]
            } else {
                [0.0, logit]
            });
            truth.push(if i < right { side } else { 1 - side });
        }
    }
    LabelledLogits::new(2, logits, truth)
}

#[test]
fn overconfident_logits_get_a_temperature_above_1() {
    let predictions = two_labels(0.95, 70);
    assert!(
        (predictions.accuracy() - 0.7).abs() < 1e-9 && (predictions.recall() - 0.7).abs() < 1e-9
    );
    assert!((predictions.calibration_error(1.0) - 0.25).abs() < 1e-6);
    let temperature = predictions.temperature();
    // ln(0.95/0.05) / ln(0.7/0.3)
    assert!((temperature - 3.475).abs() < 0.01, "{temperature}");
    assert!(predictions.calibration_error(temperature) < 1e-3);
}

#[test]
fn one_temperature_is_fitted_to_all_labels_of_a_multi_label_task() {
    let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
    // Label a is predicted with 0.95 and true in 70 % of the items, label b with 0.05 and in 30 %.
    let logit = (0.95f32 / 0.05).ln();
    let logits: Vec<f32> = (0..10_000).flat_map(|_| [logit, -logit]).collect();
    let truth = Truth::Labels((0..10_000).flat_map(|i| [i % 10 < 7, i % 10 < 3]).collect());
    let found = calibrate(&names, &logits, &truth, 10_000).unwrap();
    assert!((found.temperature - 3.475).abs() < 0.01, "{found:?}");
    assert!(
        (found.ece_before - 0.25).abs() < 1e-6
            && found.ece_after < 1e-3
            && found.nll_after < found.nll_before,
        "{found:?}"
    );
    // Items with exactly one of two labels give the same temperature.
    let rows: Vec<f32> = (0..10_000).flat_map(|_| [logit, 0.0]).collect();
    let one = calibrate(
        &names,
        &rows,
        &Truth::Classes((0..10_000).map(|i| usize::from(i % 10 >= 7)).collect()),
        10_000,
    )
    .unwrap();
    assert!(
        (one.temperature - found.temperature).abs() < 1e-3
            && (one.nll_after - found.nll_after).abs() < 1e-6,
        "{one:?}"
    );
    assert_eq!(
        calibrate(&names, &[], &Truth::Labels(vec![]), 0)
            .unwrap()
            .temperature,
        1.0
    );
    assert!(calibrate(&names, &[f32::NAN, 0.0], &Truth::Classes(vec![0]), 1).is_err());
}

#[test]
fn few_clips_keep_the_temperature_near_1() {
    let names: Vec<String> = ["a", "b"].map(String::from).to_vec();
    let of = |clips: usize, truth: usize| {
        calibrate(
            &names,
            &[2.0, 0.0].repeat(clips),
            &Truth::Classes(vec![truth; clips]),
            clips,
        )
        .unwrap()
        .temperature
    };
    // If all clips are right, or all are wrong, the temperature departs from 1 only with many
    // clips.
    assert!(
        (0.5..0.95).contains(&of(4, 0)) && of(400, 0) < 0.35,
        "{} {}",
        of(4, 0),
        of(400, 0)
    );
    assert!(
        (1.1..3.5).contains(&of(4, 1)) && of(400, 1) > 8.0,
        "{} {}",
        of(4, 1),
        of(400, 1)
    );
}

#[test]
fn the_fitted_loss_equals_the_metric_nll_of_reports() {
    let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
    let logits = [[0.3, -1.2, 2.0], [1.0, 0.4, -0.7]].concat();
    for truth in [
        Truth::Classes(vec![1, 0]),
        Truth::Labels(vec![true, false, true, false, false, true]),
    ] {
        let predictions =
            Predictions::from_logits(names.clone(), logits.clone(), 1.7, truth.clone()).unwrap();
        let counts = TallyCounts::new(ItemCounts::new(&predictions, 0.0).tally(|_| 1));
        let reported = Metric::named(predictions.task(), "nll")
            .unwrap()
            .compute(&counts)
            .unwrap();
        assert!((log_loss(3, &logits, &truth, f64::from(1.7f32)) - reported).abs() < 1e-6);
    }
    let verdicts = scored_predictions(
        &Predictions::from_logits(
            names,
            vec![0.0, 3.0, -3.0],
            1.0,
            Truth::Labels(vec![true, true, false]),
        )
        .unwrap(),
    );
    assert!(verdicts[0].right && (verdicts[0].confidence - 0.9526).abs() < 1e-3);
}

#[test]
fn mean_recall_weighs_rare_labels_as_much_as_common_ones() {
    let predictions =
        LabelledLogits::new(2, [[1.0, 0.0]; 10].concat(), [vec![0; 9], vec![1]].concat());
    assert!((predictions.accuracy() - 0.9).abs() < 1e-9);
    assert!((predictions.recall() - 0.5).abs() < 1e-9);
    assert_eq!(predictions.recalls(), [Some(1.0), Some(0.0)]);
}

#[test]
fn rows_are_weighted_by_the_share_of_annotators_who_chose_the_label() {
    // One item that three of four annotators label 0, and one that all label 1; both are predicted
    // 0 with 0.8.
    let logit = 4f32.ln();
    let predictions = LabelledLogits::shared(
        2,
        [logit, 0.0].repeat(3),
        vec![0, 1, 1],
        vec![0.75, 0.25, 1.0],
    );
    assert_eq!(
        (predictions.count(), predictions.sums()),
        (2, vec![0.75, 1.25])
    );
    assert_eq!(predictions.metric("f1_weighted"), None);
    assert!((predictions.accuracy() - 0.375).abs() < 1e-9);
    assert_eq!(predictions.recalls(), [Some(1.0), Some(0.0)]);
    assert!((predictions.recall() - 0.5).abs() < 1e-9);
    let loss = -(0.75 * 0.8f64.ln() + 1.25 * 0.2f64.ln()) / 2.0;
    assert!((predictions.unweighted().loss(1.0) - loss).abs() < 1e-6);
}

#[test]
fn the_threshold_excludes_confidences_with_an_accuracy_below_one_half() {
    let at = |confidence: f64, right| ScoredPrediction {
        confidence,
        right,
        weight: 1.0,
    };
    let mut verdicts: Vec<_> = (20..90)
        .flat_map(|c| {
            [
                at(f64::from(c) * 0.01, c >= 33),
                at(f64::from(c) * 0.01, c >= 33 && c % 2 == 0),
            ]
        })
        .collect();
    // A single correct prediction far below the others does not lower the threshold.
    verdicts.push(at(0.16, true));
    let threshold = abstain_threshold(&verdicts, 7, verdicts.len());
    assert!((0.30..=0.34).contains(&threshold), "{threshold}");
    assert_eq!(abstain_threshold(&[at(0.9, true)], 7, 1), 0.45);
}

/// Predictions with ascending confidences from `least` to 0.02 above it. `right`: whether each
/// prediction is correct.
fn low_confidence(least: f64, right: &[bool]) -> Vec<ScoredPrediction> {
    let step = 0.02 / right.len() as f64;
    let verdict = |(i, right): (usize, &bool)| ScoredPrediction {
        confidence: least + i as f64 * step,
        right: *right,
        weight: 1.0,
    };
    right.iter().enumerate().map(verdict).collect()
}

#[test]
fn few_recordings_lower_the_threshold_only_with_enough_correct_ones_for_the_number_of_labels() {
    let few = |right: usize, of: usize, labels: usize| {
        let all: Vec<bool> = (0..of).map(|i| i < right).collect();
        abstain_threshold(&low_confidence(0.21, &all), labels, of)
    };
    // All of 4 recordings right with 5 labels: (4 + 1) / (4 + 5) is above 1/2. With one error:
    // (3 + 1) / (4 + 5) is below.
    assert!(few(4, 4, 5) <= 0.21, "{}", few(4, 4, 5));
    assert_eq!(few(3, 4, 5), 0.45);
    // With 7 labels, 4 right recordings are too few, (4 + 1) / (4 + 7), and 5 are enough,
    // (5 + 1) / (5 + 7).
    assert_eq!(few(4, 4, 7), 0.45);
    assert!(few(5, 5, 7) <= 0.21);
    // With more recordings, a smaller share of right predictions is enough.
    assert_eq!((few(2, 4, 3), few(6, 10, 3)), (0.45, few(4, 4, 3)));
    // Seven predictions for each recording count as one.
    let pooled: Vec<ScoredPrediction> = (0..7)
        .flat_map(|_| low_confidence(0.21, &[true; 4]))
        .collect();
    assert_eq!(abstain_threshold(&pooled, 7, 4), 0.45);
    assert!(abstain_threshold(&pooled, 5, 4) <= 0.21);
    // Without recordings, the threshold is the highest one.
    assert_eq!(abstain_threshold(&[], 5, 0), 0.45);
}

/// `count` predictions, all correct or all wrong, with confidences evenly spaced from `from` to
/// below `to`.
fn spread(count: usize, [from, to]: [f64; 2], right: bool) -> Vec<ScoredPrediction> {
    let confidence = |i| from + (to - from) * i as f64 / count as f64;
    (0..count)
        .map(|i| ScoredPrediction {
            confidence: confidence(i),
            right,
            weight: 1.0,
        })
        .collect()
}

#[test]
fn confident_correct_predictions_do_not_compensate_for_wrong_ones_below_the_threshold() {
    let threshold = |groups: &[Vec<ScoredPrediction>]| {
        let all = groups.concat();
        abstain_threshold(&all, 5, all.len())
    };
    for confident in [14, 92, 988] {
        let sure = spread(confident, [0.6, 0.99], true);
        let low = |right| spread(8, [0.21, 0.44], right);
        assert_eq!(threshold(&[low(false), sure.clone()]), 0.45);
        assert!(threshold(&[low(true), sure.clone()]) <= 0.21);
        // Wrong predictions above right ones, then wrong predictions below right ones.
        let above = spread(8, [0.4, 0.44], false);
        let below = spread(3, [0.21, 0.23], true);
        assert_eq!(threshold(&[below, above, sure.clone()]), 0.45);
        let above = spread(20, [0.4, 0.44], true);
        let below = spread(8, [0.21, 0.25], false);
        let found = threshold(&[below, above, sure]);
        assert!((0.26..=0.4).contains(&found), "{found}");
    }
}

#[test]
fn the_rule_in_model_cards_states_the_highest_threshold() {
    assert!(THRESHOLD_RULE.contains(&format!("starts at {HIGHEST_THRESHOLD}.")));
}

/// In the calibration of the default bundle, the weights of the rows of each subset of modalities
/// sum to 1, whatever the number of rows; therefore the weights here are 7 / 1000.
#[test]
fn many_predictions_with_an_accuracy_of_45_percent_keep_the_highest_threshold() {
    let at = |percent: usize, right| ScoredPrediction {
        confidence: percent as f64 * 0.01,
        right,
        weight: 7.0 / 1000.0,
    };
    // 45 % of the predictions are correct at each confidence.
    let doubtful: Vec<_> = (0..1000)
        .map(|i| at(20 + i % 80, i * 7 % 100 < 45))
        .collect();
    assert_eq!(abstain_threshold(&doubtful, 7, 1000), 0.45);
    let share = answered(&doubtful, 0.45);
    assert!((0.6..0.75).contains(&share), "{share}");
    assert_eq!(low_coverage_warning(share, "the clips"), None);
    let silent = low_coverage_warning(
        answered(&low_confidence(0.2, &[true; 9]), 0.45),
        "the clips",
    )
    .unwrap();
    assert!(silent.contains("0.0 % of the clips reach"), "{silent}");
}
