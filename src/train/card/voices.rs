//! The sections of the model card on unseen speakers and corpora, and on conflicting modalities.

use std::fmt::Write;

use crate::train::figure::Figure;

/// The section on speakers and corpora outside an encoder's training data, as Markdown; a part of
/// the section on calibration. Empty without figures.
pub(super) fn unseen_speakers_section(figures: &[Figure]) -> anyhow::Result<String> {
    let mut text = String::new();
    if figures.is_empty() {
        return Ok(text);
    }
    writeln!(
        text,
        "\n### Unseen speakers and corpora\n\nMetrics on speakers, faces and corpora outside \
         an encoder's training data. The bundle's own voice encoder was trained on both corpora: \
         *Evaluation* has its metrics on their unseen speakers. The encoder *trained on RAVDESS \
         only* is the one of the calibration. The calibration actors are given by their numbers. \
         If a corpus lacks some of RAVDESS's classes, predictions are mapped to the seven labels. \
         Clips with a label outside the encoder's training data are left out.\n"
    )?;
    writeln!(
        text,
        "| model and data | n | classes | accuracy (95 % interval) | mean recall | calibration \
         error | expected by chance | answered | accuracy of answered |\n\
         |---|---|---|---|---|---|---|---|---|"
    )?;
    for figure in figures {
        let optional = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.3}"));
        writeln!(
            text,
            "| {} | {} | {} | {:.3} ({:.3}–{:.3}) | {:.3} | {} | {} | {} | {} |",
            figure.name,
            figure.n,
            figure.recalls.len(),
            figure.accuracy,
            figure.interval[0],
            figure.interval[1],
            figure.recall,
            optional(figure.calibration_error),
            optional(figure.chance_error),
            optional(figure.answered),
            optional(figure.answered_accuracy)
        )?;
    }
    Ok(text)
}

/// The section on rows with one wrong and confident modality, as Markdown; a part of the section on
/// evaluation. Empty if no figure has [`Figure::conflict`].
pub(super) fn conflict_section(figures: &[Figure]) -> anyhow::Result<String> {
    let mut text = String::new();
    let conflicts = || {
        figures
            .iter()
            .filter_map(|figure| Some((figure, figure.conflict.as_ref()?)))
    };
    if conflicts().next().is_none() {
        return Ok(text);
    }
    writeln!(
        text,
        "\n### Conflicting modalities\n\nEach row combines an item of one modality with an item of \
         another modality that is misleading: alone, it is predicted as a different label with a \
         confidence of at least {}.\n",
        crate::train::conflict::MIN_CONFIDENCE
    )?;
    writeln!(
        text,
        "| model and test data | n | accuracy of the correct modality alone | accuracy of the \
         fusion | fusion follows the misleading modality | fusion abstains \
         |\n|---|---|---|---|---|---|"
    )?;
    for (figure, conflict) in conflicts() {
        writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} |",
            figure.name,
            figure.n,
            conflict.other_accuracy,
            figure.accuracy,
            conflict.follow_share,
            conflict.abstention_share
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LABELS;
    use crate::train::calibrate::LabelledLogits;
    use crate::train::figure::ModalityConflict;

    #[test]
    fn rows_state_the_number_of_occurring_classes_and_the_effect_of_conflicts() {
        let predictions = LabelledLogits::new(
            7,
            [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]; 2].concat(),
            vec![1, 2],
        );
        let figure = Figure::from_predictions("voice encoder", &predictions, &LABELS)
            .with_confidence(&predictions, 1.0, 0.2);
        let text = unseen_speakers_section(std::slice::from_ref(&figure)).unwrap();
        assert!(text.contains("| voice encoder | 2 | 2 | 0.500 ("), "{text}");
        assert!(text.trim_end().ends_with("| 1.000 | 0.500 |"), "{text}");
        assert_eq!(conflict_section(std::slice::from_ref(&figure)).unwrap(), "");
        let conflict = ModalityConflict {
            wrong_modality: "face".into(),
            follow_share: 0.25,
            abstention_share: 0.5,
            other_accuracy: 0.75,
        };
        let figure = Figure {
            conflict: Some(conflict),
            ..figure
        };
        let text = conflict_section(&[figure]).unwrap();
        assert!(
            text.contains("| 2 | 0.750 | 0.500 | 0.250 | 0.500 |"),
            "{text}"
        );
        assert_eq!(unseen_speakers_section(&[]).unwrap(), "");
    }
}
