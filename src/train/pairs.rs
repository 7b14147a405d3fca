//! Recordings of the face and voice of one person, cut into windows by the daemon's own stages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::clip::{Clip, Crop};
use crate::config::Config;
use crate::encode::{EncodeError, Runtime};
use crate::labels::{RAVDESS, label_index};
use crate::preprocess::{LogMel, normalise};
use crate::train::data::Media;
use crate::train::data::ravdess::Take;
use crate::train::embeddings::EmbeddingPair;
use crate::train::encoder_runs::encode_faces;
use crate::train::encoders::EncoderSetFiles;
use crate::train::extract::{ClipSink, Playback, PlaybackStats};
use crate::train::fit::{device, tensor, values};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;

/// A recording of one person's face and voice, cut into windows.
#[derive(Clone, Debug)]
pub struct PairedClip {
    /// Index of the label in [`LABELS`](crate::labels::LABELS).
    pub label: usize,
    /// The actor's number in RAVDESS; `None`: a person in no encoder's training data.
    pub actor: Option<u32>,
    /// The windows with both a face and a voice, in the order of time.
    pub hops: Vec<PairedHop>,
}

/// A window with both a face and a voice.
#[derive(Clone, Debug)]
pub struct PairedHop {
    /// The faces of the window: number of the face within the recording, crop, and weight in the
    /// mean embedding of the window. Weights are not normalised.
    pub faces: Vec<(u64, Arc<Crop>, f32)>,
    /// The sound of the window: mono samples at 16 kHz.
    pub samples: Arc<[f32]>,
}

/// The labelled recordings below the folder `material`: path, index of the label in `LABELS`, and
/// number of the RAVDESS actor (`None`: another person). They are RAVDESS's actor 01, MEAD's clips
/// with sound, and two recorded speakers.
fn recordings(material: &Path) -> anyhow::Result<Vec<(PathBuf, usize, Option<u32>)>> {
    let mut found = Vec::new();
    for folder in ["av/ravdess_actor01", "av/mead", "av/talking"] {
        let folder = material.join(folder);
        let files = std::fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        for file in files {
            let path = file?.path();
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
            if let Some((label, actor)) = parse(stem) {
                found.push((path, label, actor));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Index of the label in `LABELS` and RAVDESS actor, from a file's name without extension, such as
/// `01-01-05-…-01`, `M030_level_3_angry_016` or `labelled_happy`. `None`: the file is not labelled.
fn parse(stem: &str) -> Option<(usize, Option<u32>)> {
    if let Some((1, take)) = Take::parse(stem) {
        return Some((
            label_index(RAVDESS[take.emotion as usize - 1])?,
            Some(take.actor),
        ));
    }
    let named = match stem.strip_prefix("labelled_") {
        Some(label) => label,
        None if stem.contains("_level_") => stem.split('_').nth(3)?,
        None => return None,
    };
    Some((label_index(named)?, None))
}

/// Plays the labelled recordings of the recipe's material through the daemon's stages, with the
/// recipe's windows and preprocessing.
///
/// # Errors
/// A folder of the material is missing, or a recording cannot be played.
pub fn read(recipe: &Recipe) -> anyhow::Result<Vec<PairedClip>> {
    let files = EncoderSetFiles::without_encoders(
        recipe.window,
        recipe.face.preprocessing.clone(),
        recipe.voice.preprocessing.clone(),
    );
    let mut playback = Playback::new(&Runtime::load()?, Config::default(), &files);
    let half_life_ms = recipe.window.half_life_ms;
    let mut clips = Vec::new();
    for (path, label, actor) in recordings(&recipe.material)? {
        let mut cutting = HopCollector {
            half_life_ms,
            hops: Vec::new(),
        };
        let whole = crate::train::extract::part_of(None).expect("all of it is a span");
        playback
            .play(&Media::Recording(path.clone()), &[whole], &mut cutting)
            .map_err(|refusal| anyhow::anyhow!("{}: {refusal:?}", path.display()))?;
        let hops = cutting.hops;
        clips.push(PairedClip { label, actor, hops });
    }
    let hops: usize = clips.iter().map(|clip| clip.hops.len()).sum();
    println!(
        "head: {} recordings of one person's face and voice, {hops} hops",
        clips.len()
    );
    Ok(clips)
}

/// Collects the windows of one recording that have both a face and a voice.
struct HopCollector {
    /// Age in milliseconds at which a face's weight is a half; `None`: all faces weigh the same.
    half_life_ms: Option<u32>,
    hops: Vec<PairedHop>,
}

impl ClipSink for HopCollector {
    fn begin(&mut self) -> bool {
        true
    }

    fn take(&mut self, clip: Clip) -> Result<(), EncodeError> {
        let Ok(voice) = &clip.voice else {
            return Ok(());
        };
        let weight = |age_nanos: i64| match self.half_life_ms {
            None => 1.0,
            Some(half_life) => (-age_nanos as f32 * 1e-6 / half_life as f32).exp2(),
        };
        let faces: Vec<_> = (clip.faces.iter())
            .filter_map(|face| {
                let age_nanos = clip.span.end.nanos_since(face.time);
                Some((face.id, face.crop.clone()?, weight(age_nanos)))
            })
            .collect();
        if !faces.is_empty() {
            self.hops.push(PairedHop {
                faces,
                samples: voice.samples.clone(),
            });
        }
        Ok(())
    }

    fn end(&mut self, _: PlaybackStats) -> Result<(), EncodeError> {
        Ok(())
    }
}

/// The embeddings of each window of a recording, as the daemon's head would receive them. The face
/// embedding is the weighted mean over the faces of the window.
pub fn embed(
    recipe: &Recipe,
    face: &Encoder,
    voice: &Encoder,
    clip: &PairedClip,
) -> anyhow::Result<Vec<EmbeddingPair>> {
    let settings = &recipe.face.preprocessing;
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let mut known: HashMap<u64, Vec<f32>> = HashMap::new();
    for (id, crop, _) in clip.hops.iter().flat_map(|hop| &hop.faces) {
        if !known.contains_key(id) {
            let input = normalise(crop, &settings.normalise);
            known.insert(*id, encode_faces(face, &[input], settings.size)?.0);
        }
    }
    (clip.hops.iter())
        .map(|hop| {
            let sum: f32 = hop.faces.iter().map(|(.., weight)| weight).sum();
            let mut mean = vec![0.0; recipe.face.shape.dim];
            for (id, _, weight) in &hop.faces {
                for (mean, value) in mean.iter_mut().zip(&known[id]) {
                    *mean += value * weight / sum.max(f32::MIN_POSITIVE);
                }
            }
            let (spectrogram, frames) = mel.compute(&hop.samples);
            let shape = [1, 1, recipe.voice.preprocessing.mels, frames];
            let embedding = voice.forward(tensor(spectrogram, shape, &device())).0;
            Ok(EmbeddingPair {
                label: clip.label,
                face: mean,
                voice: values(embedding)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_give_label_and_actor() {
        assert_eq!(parse("01-01-05-02-01-01-01"), Some((3, Some(1))));
        assert_eq!(parse("03-01-05-02-01-01-01"), None, "sound alone");
        assert_eq!(parse("M003_level_1_disgusted_015"), Some((5, None)));
        assert_eq!(parse("labelled_happy"), Some((1, None)));
        assert_eq!(parse("retalking4"), None);
    }

    #[test]
    fn the_material_has_26_recordings_of_actor_1_and_5_of_others() {
        let Some(material) = crate::testing::material("av/ravdess_actor01") else {
            return;
        };
        let mut recipe =
            Recipe::read(&crate::testing::project("config/train/default.toml")).unwrap();
        recipe.material = material.parent().unwrap().parent().unwrap().to_path_buf();
        let found = recordings(&recipe.material).unwrap();
        assert_eq!(
            found.iter().filter(|(.., actor)| *actor == Some(1)).count(),
            26
        );
        assert_eq!(
            found.iter().filter(|(.., actor)| actor.is_none()).count(),
            5
        );
    }
}
