//! The section of the model card on the agreement of face predictions with the annotators.

use std::fmt::Write;

use crate::train::annotators::AnnotatorAgreement;
use crate::train::figure::Figure;

/// The section on the agreement of predictions with the ten annotators of each picture, as
/// Markdown. Empty if no figure contains an [`AnnotatorAgreement`].
pub(super) fn section(figures: &[Figure]) -> anyhow::Result<String> {
    let agreements = || {
        figures
            .iter()
            .filter_map(|f| Some((&f.name, f.annotators.as_ref()?)))
    };
    let mut text = String::new();
    if agreements().next().is_none() {
        return Ok(text);
    }
    writeln!(
        text,
        "\n### Agreement with the annotators\n\nFER+ has ten votes for each picture. Votes for \
         *contempt*, *unknown* and *no face* are dropped. Pictures with fewer than five remaining \
         votes are left out, and pictures for which no label has more votes than contempt. \
         *Agreement with the prediction* is the mean share of a picture's annotators who chose the \
         predicted label. *Agreement among annotators* is the mean share of the other annotators \
         who chose the same label as one annotator. Cross-entropy and entropy are in nats.\n"
    )?;
    writeln!(
        text,
        "| model and test data | pictures | agreement with the prediction | agreement among \
         annotators | cross-entropy to the votes | entropy of the votes | calibration error \
         against the votes | pictures with a majority label | accuracy on these (95 % interval) \
         |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for (name, agreement) in agreements() {
        let [low, high] = agreement.interval;
        writeln!(
            text,
            "| {name} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {} | {:.3} \
             ({low:.3}–{high:.3}) |",
            agreement.n,
            agreement.agreement,
            agreement.inter_annotator,
            agreement.cross_entropy,
            agreement.entropy,
            agreement.calibration_error,
            agreement.clear,
            agreement.accuracy,
        )?;
    }
    writeln!(
        text,
        "\nThe same by majority label. The last column is the number of predictions of a label \
         among 1,000 pictures with the majority label *neutral*. It leaves out abstentions: the \
         head's abstention threshold is applied, also to the face encoder's own confidences. The \
         other columns contain all predictions."
    )?;
    for (name, AnnotatorAgreement { labels, .. }) in agreements() {
        writeln!(
            text,
            "\n{name}:\n\n| label | pictures with this majority label | recall | precision | \
             agreement with the prediction | agreement among annotators | of 1,000 neutral \
             |\n|---|---|---|---|---|---|---|"
        )?;
        for label in labels {
            writeln!(
                text,
                "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.0} |",
                label.label,
                label.n,
                label.recall,
                label.precision,
                label.agreement,
                label.inter_annotator,
                label.per_1000_neutral
            )?;
        }
    }
    Ok(text)
}
