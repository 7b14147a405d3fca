//! The model card of a bundle that `export` makes from a run over feature stores.

use std::fmt::Write;
use std::path::Path;

use crate::manifest::Manifest;
use crate::train::calibrate::THRESHOLD_RULE;
use crate::train::card::shown_path;
use crate::train::classify::{ClassifierRun, HeadCalibration};

/// The model card as Markdown. `rows`: description of the training rows, if it is known (windows or
/// means over recordings). `folder`: the folder of the run. `difference`: largest absolute
/// difference between the logits of ONNX Runtime and Burn.
pub(super) fn card(
    run: &ClassifierRun,
    manifest: &Manifest,
    calibration: &HeadCalibration,
    rows: Option<&str>,
    folder: &Path,
    difference: f32,
) -> anyhow::Result<String> {
    let mut card = String::new();
    writeln!(card, "# Model card: `{}`\n", manifest.name)?;
    writeln!(
        card,
        "Labels: {}. Trained on {} (stores {}), profile {:?}, heads {}.\n",
        run.labels.join(", "),
        run.dataset,
        run.stores
            .iter()
            .map(|store| shown_path(Path::new(store)))
            .collect::<Vec<_>>()
            .join(", "),
        run.recipe.profile,
        run.from
            .as_deref()
            .map_or("begun with random weights".to_owned(), |from| shown_path(
                Path::new(from)
            ))
    )?;
    writeln!(
        card,
        "| encoder | modality | source | licence |\n|---|---|---|---|"
    )?;
    for e in &manifest.encoders {
        writeln!(
            card,
            "| {} | {} | {} | {} |",
            e.name,
            e.modality.name(),
            e.source,
            e.licence
        )?;
    }
    if let Some(rows) = rows {
        writeln!(card, "\nTraining rows are {rows}.")?;
    }
    writeln!(
        card,
        "\nCalibration on the validation split, which also selected the weights. It is no measure \
         of accuracy on other data.\n"
    )?;
    writeln!(
        card,
        "| modalities | {} | temperature | calibration error before calibration | after \
         |\n|---|---|---|---|---|",
        // Calibrations of earlier versions lack `answered`; they count clips, not recordings.
        match calibration.answered {
            Some(_) => "recordings",
            None => "clips",
        }
    )?;
    for (name, c) in &calibration.subsets {
        writeln!(
            card,
            "| {name} | {} | {:.2} | {:.3} | {:.3} |",
            c.items, c.temperature, c.ece_before, c.ece_after
        )?;
    }
    writeln!(
        card,
        "\nThe head abstains if its confidence is below {:.2}. {}Burn and ONNX Runtime differ by \
         at most {difference:.1e}.",
        calibration.abstain_threshold,
        threshold_rule(calibration, run.labels.len())
    )?;
    writeln!(
        card,
        "This command measures the run on the test split: `expressd-train evaluate --run {} \
         --split test --report report.html`.\n",
        shown_path(folder)
    )?;
    // From "Data" on, `src/train/card_use.md` describes the training data of the default bundle.
    card.push_str(
        include_str!("../card_use.md")
            .split("## Data")
            .next()
            .unwrap_or_default(),
    );
    card.push_str(
        "The terms of the training recordings hold for these weights too: add them here before \
         you pass the weights on.\n",
    );
    Ok(card)
}

/// Sentences on the selection of the abstention threshold; empty for a calibration by an earlier
/// version, whose rule was another one.
fn threshold_rule(calibration: &HeadCalibration, labels: usize) -> String {
    if calibration.answered.is_none() {
        return String::new();
    }
    let warning = calibration.low_coverage_warning();
    let warning = warning.map_or(String::new(), |sentence| format!("**{sentence}** "));
    format!(
        "{THRESHOLD_RULE} Here: {} recordings, {labels} labels. {warning}",
        calibration.recordings
    )
}
