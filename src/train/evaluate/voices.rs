//! Metrics of a bundle's voice encoder on held-out speakers.

use std::path::Path;

use anyhow::Context;

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::preprocess::LogMel;
use crate::train::calibrate::Judged;
use crate::train::conditions;
use crate::train::data::Part;
use crate::train::data::voices::{self, Corpus, HeldOut, LabelledClip};
use crate::train::evidence::Evidence;
use crate::train::samples::{live_windows, milliseconds, windows};

use super::{Figure, Opened, entry, figure_of};

/// Predictions for each clip of a corpus's report speakers (mean logits of the windows), and the
/// embeddings of the daemon's windows. A corpus without some of the classes is evaluated on the
/// wire's labels.
pub(super) fn measure_voice(
    opened: &mut Opened,
    material: &Path,
    corpus: Corpus,
) -> anyhow::Result<(Figure, Evidence)> {
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
    let mut evidence = Evidence::new(entry.dim);
    let mut logits = Vec::new();
    for clip in clips {
        let pieces = windows(clip, length, milliseconds(500));
        let mut sum = vec![0.0; entry.classes.len()];
        for piece in &pieces {
            let (input, frames) = mel.compute(piece);
            let [_, row] = Opened::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            sum.iter_mut()
                .zip(row.values)
                .for_each(|(s, v)| *s += v / pieces.len() as f32);
        }
        let label = wire(clip.emotion);
        for piece in live_windows(
            clip,
            length,
            milliseconds(window.hop_ms),
            milliseconds(settings.min_speech_ms),
        ) {
            let (input, frames) = mel.compute(piece);
            let [embedding, _] =
                Opened::encode(&mut opened.voice, &[1, settings.mels, frames], &input)?;
            evidence.push(label, embedding.values);
        }
        logits.extend(sum);
    }
    let judged = judged_clips(corpus, logits, clips);
    let by_speaker: Vec<(bool, bool)> = (judged.answers().zip(clips))
        .map(|((truth, answer, _), clip)| (clip.is_woman(), truth == answer))
        .collect();
    let (what, names): (_, &[&str]) = match corpus {
        Corpus::Ravdess => ("voice encoder: RAVDESS actors 18-21, clips", &RAVDESS),
        Corpus::Nemo => ("voice encoder: nEMO speakers IC0 and KS0, clips", &LABELS),
    };
    Ok((
        Figure {
            conditions: conditions::voices(corpus, &by_speaker),
            ..figure_of(what, &judged, names)
        },
        evidence,
    ))
}

/// Clip logits over RAVDESS's classes, or over the wire's labels for a corpus without some of them.
pub fn judged_clips(corpus: Corpus, logits: Vec<f32>, clips: &[LabelledClip]) -> Judged {
    let emotions = clips.iter().map(|clip| clip.emotion);
    match corpus {
        Corpus::Ravdess => Judged::new(RAVDESS.len(), logits, emotions.collect()),
        Corpus::Nemo => {
            let rows = logits.chunks(RAVDESS.len()).flat_map(on_the_wire);
            Judged::new(LABELS.len(), rows.collect(), emotions.map(wire).collect())
        }
    }
}

/// RAVDESS's emotion as the wire has it.
fn wire(emotion: usize) -> usize {
    label_index(RAVDESS[emotion]).expect("every emotion of RAVDESS is on the wire")
}

/// Logits of the wire's labels: the log-sum-exp over the RAVDESS classes of each.
pub fn on_the_wire(row: &[f32]) -> [f32; LABELS.len()] {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut odds = [0.0f32; LABELS.len()];
    for (emotion, logit) in row.iter().enumerate() {
        odds[wire(emotion)] += (logit - highest).exp();
    }
    odds.map(|odds| odds.max(f32::MIN_POSITIVE).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_and_neutral_are_one_label_on_the_wire() {
        let odds = [1.0f32, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0];
        let row = on_the_wire(&odds.map(f32::ln)).map(f32::exp);
        for (found, expected) in row.iter().zip([3.0, 4.0, 1.0, 1.0, 1.0, 1.0, 8.0]) {
            assert!((found * 8.0 - expected).abs() < 1e-5, "{row:?}");
        }
    }
}
