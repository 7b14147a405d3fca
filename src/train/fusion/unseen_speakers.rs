//! Metrics of a recipe's voice encoders on speakers and corpora outside their training data.

use crate::labels::{LABELS, RAVDESS};
use crate::modality::{Modality, Presence};
use crate::preprocess::LogMel;
use crate::train::calibrate::LabelledLogits;
use crate::train::data::Part;
use crate::train::data::speech_clip::{Corpus, LabelledClip};
use crate::train::data::voices::{HeldOut, read};
use crate::train::embeddings::{LabelledEmbeddings, push_clip};
use crate::train::encoder_runs::{VoiceRun, clip_logits, load_voice};
use crate::train::figure::Figure;
use crate::train::fit::{device, values};
use crate::train::net::Head;
use crate::train::recipe::Recipe;
use crate::train::wire_labels::{clip_predictions, merge_to_labels, wire_label};

use super::recordings::PairedEmbeddings;
use super::{Calibration, dims, evaluate_head, forward, only, paired};

/// Metrics of the voice encoders that were trained without some speakers or corpora, on these
/// speakers and corpora. `head`: the calibrated fusion head on the embeddings of the encoder
/// [`VoiceRun::Calibration`]; it is measured on voices alone.
///
/// # Errors
/// A run is not finished, or a corpus cannot be read.
pub(super) fn figures(
    recipe: &Recipe,
    head: &Head,
    calibration: &Calibration,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for which in VoiceRun::all(recipe) {
        if which == VoiceRun::Final {
            // `evaluate` measures the final encoder from the files of the bundle.
            continue;
        }
        let net = load_voice(recipe, which)?;
        let mel = LogMel::new(&recipe.voice.preprocessing);
        for corpus in Corpus::ALL {
            let is_trained_on = which.held_out(recipe, corpus) != HeldOut::All;
            for part in [Part::Report, Part::Select] {
                // Selection speakers are reported only if the encoder was trained on other speakers
                // of the corpus.
                if part == Part::Select && !is_trained_on {
                    continue;
                }
                let clips = clips_of_trained_labels(recipe, which, corpus, part)?;
                if clips.is_empty() {
                    continue;
                }
                let logits = clip_logits(&net, &mel, &clips, recipe)?;
                let what = figure_name(recipe, which, corpus, part);
                let per_clip = format!("{what}, per clip");
                figures.push(if is_trained_on && corpus == Corpus::Ravdess {
                    let predictions = clip_predictions(corpus, logits, &clips);
                    Figure::from_predictions(&per_clip, &predictions, &RAVDESS)
                } else {
                    Figure::from_predictions(
                        &per_clip,
                        &merged_predictions(&logits, &clips),
                        &LABELS,
                    )
                });
                if which != VoiceRun::Calibration || part != Part::Report {
                    continue;
                }
                let mut voices = LabelledEmbeddings::new(recipe.voice.shape.dim);
                for clip in &clips {
                    push_clip(recipe, &net, &mel, clip, &mut voices)?;
                }
                let what = format!("{what}, per hop; head, voice alone");
                figures.push(voice_only_figure(recipe, head, calibration, &what, voices)?);
            }
        }
    }
    Ok(figures)
}

/// Metrics of the calibrated `head` on recordings with face and voice of one person, one row per
/// hop: from the face, from the voice, and from both. `all`: the embeddings of each modality, in
/// the order of [`Modality::ALL`].
///
/// # Errors
/// The device fails.
pub(super) fn of_one_person(
    head: &Head,
    calibration: &Calibration,
    all: &[LabelledEmbeddings],
    pairs: &PairedEmbeddings,
) -> anyhow::Result<Vec<Figure>> {
    let both = Presence {
        face: true,
        voice: true,
        text: false,
    };
    let sets = [
        (
            "26 recordings of RAVDESS actor 1 (a calibration actor)",
            &pairs.select,
        ),
        (
            "5 recordings of people outside all training and selection data",
            &pairs.report,
        ),
    ];
    let mut figures = Vec::new();
    for (name, pairs) in sets {
        if pairs.is_empty() {
            continue;
        }
        for subset in [only(Modality::Face), only(Modality::Voice), both] {
            let logits = paired(all, pairs, &subset, &mut |batch| {
                values(forward(head, batch, &device()))
            })?;
            let truth = pairs.iter().map(|pair| pair.label).collect();
            let predictions = LabelledLogits::new(LABELS.len(), logits, truth);
            let what = format!("{name}, per hop; head, {}", subset.name());
            figures.push(
                Figure::from_predictions(&what, &predictions, &LABELS).with_confidence(
                    &predictions,
                    f64::from(calibration.temperature[&subset.name()]),
                    f64::from(calibration.abstain_threshold),
                ),
            );
        }
    }
    Ok(figures)
}

/// The clips of one part of a corpus whose label occurs in the training data of the encoder
/// `which`.
fn clips_of_trained_labels(
    recipe: &Recipe,
    which: VoiceRun,
    corpus: Corpus,
    part: Part,
) -> anyhow::Result<Vec<LabelledClip>> {
    let trained: Vec<usize> = (Corpus::ALL.into_iter())
        .filter(|corpus| which.held_out(recipe, *corpus) != HeldOut::All)
        .flat_map(|corpus| corpus.emotions().iter().map(|emotion| wire_label(*emotion)))
        .collect();
    let clips = read(
        &recipe.material,
        corpus,
        part,
        which.held_out(recipe, corpus),
    )?;
    let is_trained = |clip: &LabelledClip| trained.contains(&wire_label(clip.emotion));
    Ok(clips.into_iter().filter(is_trained).collect())
}

/// Predictions of [`LABELS`] with the true labels of `clips`. `logits`: over RAVDESS's classes,
/// `[clips, classes]` row by row.
fn merged_predictions(logits: &[f32], clips: &[LabelledClip]) -> LabelledLogits {
    let rows = logits.chunks(RAVDESS.len()).flat_map(merge_to_labels);
    let truth = clips.iter().map(|clip| wire_label(clip.emotion));
    LabelledLogits::new(LABELS.len(), rows.collect(), truth.collect())
}

/// The name of a figure: the training corpora of the encoder and the evaluated speakers.
fn figure_name(recipe: &Recipe, which: VoiceRun, corpus: Corpus, part: Part) -> String {
    let training: Vec<&str> = (Corpus::ALL.into_iter())
        .filter(|corpus| which.held_out(recipe, *corpus) != HeldOut::All)
        .map(Corpus::name)
        .collect();
    let speakers = match (corpus, part) {
        (Corpus::Ravdess, Part::Select) => {
            let actors: Vec<String> = (recipe.voice.calibration_actors.iter())
                .map(u32::to_string)
                .collect();
            format!("actors {}", actors.join(", "))
        }
        (Corpus::Ravdess, _) => "actors 18-21".to_owned(),
        (Corpus::Nemo, _) => "speakers IC0 and KS0".to_owned(),
    };
    format!(
        "voice encoder trained on {} only: {} {speakers}",
        training.join(" and "),
        corpus.name()
    )
}

/// Metrics of the calibrated head on `voices`, the embeddings of one row per hop, without face and
/// text. `what`: the name of the figure.
fn voice_only_figure(
    recipe: &Recipe,
    head: &Head,
    calibration: &Calibration,
    what: &str,
    voices: LabelledEmbeddings,
) -> anyhow::Result<Figure> {
    let subset: Presence = only(Modality::Voice);
    let [face, _, text] = dims(recipe);
    let all = [
        LabelledEmbeddings::new(face),
        voices,
        LabelledEmbeddings::new(text),
    ];
    let predictions = evaluate_head(head, &all, &subset)?;
    Ok(
        Figure::from_predictions(what, &predictions, &LABELS).with_confidence(
            &predictions,
            f64::from(calibration.temperature[&subset.name()]),
            f64::from(calibration.abstain_threshold),
        ),
    )
}
