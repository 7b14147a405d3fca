//! The labels of the seven expressions, and their names in data sets.

/// The labels of the event protocol, in the order of its scores.
pub const LABELS: [&str; 7] = [
    "neutral",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgusted",
    "surprised",
];

/// The emotions of the data set RAVDESS, in the order of its codes 01 to 08.
pub const RAVDESS: [&str; 8] = [
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgusted",
    "surprised",
];

/// For each of [`LABELS`]: its names in data sets, in lower case.
#[rustfmt::skip]
const NAMES: [&[&str]; 7] = [
    // RAVDESS's "calm" is neutral in a soft voice; the event protocol has no label for it.
    &["neutral", "neu", "neutrality", "calm"],
    &["happy", "hap", "happiness", "joy", "joyful"],
    &["sad", "sadness"],
    &["angry", "ang", "anger"],
    &["fearful", "fear", "fea", "afraid", "anxiety", "anxious"],
    &["disgusted", "disgust", "dis"],
    &["surprised", "surprise", "sur", "pleasant_surprise"],
];

/// The index in [`LABELS`] of a data set's label `name`, in any case. `None` if the event protocol
/// has no such label (contempt, for example).
pub fn label_index(name: &str) -> Option<usize> {
    let name = name.trim().to_lowercase();
    NAMES
        .iter()
        .position(|names| names.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_names_itself_and_no_name_belongs_to_two_labels() {
        for (index, label) in LABELS.iter().enumerate() {
            assert_eq!(label_index(label), Some(index));
        }
        let mut all: Vec<_> = NAMES.iter().flat_map(|names| names.iter()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn labels_of_data_sets_map_to_protocol_labels() {
        // Names of FER2013's folders, RAVDESS's emotions, MELD's labels and CREMA-D's codes.
        let fer = [
            "neutral", "happy", "sad", "angry", "fear", "disgust", "surprise",
        ];
        assert_eq!(fer.map(|n| label_index(n).unwrap()), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(
            RAVDESS.map(|n| label_index(n).unwrap()),
            [0, 0, 1, 2, 3, 4, 5, 6]
        );
        assert_eq!(
            ["joy", "sadness", "ANGER", " Fear "].map(|n| label_index(n).unwrap()),
            [1, 2, 3, 4]
        );
        assert_eq!(
            ["NEU", "HAP", "SAD", "ANG", "FEA", "DIS"].map(|n| label_index(n).unwrap()),
            [0, 1, 2, 3, 4, 5]
        );
        // EMO-DB has a common class for fear and anxiety.
        assert_eq!(
            (
                label_index("anxiety"),
                label_index("boredom"),
                label_index("contempt")
            ),
            (Some(4), None, None)
        );
    }
}
