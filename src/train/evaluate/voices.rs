//! Metrics of a bundle's voice encoder on speakers outside its training data.

use std::path::Path;

use anyhow::Context;

use crate::labels::{LABELS, RAVDESS};
use crate::preprocess::LogMel;
use crate::train::data::Part;
use crate::train::data::speech_clip::Corpus;
use crate::train::data::voices::{self, HeldOut};
use crate::train::embeddings::LabelledEmbeddings;
use crate::train::samples::{live_windows, milliseconds, windows};
use crate::train::subgroups;

use crate::train::figure::Figure;
use crate::train::opened_bundle::{OpenedBundle, entry};
use crate::train::wire_labels::{clip_predictions, wire_label};

/// Metrics of the bundle's voice encoder on the report speakers of `corpus`, and the embeddings of
/// these clips with their labels.
///
/// A clip's prediction is the mean of the logits of its windows, one every 0.5 s. The embeddings
/// are of the windows that the daemon takes during speech. nEMO lacks some of RAVDESS's classes, so
/// its predictions are mapped to [`LABELS`]. `material`: the folder that holds the corpora.
///
/// # Errors
/// The corpus is missing or unreadable, or the bundle has no voice encoder.
pub(super) fn measure_voice(
    opened: &mut OpenedBundle,
    material: &Path,
    corpus: Corpus,
) -> anyhow::Result<(Figure, LabelledEmbeddings)> {
    let clips = &voices::read(material, corpus, Part::Report, HeldOut::Actors(&[]))?;
    let settings = opened
        .manifest
        .audio
        .clone()
        .context("the bundle has no [audio]")?;
    let entry = entry(&opened.manifest, "voice")?;
    let mel = LogMel::new(&settings);
    let window = opened.manifest.window;
    let length = milliseconds(window.length_ms);
    let mut labelled = LabelledEmbeddings::new(entry.dim);
    let mut logits = Vec::new();
    for clip in clips {
        let pieces = windows(clip, length, milliseconds(500));
        let mut sum = vec![0.0; entry.classes.len()];
        for piece in &pieces {
            let (input, frames) = mel.compute(piece);
            let [_, row] =
                OpenedBundle::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            sum.iter_mut()
                .zip(row.values)
                .for_each(|(s, v)| *s += v / pieces.len() as f32);
        }
        let label = wire_label(clip.emotion);
        for piece in live_windows(
            clip,
            length,
            milliseconds(window.hop_ms),
            milliseconds(settings.min_speech_ms),
        ) {
            let (input, frames) = mel.compute(piece);
            let [embedding, _] =
                OpenedBundle::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            labelled.push(label, embedding.values);
        }
        logits.extend(sum);
    }
    let predictions = clip_predictions(corpus, logits, clips);
    let by_speaker: Vec<(bool, bool)> = (predictions.predictions().zip(clips))
        .filter_map(|((truth, answer, _), clip)| Some((voices::is_woman(clip)?, truth == answer)))
        .collect();
    let (what, names): (_, &[&str]) = match corpus {
        Corpus::Ravdess => ("voice encoder: RAVDESS actors 18-21, per clip", &RAVDESS),
        Corpus::Nemo => (
            "voice encoder: nEMO speakers IC0 and KS0, per clip",
            &LABELS,
        ),
    };
    Ok((
        Figure {
            subgroups: subgroups::voices(corpus, &by_speaker),
            ..Figure::from_predictions(what, &predictions, names)
        },
        labelled,
    ))
}
