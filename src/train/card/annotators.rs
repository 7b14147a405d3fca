//! The card's section on the agreement of face predictions with the pictures' annotators.

use std::fmt::Write;

use crate::train::annotators::AnnotatorAgreement;
use crate::train::figure::Figure;

/// Agreement with the ten annotators of each picture. Empty if no figure has it.
pub(super) fn section(figures: &[Figure]) -> anyhow::Result<String> {
    let crowds = || {
        figures
            .iter()
            .filter_map(|f| Some((&f.what, f.crowd.as_ref()?)))
    };
    let mut text = String::new();
    if crowds().next().is_none() {
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
    for (what, crowd) in crowds() {
        let [low, high] = crowd.interval;
        writeln!(
            text,
            "| {what} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {} | {:.3} \
             ({low:.3}–{high:.3}) |",
            crowd.n,
            crowd.agreement,
            crowd.among_themselves,
            crowd.cross_entropy,
            crowd.entropy,
            crowd.calibration_error,
            crowd.clear,
            crowd.accuracy,
        )?;
    }
    writeln!(
        text,
        "\nThe same by majority label. The last column is the number of predictions of a label \
         among 1,000 pictures with the majority label *neutral*. It leaves out abstentions: the \
         head's abstention threshold is applied, also to the face encoder's own confidences. The \
         other columns contain all predictions."
    )?;
    for (what, AnnotatorAgreement { of_labels, .. }) in crowds() {
        writeln!(
            text,
            "\n{what}:\n\n| label | pictures with this majority label | recall | precision | \
             agreement with the prediction | agreement among annotators | of 1,000 neutral \
             |\n|---|---|---|---|---|---|---|"
        )?;
        for of in of_labels {
            writeln!(
                text,
                "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.0} |",
                of.label,
                of.n,
                of.recall,
                of.precision,
                of.agreement,
                of.among_themselves,
                of.of_1000_neutral
            )?;
        }
    }
    Ok(text)
}
