//! The model card: the bundle's composition, metrics, intended use and limits.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::labels::{LABELS, RAVDESS};
use crate::manifest::Manifest;
use crate::train::calibrate::THRESHOLD_RULE;
use crate::train::encoder_runs::run_folder;
use crate::train::features::distinct;
use crate::train::figure::{Figure, Subgroup};
use crate::train::fit::read_state;
use crate::train::fusion::Calibration;
use crate::train::int8::Trial;
use crate::train::net::Encoder;
use crate::train::prior::PriorStrength;
use crate::train::recipe::Recipe;
use crate::train::samples::milliseconds;
use crate::train::staged_bundle::StagedBundle;

mod annotators;
mod paths;
mod peers;
mod runs;
mod terms;
mod voices;

pub use paths::shown_path;

/// The figures whose confusion matrix is drawn, each with the short name in the picture's file
/// name.
fn pictured(figures: &[Figure]) -> impl Iterator<Item = (&'static str, &Figure)> {
    // Short name, and beginning of the figure's name.
    const PICTURED: [(&str, &str); 4] = [
        ("face", "face encoder"),
        ("voice", "voice encoder"),
        ("words", "head, text alone"),
        ("all", "head, face+voice+text"),
    ];
    PICTURED.into_iter().filter_map(|(name, begins)| {
        Some((
            name,
            figures
                .iter()
                .find(|figure| figure.name.starts_with(begins))?,
        ))
    })
}

/// The file name of the confusion matrix with this short name.
fn picture_file(name: &str) -> String {
    format!("confusion-{name}.svg")
}

/// The confusion matrices of the card, as pairs of file name and SVG text.
pub fn pictures(figures: &[Figure]) -> Vec<(String, String)> {
    pictured(figures)
        .map(|(name, figure)| (picture_file(name), figure.confusion.svg(&figure.name)))
        .collect()
}

/// The card's sections on intended use and data.
const USE: &str = include_str!("card_use.md");

/// Replaces the metrics and the sections on use and data in the model card of the folder `bundle`,
/// and writes the confusion matrices beside it.
///
/// # Errors
/// The bundle has no card that `export` wrote, or a file cannot be read or written.
pub fn renew(bundle: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let read = |name: &str| {
        std::fs::read_to_string(bundle.join(name))
            .with_context(|| format!("{name} in {} cannot be read", bundle.display()))
    };
    let (old, manifest) = (
        read("MODEL_CARD.md")?,
        toml::from_str(&read("manifest.toml")?).context("manifest.toml is not valid")?,
    );
    let card = renewed(&old, &figures_section(bundle, &manifest, figures)?)?;
    let staged = StagedBundle::copy_of(bundle)?;
    staged.write("MODEL_CARD.md", card.as_bytes())?;
    for (name, svg) in pictures(figures) {
        staged.write(&name, svg.as_bytes())?;
    }
    staged.publish()
}

/// The text of the card `old` with the current sections on use and data and the section `figures`.
fn renewed(old: &str, figures: &str) -> anyhow::Result<String> {
    let place = |heading: &str| {
        old.find(&format!("\n{heading}"))
            .map(|at| at + 1)
            .with_context(|| format!("MODEL_CARD.md has no {heading}: export wrote none"))
    };
    let (from, to) = (place("## Intended use")?, place("## Calibration")?);
    ensure!(from < to, "MODEL_CARD.md is not in export's order");
    Ok([&old[..from], USE, figures, &old[to..]].concat())
}

/// The text of the card from `## Evaluation` up to, but without, `## Calibration`.
fn figures_section(
    bundle: &Path,
    manifest: &Manifest,
    figures: &[Figure],
) -> anyhow::Result<String> {
    let mut card = String::new();
    writeln!(card, "\n## Evaluation\n")?;
    writeln!(
        card,
        "Measured with the bundle's ONNX files, which run as in the daemon, on test data: \
         pictures, speakers and dialogues that were used neither for training nor for selection.\n"
    )?;
    writeln!(
        card,
        "```\nexpressd-train evaluate --bundle {}\n```\n",
        shown_path(bundle)
    )?;
    writeln!(card, "Terms of the tables:\n\n{}", terms::list(manifest))?;
    writeln!(
        card,
        "| model and test data | n | classes | accuracy (95 % interval) | mean recall | weighted \
         F1 | calibration error | expected by chance | answered | accuracy of answered |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    )?;
    for figure in figures {
        let optional = |value: Option<f64>| value.map_or("".to_owned(), |v| format!("{v:.3}"));
        writeln!(
            card,
            "| {} | {} | {} | {:.3} ({:.3}–{:.3}) | {:.3} | {} | {} | {} | {} | {} |",
            figure.name,
            figure.n,
            figure.recalls.len(),
            figure.accuracy,
            figure.interval[0],
            figure.interval[1],
            figure.recall,
            optional(figure.weighted_f1),
            optional(figure.calibration_error),
            optional(figure.chance_error),
            optional(figure.answered),
            optional(figure.answered_accuracy)
        )?;
    }
    writeln!(
        card,
        "\n### Recall by class\n\nRecall with its 95 % interval:\n"
    )?;
    for figure in figures {
        let recalls: Vec<_> = figure
            .recalls
            .iter()
            .map(|(name, (recall, [low, high]))| format!("{name} {recall:.2} ({low:.2}–{high:.2})"))
            .collect();
        writeln!(card, "* {}: {}", figure.name, recalls.join(", "))?;
    }
    card.push_str(&annotators::section(figures)?);
    card.push_str(&voices::conflict_section(figures)?);
    writeln!(
        card,
        "\n### Subgroup accuracy\n\nAccuracy of the face and voice encoders' own classes:\n"
    )?;
    writeln!(
        card,
        "| subgroup or condition | n | accuracy (95 % interval) |\n|---|---|---|"
    )?;
    for Subgroup {
        name,
        n,
        accuracy,
        interval: [low, high],
    } in figures.iter().flat_map(|figure| &figure.subgroups)
    {
        writeln!(
            card,
            "| {name} | {n} | {accuracy:.3} ({low:.3}–{high:.3}) |"
        )?;
    }
    writeln!(
        card,
        "\nThe brightness of a picture is its mean pixel value: dark below 90 of 255, bright from \
         160. The sex of a speaker follows from RAVDESS's actor numbers (two men and two women in \
         the test data) and from nEMO's list of speakers (one man and one woman). The other data \
         sets do not label it. No data set labels skin tone or age, so accuracy by these was not \
         measured.\n"
    )?;
    writeln!(
        card,
        "## Most frequent errors\n\nConfusion matrices of the predictions above, in per cent of \
         each true class, and the four largest errors of each:\n"
    )?;
    for (name, figure) in pictured(figures) {
        writeln!(card, "![{}]({})\n", figure.name, picture_file(name))?;
        for (class, predicted, share, recall) in figure.confusion.largest_errors(4) {
            writeln!(
                card,
                "* {:.0} % of *{class}* are predicted as *{predicted}* (recall {:.0} %)",
                100.0 * share,
                100.0 * recall
            )?;
        }
        writeln!(card)?;
    }
    card.push_str(&peers::section(manifest));
    Ok(card)
}

/// A code block with the commands that make the bundle from a recipe.
fn training_commands(recipe: &Path) -> String {
    let recipe = shown_path(recipe);
    format!(
        "```\nexpressd-train finetune --recipe {recipe}\nexpressd-train export --recipe \
         {recipe} --overwrite\n```\n"
    )
}

/// A share as a whole number of per cent.
fn per_cent(share: f32) -> f32 {
    // Adding 0 turns -0 into 0.
    (100.0 * share).round() + 0.0
}

/// The text of `MODEL_CARD.md`. `own_classes`: strength of the prior that stays in the face
/// encoder's own classes; `difference`: the largest difference between outputs of Burn and ONNX
/// Runtime; `trials`: the results of int8 quantisation.
///
/// # Errors
/// A run of the recipe cannot be read.
#[allow(clippy::too_many_arguments)]
pub fn write(
    recipe: &Recipe,
    recipe_path: &Path,
    manifest: &Manifest,
    figures: &[Figure],
    calibration: &Calibration,
    own_classes: &PriorStrength,
    difference: f32,
    trials: &[Trial],
) -> anyhow::Result<String> {
    let mut card = String::new();
    let mel_frames = 1 + milliseconds(recipe.window.length_ms) / recipe.voice.preprocessing.hop;
    let face_flop = Encoder::operations(
        &recipe.face.shape,
        LABELS.len(),
        [recipe.face.preprocessing.size; 2],
    ) as f64;
    let voice_flop = Encoder::operations(
        &recipe.voice.shape,
        RAVDESS.len(),
        [recipe.voice.preprocessing.mels, mel_frames],
    ) as f64;
    let new_faces =
        (recipe.face.preprocessing.rate_hz * f64::from(recipe.window.hop_ms) / 1000.0).ceil();
    writeln!(card, "# Model card: `{}`\n", recipe.name)?;
    writeln!(
        card,
        "The bundle estimates one of seven expressions ({}) from a face, a voice, text, or any \
         combination of the three. Its networks:\n\n\
         * face encoder: one greyscale crop of {} px for each tracked face, {:.1} MFLOP\n\
         * voice encoder: log-mel spectrogram of up to {} ms, {:.1} MFLOP\n\
         * sentence encoder: all-MiniLM-L6-v2, frozen; set-up makes its graph from the published \
         weights\n\
         * head: adds the evidence of the modalities that are present\n\n\
         For one subject, one hop of {} ms runs {:.0} new face inputs and one voice window: {:.3} \
         GFLOP (multiplications and additions of convolutions and linear layers).\n",
        LABELS.join(", "),
        recipe.face.preprocessing.size,
        face_flop * 1e-6,
        recipe.window.length_ms,
        voice_flop * 1e-6,
        recipe.window.hop_ms,
        new_faces,
        (new_faces * face_flop + voice_flop) * 1e-9
    )?;
    card.push_str(USE);
    card.push_str(&figures_section(&recipe.bundle, manifest, figures)?);
    writeln!(card, "## Calibration\n")?;
    writeln!(
        card,
        "Calibration uses the pictures, dialogues and recordings of the selection data. No weights \
         are trained on these pictures and dialogues. The voices are those of the calibration \
         actors and of the calibration corpus. They are calibrated with a second voice encoder and \
         head, which are trained without them. The bundle's own voice encoder and head are trained \
         on these actors and on this corpus.\n\n\
         * Evidence factors (face {:.3}, voice {:.3}, text {:.3}) and one temperature for each \
         subset of the modalities minimise the negative log-likelihood. Classes have equal weight, \
         except for the temperatures of the face alone and of text alone, for which items have \
         equal weight.\n\
         * The head abstains if its confidence is below {:.2}. {THRESHOLD_RULE}\n\
         * Label prior of faces: the head's training uses all labels equally often, so its \
         evidence does not contain how frequent they are. For a face alone, {:.0} % (rare labels: \
         {:.0} %) of the log of each label's share in the training votes is added to the evidence. \
         A label is rare if its share is below 5 %; a negative percentage favours it. The face \
         encoder's own classes are trained with the labels' real frequencies; {:.0} % ({:.0} %) of \
         these logs stay in them. Both percentages are selected on the selection pictures with a \
         majority label. First, eleven percentages from 0 to 100 are tried for all labels. The \
         first one is the mean of those with an accuracy within one standard error of the best. \
         Then lower ones, down to -100, are tried for rare labels. The second one has the best \
         mean recall among those with an accuracy within 0.005 of the best.\n\
         * Several modalities: in the evidence of each modality, no label is further below the \
         most favoured one than a bound (in nats: {:.1} for the face, {:.1} for the voice, {:.1} \
         for text), so that no modality can exclude a label that the others favour. This limits, \
         but does not prevent, that one confident modality decides: see *Conflicting modalities*. \
         {:.0} % \
         of the log of each label's share in the votes is added to the face's evidence. These \
         settings and the relation of the factors minimise the loss on rows with several \
         modalities; half of the rows with face and voice are recordings of one person.\n\
         * Label prior of text: most utterances are neutral. Where text is the only modality, part \
         of the log of each label's share in MELD's training utterances is added. Its strength is \
         the mean of those with a weighted F1 within one standard error of the best on the \
         selection data.\n",
        calibration.factors[0],
        calibration.factors[1],
        calibration.factors[2],
        calibration.abstain_threshold,
        per_cent(calibration.face_prior_strength),
        per_cent(calibration.face_rare_strength),
        per_cent(own_classes.common_labels),
        per_cent(own_classes.rare_labels),
        calibration.bounds[0],
        calibration.bounds[1],
        calibration.bounds[2],
        per_cent(calibration.joined_face_prior_strength),
    )?;
    writeln!(
        card,
        "For the face alone and for text alone, the calibration error before weighs classes \
         equally, and the one after weighs items equally: the two cannot be compared.\n"
    )?;
    writeln!(
        card,
        "| modalities | n (selection data) | temperature | calibration error before calibration | \
         after |\n|---|---|---|---|---|"
    )?;
    for (subset, [before, after]) in &calibration.error {
        writeln!(
            card,
            "| {subset} | {} | {:.3} | {before:.3} | {after:.3} |",
            calibration.rows[subset], calibration.temperature[subset]
        )?;
    }
    card.push_str(&voices::unseen_speakers_section(
        &calibration.unseen_speakers,
    )?);
    writeln!(card, "\n## Int8 quantisation\n")?;
    writeln!(
        card,
        "On a CPU the daemon runs an encoder's convolutions in int8 if that is faster and lowers \
         the accuracy on the selection data by at most 0.005. The selection data is pictures, and \
         voice windows of one second and of the full length, every 100 ms. The figures of \
         *Evaluation* are those of the graphs that are kept. Times are the median CPU time of one \
         run on one thread; runs of the two graphs alternate.\n"
    )?;
    writeln!(
        card,
        "| encoder | n (selection data) | float ms | int8 ms | accuracy float | accuracy int8 | \
         int8 kept |\n|---|---|---|---|---|---|---|"
    )?;
    for trial in trials {
        let Trial {
            encoder,
            n,
            fp32_ms,
            int8_ms,
            fp32_accuracy,
            int8_accuracy,
            ..
        } = trial;
        let kept = if trial.is_kept() { "yes" } else { "no" };
        let encoder = match &**encoder {
            "voice" => "voice, per window of an encoder that was not trained on these speakers",
            other => other,
        };
        writeln!(
            card,
            "| {encoder} | {n} | {fp32_ms:.2} | {int8_ms:.2} | {fp32_accuracy:.4} | \
             {int8_accuracy:.4} | {kept} |"
        )?;
    }
    writeln!(card, "\n## Training\n\n{}", training_commands(recipe_path))?;
    writeln!(
        card,
        "| part | epochs | epoch kept | metric on selection data | hours |\n|---|---|---|---|---|"
    )?;
    let mut devices: Vec<String> = Vec::new();
    for (part, label) in runs::labelled(recipe) {
        let state =
            read_state(&run_folder(recipe, &part))?.with_context(|| format!("no run of {part}"))?;
        let figure = state
            .kept()
            .map_or("not measured".to_owned(), |figure| format!("{figure:.3}"));
        writeln!(
            card,
            "| {label} | {} | {} | {figure} | {:.2} |",
            state.epochs,
            state.best + 1,
            state.seconds / 3600.0
        )?;
        devices.extend(state.devices);
    }
    let devices = distinct(devices.iter()).join(", ");
    let made_by = if devices.is_empty() {
        String::new()
    } else {
        format!("Devices: {devices}. ")
    };
    writeln!(
        card,
        "\n{made_by}The metric is accuracy for the encoders and mean recall over the seven subsets \
         of modalities for the head. It selects the epoch of the face encoder only; the other \
         parts keep their last epoch. *voice-calibration* and *head-calibration* were trained \
         without the calibration actors ({}) and the calibration corpus. The bundle's factors and \
         temperatures come from these two. A voice encoder trained on the calibration corpus only \
         serves the table *Unseen speakers and corpora* alone. Burn and ONNX Runtime differ by at \
         most {difference:.0e} on real inputs (`export` refuses more than 1e-4).",
        recipe
            .voice
            .calibration_actors
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    )?;
    Ok(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_has_no_absolute_paths() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("mine");
        let manifest = crate::testing::project("models/default/manifest.toml");
        let manifest = toml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
        let text = figures_section(&bundle, &manifest, &[]).unwrap()
            + &training_commands(&crate::testing::project("config/train/default.toml"))
            + &training_commands(&folder.path().join("x.toml"));
        for shown in [
            "evaluate --bundle mine\n",
            "finetune --recipe config/train/default.toml\n",
            "export --recipe x.toml --overwrite\n",
        ] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        assert!(!text.contains(&*folder.path().to_string_lossy()), "{text}");
    }

    #[test]
    fn renewal_replaces_figures_and_keeps_the_other_sections() {
        let old = "# Model card: `x`\n\nSeven.\n\n## Intended use, and more\n\nold\n\n## \
                   Evaluation\n\nold\n\n## Calibration\n\nkept\n";
        let new = renewed(old, "\n## Evaluation\n\nnew\n\n").unwrap();
        assert_eq!(
            new,
            format!(
                "# Model card: `x`\n\nSeven.\n\n{USE}\n## Evaluation\n\nnew\n\n## \
                 Calibration\n\nkept\n"
            )
        );
        assert!(
            renewed("# My own card", "")
                .unwrap_err()
                .to_string()
                .contains("## Intended use")
        );
    }
}
