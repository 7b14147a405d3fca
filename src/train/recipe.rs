//! Recipes: TOML files with the settings of a training. They are checked, and nearly all keys are
//! required.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::manifest::{AudioPreprocessing, FacePreprocessing, WindowRule};
use crate::modality::Modality;
use crate::train::data::ravdess;
use crate::train::data::speech_clip::Corpus;
use crate::train::net::EncoderShape;
use crate::train::refused::Refused;
use crate::train::schedule::RateSchedule;

/// The kind of a recipe, which determines the commands that take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeKind {
    /// Settings of the default bundle's encoders and head: [`Recipe`]. The file has no key `kind`.
    Bundle,
    /// Settings of `pretrain` (`kind = "pretrain"`).
    Pretrain,
    /// Settings of `finetune` over stores (`kind = "finetune"`).
    Finetune,
}

impl RecipeKind {
    /// The commands that take a recipe of this kind, for error messages.
    fn commands(self) -> &'static str {
        match self {
            RecipeKind::Bundle => "finetune without --store and export without --run",
            RecipeKind::Pretrain => "pretrain",
            RecipeKind::Finetune => "finetune with --store",
        }
    }

    /// Reads the kind of the recipe at `path`; `None` if the file has neither the key `kind` nor
    /// `bundle`.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has an unknown kind.
    pub fn read(path: &Path) -> anyhow::Result<Option<RecipeKind>> {
        Ok(open(path)?.1)
    }
}

/// Reads the text and the kind of a recipe; the kind is `None` if the file has neither the key
/// `kind` nor `bundle`.
fn open(path: &Path) -> anyhow::Result<(String, Option<RecipeKind>)> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("recipe {} cannot be read", path.display()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| not_valid(path, &error))?;
    let kind = match table.get("kind").and_then(toml::Value::as_str) {
        Some("pretrain") => Some(RecipeKind::Pretrain),
        Some("finetune") => Some(RecipeKind::Finetune),
        Some(other) => bail!(Refused(format!(
            "recipe {}: kind is {other}, permitted are pretrain and finetune",
            path.display()
        ))),
        None => table.contains_key("bundle").then_some(RecipeKind::Bundle),
    };
    Ok((text, kind))
}

/// The error for a recipe that cannot be parsed.
fn not_valid(path: &Path, error: &toml::de::Error) -> Refused {
    Refused(format!(
        "recipe {} is not valid\n{}",
        path.display(),
        error.to_string().trim_end()
    ))
}

/// Parses a recipe, which must be of the kind `wanted`. The values are not checked; see [`check`].
pub fn parse<T: DeserializeOwned>(path: &Path, wanted: RecipeKind) -> anyhow::Result<T> {
    let (text, found) = open(path)?;
    if let Some(found) = found.filter(|found| *found != wanted) {
        bail!(Refused(format!(
            "recipe {} is for {}; here one for {} is needed",
            path.display(),
            found.commands(),
            wanted.commands()
        )));
    }
    Ok(toml::from_str(&text).map_err(|error| not_valid(path, &error))?)
}

/// Returns an error if a recipe has `faults`.
///
/// # Errors
/// [`Refused`], with all faults.
pub fn check(path: &Path, faults: &[String]) -> anyhow::Result<()> {
    ensure!(
        faults.is_empty(),
        Refused(format!("recipe {}: {}", path.display(), faults.join("; ")))
    );
    Ok(())
}

/// Faults of the recipe keys of AdamW, one sentence each; `table` is the prefix of these keys, with
/// a dot.
fn optimizer_faults(table: &str, learning_rate: f64, weight_decay: f32) -> Vec<String> {
    let mut faults = Vec::new();
    if !(learning_rate > 0.0 && learning_rate.is_finite()) {
        faults.push(format!(
            "{table}learning_rate is {learning_rate}, permitted are numbers above 0"
        ));
    }
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        faults.push(format!(
            "{table}weight_decay is {weight_decay}, permitted are numbers from 0"
        ));
    }
    faults
}

/// Faults of the keys that recipes of the kinds `pretrain` and `finetune` have in common (schedule,
/// optimiser, modalities), one sentence each.
pub fn store_training_faults(
    schedule: &RateSchedule,
    learning_rate: f64,
    weight_decay: f32,
    modalities: &[Modality],
) -> Vec<String> {
    [
        schedule.faults(),
        optimizer_faults("", learning_rate, weight_decay),
        modality_faults(modalities),
    ]
    .concat()
}

/// Faults of the key `modalities`, one sentence each.
fn modality_faults(modalities: &[Modality]) -> Vec<String> {
    let mut faults = Vec::new();
    if modalities.is_empty() {
        faults.push("modalities names none, permitted are one to three".to_owned());
    }
    for modality in Modality::ALL
        .into_iter()
        .filter(|one| modalities.iter().filter(|other| *other == one).count() > 1)
    {
        faults.push(format!(
            "modalities names {} twice, permitted is each once",
            modality.name()
        ));
    }
    faults
}

/// A recipe of the default bundle (`config/train/*.toml`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The bundle's name.
    pub name: String,
    /// Seed of all random generators of the training.
    pub seed: u64,
    /// Folder of the data sets; the environment variable `EXPRESSD_MATERIAL` takes precedence.
    pub material: PathBuf,
    /// Folder of the runs with their checkpoints, outside of version control.
    pub runs: PathBuf,
    /// Folder that `export` writes the bundle to.
    pub bundle: PathBuf,
    /// Length and hop of the bundle's windows.
    pub window: WindowRule,
    /// Settings of the face encoder.
    pub face: FaceRecipe,
    /// Settings of the voice encoder.
    pub voice: VoiceRecipe,
    /// Settings of the text modality.
    pub words: TextRecipe,
    /// Settings of the fusion head.
    pub head: HeadRecipe,
}

/// Settings of the text modality, which has a frozen sentence encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// Folder with the sentence encoder's weights and tokenizer, which set-up fetches (`import
    /// sentence --dir`).
    pub encoder: PathBuf,
    /// Share of GoEmotions' comments, 0 to below 1, among the head's training texts of each label;
    /// the other texts are MELD's.
    pub goemotions: f64,
}

/// Settings of the face encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaceRecipe {
    /// Preprocessing of face crops; it becomes the bundle's.
    pub preprocessing: FacePreprocessing,
    /// Sizes of the network.
    pub shape: EncoderShape,
    /// Path of the table of annotators' votes, relative to `material`
    /// ([`crate::train::data::votes`]). `None`: the targets are FER2013's own labels.
    pub votes: Option<PathBuf>,
    /// Parameter of the beta distribution of mixup, which mixes pairs of pictures; 0: no mixing.
    pub mixup: f64,
    /// Probability, 0..1, of a camera variation of a training picture: light, blur, noise,
    /// occlusion or half-profile. Flip, shift, rotation and scale apply to all pictures. `None`: 1.
    #[serde(default)]
    pub camera_variation: Option<f64>,
    /// Settings of the first training.
    pub fit: FitSettings,
    /// Smaller pictures in the first epochs of the first training; `None`: full size.
    pub early: Option<EarlyEpochs>,
    /// Rounds of distillation after the first training, in order.
    #[serde(default)]
    pub distillation: Vec<DistillationRound>,
}

/// A round of distillation: the face encoder is trained again, with predictions of earlier
/// generations mixed into the targets (Furlanello et al. 2018, born-again networks). A generation
/// is the network after one round.
///
/// The teacher is the mean over the last generation of each network shape; its predictions correct
/// part of FER2013's noisy labels. Training starts with the weights of the last generation of the
/// same shape, or with random weights if there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationRound {
    /// Weight of the teacher's predictions in a target, 0..1; the remaining weight is that of the
    /// votes.
    pub teacher_weight: f32,
    /// Shape of a network that only serves as a teacher of the next round, such as a larger one
    /// (Hinton et al. 2015). `None`: [`FaceRecipe::shape`]; the last round must have none.
    pub shape: Option<EncoderShape>,
    /// As [`FaceRecipe::camera_variation`], for this round; `None`: that of the first training.
    #[serde(default)]
    pub camera_variation: Option<f64>,
    /// Smaller pictures in the first epochs of this round; `None`: full size.
    pub early: Option<EarlyEpochs>,
    /// Settings of this round's training.
    pub fit: FitSettings,
}

/// Smaller pictures in the first epochs of a training. These epochs make most of the progress at a
/// lower cost (progressive learning, Tan and Le 2021).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyEpochs {
    /// Number of epochs with smaller pictures.
    pub epochs: usize,
    /// Width and height of the smaller pictures, in pixels.
    pub size: usize,
}

/// Settings of the voice encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceRecipe {
    /// Preprocessing of sound; it becomes the bundle's.
    pub preprocessing: AudioPreprocessing,
    /// Sizes of the network.
    pub shape: EncoderShape,
    /// Settings of the training.
    pub fit: FitSettings,
    /// Number of windows drawn from each clip in one epoch.
    pub windows_per_clip: usize,
    /// Length of the shortest training window in milliseconds; the longest is the bundle's window.
    pub min_window_ms: u32,
    /// Parameter of the beta distribution of mixup, which mixes pairs of windows; 0: no mixing.
    pub mixup: f64,
    /// Numbers of the RAVDESS actors whose clips are used for calibration. The calibration encoder
    /// is not trained on them. The final encoder is trained on all actors except the test actors.
    pub calibration_actors: Vec<u32>,
    /// A corpus that the calibration encoder is not trained on, with another language, rooms and
    /// acting. `None`: only the calibration actors are held out.
    pub calibration_corpus: Option<Corpus>,
}

/// Settings of the fusion head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRecipe {
    /// Number of hidden units of the head.
    pub hidden: usize,
    /// Number of augmented views of each picture and clip that are embedded.
    pub views: usize,
    /// Share of the training rows, 0..1, with a single modality; the other rows are spread over all
    /// seven subsets of modalities. Beside a face and a voice, text explains little more, so the
    /// head learns text mostly from rows with text alone.
    pub alone: f64,
    /// Share, 0..1, of the training rows with face and voice in which both are of one person at one
    /// moment, if such recordings exist. In the other rows, face and voice of one label are joined
    /// at random.
    pub same_person: f64,
    /// Settings of the training.
    pub fit: FitSettings,
}

/// Settings of a training by AdamW, whose learning rate has a linear warm-up and then a cosine to
/// zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSettings {
    /// Number of passes over the training data.
    pub epochs: usize,
    /// Number of items per step.
    pub batch: usize,
    /// Highest learning rate, after the warm-up.
    pub learning_rate: f64,
    /// Length of the linear warm-up, in epochs.
    pub warmup_epochs: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f32,
    /// Share of a target's probability, 0..1, that is distributed uniformly over all labels.
    pub label_smoothing: f32,
    /// Share of the exponential moving average of the weights that one step keeps, such as 0.999.
    /// The averaged weights are then the ones that are evaluated and kept. `None`: no average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// The epoch whose weights are the result.
    pub keep: Keep,
}

impl FitSettings {
    /// Every invalid setting, one sentence each; `table` is the prefix of the keys, with a dot.
    fn faults(&self, table: &str) -> Vec<String> {
        let mut faults = optimizer_faults(table, self.learning_rate, self.weight_decay);
        if self.epochs == 0 || self.batch == 0 {
            faults.push(format!(
                "{table}epochs is {} and {table}batch {}, permitted are numbers from 1",
                self.epochs, self.batch
            ));
        }
        if let Some(average) = self.average.filter(|share| !(0.0..1.0).contains(share)) {
            faults.push(format!(
                "{table}average is {average}, permitted are 0 to below 1"
            ));
        }
        faults
    }
}

/// The epoch whose weights are the result of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The epoch with the best metric on the selection data.
    Best,
    /// The last epoch. With little selection data, chance would determine the best epoch.
    Last,
}

impl Recipe {
    /// Reads and checks the recipe of a bundle at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is a recipe of another kind, or has invalid settings.
    pub fn read(path: &Path) -> anyhow::Result<Recipe> {
        let mut recipe: Recipe = parse(path, RecipeKind::Bundle)?;
        if let Some(material) = std::env::var_os("EXPRESSD_MATERIAL") {
            recipe.material = material.into();
        }
        check(path, &recipe.faults())?;
        Ok(recipe)
    }

    /// Every invalid setting, one sentence each.
    fn faults(&self) -> Vec<String> {
        let rounds = self
            .face
            .distillation
            .iter()
            .map(|round| ("face.distillation.fit.", &round.fit));
        let all = [
            ("face.fit.", &self.face.fit),
            ("voice.fit.", &self.voice.fit),
            ("head.fit.", &self.head.fit),
        ]
        .into_iter()
        .chain(rounds);
        let mut faults: Vec<String> = all.flat_map(|(table, fit)| fit.faults(table)).collect();
        let mut fault = |wrong: bool, text: &str| faults.extend(wrong.then(|| text.to_owned()));
        for round in &self.face.distillation {
            fault(
                !(0.0..=1.0).contains(&round.teacher_weight),
                &format!(
                    "face.distillation.teacher_weight is {}, permitted are 0 to 1",
                    round.teacher_weight
                ),
            );
        }
        let first = ("face", self.face.camera_variation);
        let rounds = self.face.distillation.iter();
        let rounds = rounds.map(|round| ("face.distillation", round.camera_variation));
        for (table, probability) in std::iter::once(first).chain(rounds) {
            let probability = probability.unwrap_or(1.0);
            fault(
                !(0.0..=1.0).contains(&probability),
                &format!("{table}.camera_variation is {probability}, permitted are 0 to 1"),
            );
        }
        let is_unused_teacher = self
            .face
            .distillation
            .last()
            .is_some_and(|last| last.shape.is_some());
        fault(
            is_unused_teacher,
            "the last face.distillation has a shape of its own, and the bundle takes face.shape: \
             add a generation that learns from it",
        );
        fault(
            !(0.0..1.0).contains(&self.words.goemotions),
            &format!(
                "words.goemotions is {}, permitted are 0 to below 1",
                self.words.goemotions
            ),
        );
        fault(
            !(0.0..=1.0).contains(&self.head.same_person),
            &format!(
                "head.same_person is {}, permitted are 0 to 1",
                self.head.same_person
            ),
        );
        fault(
            !(0.0..=1.0).contains(&self.head.alone),
            &format!("head.alone is {}, permitted are 0 to 1", self.head.alone),
        );
        let select = &self.voice.calibration_actors;
        let in_range = select.iter().all(|actor| {
            !ravdess::REPORT_ACTORS.contains(actor) && ravdess::ACTORS.contains(actor)
        });
        fault(
            select.is_empty() || !in_range,
            "voice.calibration_actors takes actors of RAVDESS, 1 to 24, other than 18 to 21, who \
             report",
        );
        let mixups = [("face", self.face.mixup), ("voice", self.voice.mixup)];
        for (table, mixup) in mixups {
            fault(
                !(mixup >= 0.0 && mixup.is_finite()),
                &format!("{table}.mixup is {mixup}, permitted are numbers from 0"),
            );
        }
        fault(
            self.face.preprocessing.channels != 1,
            "the face encoder takes one plane: set face.preprocessing.channels to 1",
        );
        faults
    }

    /// Path of the archive of FER2013's pictures.
    pub fn fer_archive(&self) -> PathBuf {
        self.material
            .join("faces/fer2013_training_publictest.tar.xz")
    }
    /// Path of the table of annotators' votes, if the recipe names one.
    pub fn face_votes(&self) -> Option<PathBuf> {
        Some(self.material.join(self.face.votes.as_ref()?))
    }
    /// Folder of MELD's annotations.
    pub fn meld_folder(&self) -> PathBuf {
        self.material.join("annotations/meld")
    }
    /// Folder of GoEmotions.
    pub fn goemotions_folder(&self) -> PathBuf {
        self.material.join("text/goemotions")
    }
    /// Folder of RAVDESS's speech clips.
    pub fn ravdess_folder(&self) -> PathBuf {
        self.material.join(Corpus::Ravdess.folder())
    }
}

#[cfg(test)]
mod tests;
