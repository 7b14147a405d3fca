//! A training run's settings: one TOML file, checked, without defaults.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::model::manifest::{AudioPreprocessing, FacePreprocessing, WindowRule};
use crate::train::data::ravdess;
use crate::train::net::EncoderShape;

/// `config/train/*.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The bundle's name.
    pub name: String,
    pub seed: u64,
    /// Where FER2013, RAVDESS and MELD's tables lie, as their manifest describes; `$EXPRESSD_MATERIAL` goes first.
    pub material: PathBuf,
    /// Checkpoints, outside of version control.
    pub runs: PathBuf,
    /// Where `export` writes.
    pub bundle: PathBuf,
    pub window: WindowRule,
    pub face: FaceRecipe,
    pub voice: VoiceRecipe,
    pub words: WordsRecipe,
    pub head: HeadRecipe,
}

/// Words: a frozen sentence encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordsRecipe {
    /// The folder with its weights and tokenizer, as set-up fetches it (`import sentence --dir`).
    pub encoder: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaceRecipe {
    pub preprocessing: FacePreprocessing,
    pub shape: EncoderShape,
    pub fit: FitSettings,
    /// Smaller pictures to begin with.
    pub early: Option<EarlyEpochs>,
    /// Generations that follow, each of which goes on from the one before.
    #[serde(default)]
    pub again: Vec<Again>,
}

/// Another generation: it begins with the weights of the one before, whose judgement of each picture stands beside the picture's
/// label (Furlanello et al. 2018, born-again networks). Of labels as noisy as FER2013's a part is then overruled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// How much of a target is the judgement of the generation before, 0 to 1; the rest is the label.
    pub judged: f32,
    pub early: Option<EarlyEpochs>,
    pub fit: FitSettings,
}

/// The first epochs see smaller pictures: most is learnt from those at a part of the work (Tan and Le 2021, progressive learning).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyEpochs {
    pub epochs: usize,
    /// Side in pixels.
    pub size: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceRecipe {
    pub preprocessing: AudioPreprocessing,
    pub shape: EncoderShape,
    pub fit: FitSettings,
    /// Windows drawn from each clip in one epoch.
    pub windows_per_clip: usize,
    /// The shortest window drawn; the longest is the bundle's.
    pub min_window_ms: u32,
    /// Beta distribution's parameter for mixing pairs of windows; 0: no mixing.
    pub mixup: f64,
    /// How far a voice is to be trusted is found with a second encoder that has never met these actors. The bundle's own has met all
    /// but those who report: so every voice teaches, and none vouches for what it taught.
    pub calibration_actors: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRecipe {
    pub hidden: usize,
    /// Augmented views of each picture and clip that embeddings are taken of.
    pub views: usize,
    /// Share of the training rows that show one modality alone; the others are spread over all seven subsets. Beside a face and a voice
    /// words have little left to explain, so they learn where they are alone.
    pub alone: f64,
    pub fit: FitSettings,
}

/// AdamW with warm-up and a cosine to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSettings {
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub warmup_epochs: f64,
    pub weight_decay: f32,
    pub label_smoothing: f32,
    pub keep: Keep,
}

/// Which epoch's weights a run gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those that do best on the selection data.
    Best,
    /// The last: where the selection data is so little that the best of many epochs is the luckiest.
    Last,
}

impl Recipe {
    pub fn read(path: &Path) -> anyhow::Result<Recipe> {
        let text = std::fs::read_to_string(path).with_context(|| format!("recipe {} cannot be read", path.display()))?;
        let mut recipe: Recipe = toml::from_str(&text).with_context(|| format!("recipe {} is not valid", path.display()))?;
        if let Some(material) = std::env::var_os("EXPRESSD_MATERIAL") {
            recipe.material = material.into();
        }
        for (name, fit) in [("face", &recipe.face.fit), ("voice", &recipe.voice.fit), ("head", &recipe.head.fit)] {
            ensure!(fit.epochs > 0 && fit.batch > 0 && fit.learning_rate > 0.0, "[{name}.fit] needs positive epochs, batch and learning_rate");
        }
        for again in &recipe.face.again {
            ensure!(
                again.fit.epochs > 0 && again.fit.batch > 0 && again.fit.learning_rate > 0.0,
                "[face.again.fit] needs positive epochs, batch and learning_rate"
            );
            ensure!((0.0..=1.0).contains(&again.judged), "face.again.judged takes 0 to 1");
        }
        ensure!((0.0..=1.0).contains(&recipe.head.alone), "head.alone takes 0 to 1");
        let select = &recipe.voice.calibration_actors;
        let in_range = select.iter().all(|actor| !ravdess::REPORT_ACTORS.contains(actor) && ravdess::ACTORS.contains(actor));
        ensure!(!select.is_empty() && in_range, "voice.calibration_actors takes actors of RAVDESS, 1 to 24, other than 18 to 21, who report");
        ensure!(recipe.face.preprocessing.channels == 1, "the face encoder takes one plane: set face.preprocessing.channels to 1");
        Ok(recipe)
    }

    pub fn fer_archive(&self) -> PathBuf {
        self.material.join("faces/fer2013_training_publictest.tar.xz")
    }
    pub fn meld_folder(&self) -> PathBuf {
        self.material.join("annotations/meld")
    }
    pub fn ravdess_folder(&self) -> PathBuf {
        self.material.join("speech/ravdess")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_recipe_is_valid_and_misspelt_keys_are_refused() {
        let path = crate::testing::project("config/train/default.toml");
        let recipe = Recipe::read(&path).unwrap();
        assert_eq!(recipe.name, "default");
        let folder = tempfile::tempdir().unwrap();
        let misspelt = folder.path().join("recipe.toml");
        std::fs::write(&misspelt, std::fs::read_to_string(&path).unwrap().replace("seed =", "sead =")).unwrap();
        assert!(format!("{:#}", Recipe::read(&misspelt).unwrap_err()).contains("sead"));
    }
}
