//! The model card: the bundle's composition, metrics, intended use and limits.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::labels::{LABELS, RAVDESS};
use crate::manifest::Manifest;
use crate::train::annotators::AnnotatorAgreement;
use crate::train::encoder_runs::{VoiceRun, face_parts, run_folder};
use crate::train::features::distinct;
use crate::train::figure::{Figure, Subgroup};
use crate::train::fit::read_state;
use crate::train::fusion::Calibration;
use crate::train::int8::Trial;
use crate::train::net::Encoder;
use crate::train::prior::Strength;
use crate::train::recipe::Recipe;
use crate::train::samples::milliseconds;

mod voices;

/// The figures with a picture of their confusion matrix.
fn pictured(figures: &[Figure]) -> impl Iterator<Item = (&'static str, &Figure)> {
    const PICTURED: [(&str, &str); 4] = [
        ("face", "face encoder"),
        ("voice", "voice encoder"),
        ("words", "head, words alone"),
        ("all", "head, face+voice+text"),
    ];
    PICTURED.into_iter().filter_map(|(name, begins)| {
        Some((
            name,
            figures
                .iter()
                .find(|figure| figure.what.starts_with(begins))?,
        ))
    })
}

fn picture_file(name: &str) -> String {
    format!("confusion-{name}.svg")
}

/// The card's pictures: file names and SVG.
pub fn pictures(figures: &[Figure]) -> Vec<(String, String)> {
    pictured(figures)
        .map(|(name, figure)| (picture_file(name), figure.confusion.svg(&figure.what)))
        .collect()
}

/// The card's sections on intended use and data.
const USE: &str = include_str!("card_use.md");

/// Replaces the figures and the sections on use and data in a bundle's card, and writes the
/// confusion matrices beside it.
///
/// # Errors
/// Where the bundle has no card that `export` wrote.
pub fn renew(bundle: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let read = |name: &str| {
        std::fs::read_to_string(bundle.join(name))
            .with_context(|| format!("{name} in {} cannot be read", bundle.display()))
    };
    let (old, manifest) = (
        read("MODEL_CARD.md")?,
        toml::from_str(&read("manifest.toml")?).context("manifest.toml is not valid")?,
    );
    std::fs::write(
        bundle.join("MODEL_CARD.md"),
        renewed(&old, &figures_section(bundle, &manifest, figures)?)?,
    )?;
    for (name, svg) in pictures(figures) {
        std::fs::write(bundle.join(&name), svg)
            .with_context(|| format!("{name} cannot be written"))?;
    }
    Ok(crate::model::seal(bundle)?)
}

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

/// From `## Figures` up to `## Calibration`.
fn figures_section(
    bundle: &Path,
    manifest: &Manifest,
    figures: &[Figure],
) -> anyhow::Result<String> {
    let mut card = String::new();
    writeln!(card, "\n## Figures\n")?;
    writeln!(
        card,
        "From the ONNX files, as the daemon runs them, on pictures, actors and dialogues that \
         neither trained nor selected anything:\n"
    )?;
    writeln!(
        card,
        "```\nexpressd-train evaluate --bundle {}\n```\n",
        bundle.display()
    )?;
    writeln!(
        card,
        "| what | n | classes | accuracy (95 % interval) | mean recall | weighted F1 | calibration \
         error | by chance alone | answered | right among answered |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    )?;
    for figure in figures {
        let optional = |value: Option<f64>| value.map_or("".to_owned(), |v| format!("{v:.3}"));
        writeln!(
            card,
            "| {} | {} | {} | {:.3} ({:.3}–{:.3}) | {:.3} | {} | {} | {} | {} | {} |",
            figure.what,
            figure.n,
            figure.classes,
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
    writeln!(card, "\nRecall by class:\n")?;
    for figure in figures {
        let recalls: Vec<_> = figure
            .recalls
            .iter()
            .map(|(name, (recall, [low, high]))| format!("{name} {recall:.2} ({low:.2}–{high:.2})"))
            .collect();
        writeln!(card, "* {}: {}", figure.what, recalls.join(", "))?;
    }
    card.push_str(&annotators_section(figures)?);
    card.push_str(&voices::conflict_section(figures)?);
    writeln!(
        card,
        "\nBy what differs between users (the encoders' own classes):\n"
    )?;
    writeln!(
        card,
        "| what | n | accuracy (95 % interval) |\n|---|---|---|"
    )?;
    for Subgroup {
        what,
        n,
        accuracy,
        interval: [low, high],
    } in figures.iter().flat_map(|figure| &figure.conditions)
    {
        writeln!(
            card,
            "| {what} | {n} | {accuracy:.3} ({low:.3}–{high:.3}) |"
        )?;
    }
    writeln!(
        card,
        "\nA picture is dark under a mean value of 90 of 255, bright from 160. Men and women as \
         RAVDESS numbers its actors (two of each report) and as nEMO \
         lists its speakers (one of each); the other data does not say who is whom. Skin tone and \
         age are labelled nowhere in it and were not measured.\n"
    )?;
    writeln!(
        card,
        "## Known failures\n\nWhat is taken for what, in per cent of each row; drawn from the same \
         numbers:\n"
    )?;
    for (name, figure) in pictured(figures) {
        writeln!(card, "![{}]({})\n", figure.what, picture_file(name))?;
        for (class, taken_for, share, right) in figure.confusion.largest_errors(4) {
            writeln!(
                card,
                "* {:.0} % of *{class}* are taken for *{taken_for}* ({:.0} % are found)",
                100.0 * share,
                100.0 * right
            )?;
        }
        writeln!(card)?;
    }
    writeln!(
        card,
        "\nIntervals are Wilson's and treat rows as independent. Rows of one clip, clips of one \
         actor and the four draws of one window are dependent: their intervals are too narrow. \
         *Men* and *women* are two actors each, one in nEMO. *Pictures new to it*: pictures of \
         PublicTest without a pixel-identical copy in Training; all figures of faces but the last \
         condition use them. *Each hop*: a window every {} ms during speech, as the daemon \
         answers; the first windows of a clip contain only {} ms of speech. Mean recall and \
         calibration error (expected calibration error, 15 bins) weigh classes equally; for words \
         alone, utterances. *By chance alone*: the mean error of as few rows if every confidence \
         were exactly right. Joined rows combine different people: they show that fusion works, \
         not its accuracy on one person.\n",
        manifest.window.hop_ms,
        manifest
            .audio
            .as_ref()
            .map_or(0, |audio| audio.min_speech_ms)
    )?;
    Ok(card)
}

/// Comparison of face predictions with the ten annotators of each picture.
fn annotators_section(figures: &[Figure]) -> anyhow::Result<String> {
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
        "\nBeside FER+'s ten annotators of each picture (votes for *contempt*, *unknown* and *no \
         face* dropped; pictures with fewer than five votes left, or \
         that as many call contempt as anything else, left out). *Clear*: one label has more votes \
         than any other.\n"
    )?;
    writeln!(
        text,
        "| what | pictures | annotators who agree with the answer | who agree with one of \
         themselves | cross-entropy to the votes | their entropy | calibration error against the \
         votes | clear pictures | first choice found (95 % interval) |\n\
         |---|---|---|---|---|---|---|---|---|"
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
    for (what, AnnotatorAgreement { of_labels, .. }) in crowds() {
        writeln!(
            text,
            "\n{what}: clear pictures by their annotators' first choice, and of 1,000 whose first \
             choice is *neutral* how many are given each label with a \
             confidence that is not abstained from:\n"
        )?;
        writeln!(
            text,
            "| label | clear pictures | recall | precision | annotators who agree | with one of \
             themselves | of 1,000 neutral |\n|---|---|---|---|---|---|---|"
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

/// The text of `MODEL_CARD.md`.
#[allow(clippy::too_many_arguments)]
pub fn write(
    recipe: &Recipe,
    recipe_path: &Path,
    manifest: &Manifest,
    figures: &[Figure],
    calibration: &Calibration,
    own_classes: &Strength,
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
    let recipe_name = recipe_path.display();
    writeln!(card, "# Model card: `{}`\n", recipe.name)?;
    writeln!(
        card,
        "Seven expressions ({}) of a face, a voice, words, or any of them together. A face encoder \
         (each tracked face, {} px grey, {:.1} MFLOP), a voice encoder \
         (log-mel spectrogram of up to {} ms, {:.1} MFLOP), all-MiniLM-L6-v2 for words (frozen; \
         its graph is made at set-up from the published weights) and a head that adds their \
         evidence. One hop of {} ms costs one subject {:.0} new face \
         inputs and one voice window: {:.3} GFLOP (multiplications and additions of convolutions \
         and linear layers).\n",
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
        "Factors of the evidence (face {:.3}, voice {:.3}, words {:.3}) and temperatures per \
         subset of modalities minimise the log-likelihood loss, \
         class-balanced but where a face or words are alone, on data that the encoders and the \
         head behind them never met: pictures and dialogues held back, and actors and a corpus \
         that a second voice encoder was trained without. Confidence under {:.2} abstains: it \
         would be lower if, coming down from 0.45, half of the answers within the next 0.05 were \
         still right there, and is never higher. A face alone and words alone are weighed as \
         counted after calibration, and class-balanced before it, so their two errors are not of \
         one measure. \
         A face's evidence is learnt class-balanced, of votes, and {:.1} of the logarithm of each \
         label's share in the training pictures' votes is added to it; the face encoder's own \
         classes keep {:.1} of theirs: of eleven strengths the one with the best mean recall among \
         those whose accuracy on the clear pictures of the selection data is within 0.005 of the \
         best. Where words are alone, part of the logarithm of each label's share in MELD's \
         training utterances is added (the middle of what does as well as the best for weighted F1 \
         on the selection data): most of what is said is said neutrally.\n",
        calibration.factors[0],
        calibration.factors[1],
        calibration.factors[2],
        calibration.abstain_threshold,
        calibration.face_prior_strength,
        own_classes.of_prior
    )?;
    writeln!(
        card,
        "| subset | n (selection data) | temperature | calibration error before | after \
         |\n|---|---|---|---|---|"
    )?;
    for (subset, [before, after]) in &calibration.error {
        writeln!(
            card,
            "| {subset} | {} | {:.3} | {before:.3} | {after:.3} |",
            calibration.rows[subset], calibration.temperature[subset]
        )?;
    }
    card.push_str(&voices::unseen_speakers_section(&calibration.strangers)?);
    writeln!(card, "\n## Eight bits\n")?;
    writeln!(
        card,
        "On a CPU the daemon runs these encoders' convolutions in eight bits where that is faster \
         and costs at most 0.005 of accuracy on the selection data \
         (pictures; windows of voices of one second and of the whole length, every 100 ms, by the \
         voice encoder that never met those actors); figures above are with what is kept. \
         Milliseconds: CPU time of one run on one thread, the median, both by turns.\n"
    )?;
    writeln!(
        card,
        "| encoder | n (selection data) | float ms | int8 ms | accuracy float | accuracy int8 | \
         kept |\n|---|---|---|---|---|---|---|"
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
        writeln!(
            card,
            "| {encoder} | {n} | {fp32_ms:.2} | {int8_ms:.2} | {fp32_accuracy:.4} | \
             {int8_accuracy:.4} | {kept} |"
        )?;
    }
    writeln!(card, "\n## Training\n")?;
    writeln!(
        card,
        "```\nexpressd-train finetune --recipe {recipe_name}\nexpressd-train export --recipe \
         {recipe_name}\n```\n"
    )?;
    writeln!(
        card,
        "| part | epochs done | epoch kept | its figure on held-out data | hours \
         |\n|---|---|---|---|---|"
    )?;
    let mut parts = face_parts(recipe);
    parts.extend(VoiceRun::of(recipe).iter().map(|run| run.part().to_owned()));
    parts.extend(["head-calibration", "head"].map(str::to_owned));
    let mut devices: Vec<String> = Vec::new();
    for part in parts {
        let state =
            read_state(&run_folder(recipe, &part))?.with_context(|| format!("no run of {part}"))?;
        let figure = state
            .kept()
            .map_or("none is taken".to_owned(), |figure| format!("{figure:.3}"));
        writeln!(
            card,
            "| {part} | {} | {} | {figure} | {:.2} |",
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
        format!("Computed by {devices}. ")
    };
    writeln!(
        card,
        "\n{made_by}The figure is accuracy for the encoders, mean recall over the seven subsets \
         for the head. Only the face's selected anything (its epoch); \
         the others are of runs that never met the calibration actors ({}) nor the calibration \
         corpus, and whose factors and temperatures the bundle has; *voice-other-corpus* met that \
         corpus alone. Burn and ONNX Runtime differ by at most {difference:.0e} on real inputs \
         (export refuses more than 1e-4).",
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
    fn new_figures_replace_the_old_ones() {
        let old = "# Model card: `x`\n\nSeven.\n\n## Intended use, and more\n\nold\n\n## \
                   Figures\n\nold\n\n## Calibration\n\nkept\n";
        let new = renewed(old, "\n## Figures\n\nnew\n\n").unwrap();
        assert_eq!(
            new,
            format!(
                "# Model card: `x`\n\nSeven.\n\n{USE}\n## Figures\n\nnew\n\n## \
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
