//! Class weights of the loss (`src/train/method.md` a.2 and f.1): those of the reference
//! (ConCluGen's code), of which those for CAER are wrong, and corrected ones.

/// Cross-entropy weights as ConCluGen's code computes them for the data set CAER: the share of each
/// class in the items. `counts`: items per class.
///
/// These weights favour frequent classes further, which is an error of ConCluGen. The profile
/// `reference` keeps the error for parity.
pub fn frequency_weights(counts: &[usize]) -> Vec<f64> {
    let sum = counts.iter().sum::<usize>().max(1) as f64;
    counts.iter().map(|count| *count as f64 / sum).collect()
}

/// Cross-entropy weights of the profile `fixed`: `items / (classes * items of the class)`.
/// `counts`: items per class.
///
/// Each class has the same total weight, and the mean weight of an item is 1. Classes without items
/// have weight 0 and are not included in the number of classes.
pub fn inverse_frequency_weights(counts: &[usize]) -> Vec<f64> {
    let sum = counts.iter().sum::<usize>() as f64;
    let occurring = counts.iter().filter(|count| **count > 0).count() as f64;
    counts
        .iter()
        .map(|count| {
            if *count == 0 {
                0.0
            } else {
                sum / (occurring * *count as f64)
            }
        })
        .collect()
}

/// The `pos_weight` of binary cross-entropy for each label: negative items divided by positive
/// items, or 1 without positive items. `positives`: positive items per label; `items`: all items.
pub fn positive_weights(positives: &[usize], items: usize) -> Vec<f64> {
    positives
        .iter()
        .map(|count| {
            if *count == 0 {
                1.0
            } else {
                (items - count) as f64 / *count as f64
            }
        })
        .collect()
}

/// Number of items that have each label. `labels`: the number of labels.
pub fn count_labels(labels: usize, truth: &super::Truth) -> Vec<usize> {
    let mut counts = vec![0; labels];
    match truth {
        super::Truth::Classes(classes) => classes.iter().for_each(|class| counts[*class] += 1),
        super::Truth::Labels(holds) => holds
            .iter()
            .enumerate()
            .filter(|(_, holds)| **holds)
            .for_each(|(at, _)| counts[at % labels] += 1),
    }
    counts
}

/// ConCluGen's class weights for a data set, in the label order of its code; `None` for a data set
/// without weights there. The weights are constants, except that CAER's are computed from `counts`,
/// the items per class of the training split.
pub fn reference_weights(dataset: &str, counts: &[usize]) -> Option<Vec<f64>> {
    match dataset {
        // `pos_weight` of binary cross-entropy, in the label order of the CMU Multimodal SDK.
        "cmu-mosei" => Some(vec![
            1.0528500, 5.2150741, 5.3373003, 19.4898548, 7.0448384, 23.6880035,
        ]),
        "caer" => Some(frequency_weights(counts)),
        "meld" => Some(vec![4.0, 15.0, 15.0, 3.0, 1.0, 6.0, 3.0]),
        "ravdess" => Some([[1.875].as_slice(), &[0.9375; 7]].concat()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::Truth;

    #[test]
    fn reference_weights_favour_frequent_classes_and_corrected_weights_rare_ones() {
        let counts = count_labels(
            4,
            &Truth::Classes([vec![0; 6], vec![1; 3], vec![2; 1]].concat()),
        );
        assert_eq!(counts, [6, 3, 1, 0]);
        assert_eq!(frequency_weights(&counts), [0.6, 0.3, 0.1, 0.0]);
        let fixed = inverse_frequency_weights(&counts);
        assert!(
            (fixed[0] - 10.0 / 18.0).abs() < 1e-12
                && (fixed[2] - 10.0 / 3.0).abs() < 1e-12
                && fixed[3] == 0.0
        );
        let sum: f64 = fixed.iter().zip(&counts).map(|(w, n)| w * *n as f64).sum();
        assert!(
            (sum - 10.0).abs() < 1e-12,
            "the mean weight of an item is {}",
            sum / 10.0
        );
        assert_eq!(frequency_weights(&[0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn positive_weights_give_positives_the_total_weight_of_negatives() {
        let counts = count_labels(
            2,
            &Truth::Labels(vec![true, false, false, false, false, false, false, false]),
        );
        assert_eq!(
            (counts.clone(), positive_weights(&counts, 4)),
            (vec![1, 0], vec![3.0, 1.0])
        );
    }

    #[test]
    fn reference_weights_have_one_value_per_label_and_are_correct_for_ravdess() {
        let lengths = ["cmu-mosei", "caer", "meld", "ravdess"]
            .map(|name| reference_weights(name, &[1; 7]).unwrap().len());
        assert_eq!(lengths, [6, 7, 7, 8]);
        // RAVDESS has 96 neutral clips and 192 of each other class.
        let counts = [[96].as_slice(), &[192; 7]].concat();
        let ours = inverse_frequency_weights(&counts);
        assert!(
            ours.iter()
                .zip(reference_weights("ravdess", &counts).unwrap())
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert_eq!(reference_weights("fer2013", &[1]), None);
    }
}
