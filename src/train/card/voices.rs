//! The card's sections on unseen speakers and corpora, and on conflicting modalities.

use std::fmt::Write;

use crate::train::figure::Figure;

/// Leave-speakers-out and leave-one-corpus-out, for the section on calibration.
pub(super) fn unseen_speakers_section(figures: &[Figure]) -> anyhow::Result<String> {
    let mut text = String::new();
    if figures.is_empty() {
        return Ok(text);
    }
    writeln!(
        text,
        "\nVoices of speakers and of corpora that an encoder never met (the bundle's own has met \
         both corpora, so its figures on strangers of these \
         are above). *Taught by RAVDESS alone* is the encoder that calibration uses; those of its \
         speakers who calibrate are marked by their numbers. \
         An answer counts by the wire's labels where a corpus lacks some of RAVDESS's, and labels \
         that an encoder was not taught are left out.\n"
    )?;
    writeln!(
        text,
        "| what | n | classes | accuracy (95 % interval) | mean recall | calibration error | by \
         chance alone | answered | right among answered |\n\
         |---|---|---|---|---|---|---|---|---|"
    )?;
    for figure in figures {
        let optional = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.3}"));
        writeln!(
            text,
            "| {} | {} | {} | {:.3} ({:.3}–{:.3}) | {:.3} | {} | {} | {} | {} |",
            figure.what,
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

/// Effect of a wrong and confident modality, for the section on figures.
pub(super) fn conflict_section(figures: &[Figure]) -> anyhow::Result<String> {
    let mut text = String::new();
    let misled = || {
        figures
            .iter()
            .filter_map(|figure| Some((figure, figure.misled.as_ref()?)))
    };
    if misled().next().is_none() {
        return Ok(text);
    }
    writeln!(
        text,
        "\nWhere one modality is wrong and sure of it (alone it names another label with a \
         confidence of at least {}):\n",
        crate::train::conflict::SURE
    )?;
    writeln!(
        text,
        "| what | n | the other alone is right | fused is right | fused answer is the wrong one's \
         | abstained |\n|---|---|---|---|---|---|"
    )?;
    for (figure, misled) in misled() {
        writeln!(
            text,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} |",
            figure.what, figure.n, misled.alone, figure.accuracy, misled.follows, misled.abstained
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
    fn a_row_counts_the_classes_that_occur() {
        let predictions = LabelledLogits::new(
            7,
            [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]; 2].concat(),
            vec![1, 2],
        );
        let figure = Figure::of("voice encoder", &predictions, &LABELS).with_confidence(
            &predictions,
            1.0,
            0.2,
        );
        let text = unseen_speakers_section(std::slice::from_ref(&figure)).unwrap();
        assert!(text.contains("| voice encoder | 2 | 2 | 0.500 ("), "{text}");
        assert!(text.trim_end().ends_with("| 1.000 | 0.500 |"), "{text}");
        assert_eq!(conflict_section(std::slice::from_ref(&figure)).unwrap(), "");
        let misled = ModalityConflict {
            wrong: "face".into(),
            follows: 0.25,
            abstained: 0.5,
            alone: 0.75,
        };
        let figure = Figure {
            misled: Some(misled),
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
