//! The training runs of the voice encoders: of the final one, and of those that are trained without
//! some speakers or corpora.

use crate::labels::RAVDESS;
use crate::preprocess::LogMel;
use crate::train::data::Part;
use crate::train::data::speech_clip::{Corpus, LabelledClip};
use crate::train::data::voices::{HeldOut, read};
use crate::train::fit::{TrainingRun, device, tensor, values};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;
use crate::train::samples::{milliseconds, windows};

use super::run_folder;

/// The voice encoders that a recipe trains, which differ in their training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceRun {
    /// Trained without the calibration actors and the calibration corpus. On their clips, the
    /// confidence of voices is calibrated.
    Calibration,
    /// Trained on the calibration corpus alone; used only for metrics on the other corpora.
    OtherCorpus,
    /// The encoder of the bundle, trained on all speakers except the report speakers.
    Final,
}

impl VoiceRun {
    /// The voice encoders that `recipe` trains, in the order of their training.
    pub fn all(recipe: &Recipe) -> Vec<VoiceRun> {
        let mut runs = vec![VoiceRun::Calibration, VoiceRun::Final];
        if recipe.voice.calibration_corpus.is_some() {
            runs.push(VoiceRun::OtherCorpus);
        }
        runs
    }

    /// The name of the run of this encoder, which is also the name of its folder.
    pub fn part(self) -> &'static str {
        match self {
            VoiceRun::Calibration => "voice-calibration",
            VoiceRun::OtherCorpus => "voice-other-corpus",
            VoiceRun::Final => "voice",
        }
    }

    /// The speakers of `corpus` that this encoder is not trained on, apart from the report
    /// speakers: its selection speakers.
    pub fn held_out(self, recipe: &Recipe, corpus: Corpus) -> HeldOut<'_> {
        let voice = &recipe.voice;
        match (self, voice.calibration_corpus == Some(corpus)) {
            (VoiceRun::Final, _) | (VoiceRun::OtherCorpus, true) => HeldOut::Actors(&[]),
            (VoiceRun::Calibration, true) | (VoiceRun::OtherCorpus, false) => HeldOut::All,
            (VoiceRun::Calibration, false) if corpus == Corpus::Ravdess => {
                HeldOut::Actors(&voice.calibration_actors)
            }
            (VoiceRun::Calibration, false) => HeldOut::Actors(&[]),
        }
    }

    /// The clips of one part (training, selection or report) for this encoder, corpus by corpus in
    /// the order of [`Corpus::ALL`].
    ///
    /// # Errors
    /// A corpus is missing, or a clip cannot be decoded.
    pub fn clips(self, recipe: &Recipe, part: Part) -> anyhow::Result<Vec<LabelledClip>> {
        let mut clips = Vec::new();
        for corpus in Corpus::ALL {
            let held_out = self.held_out(recipe, corpus);
            clips.extend(read(&recipe.material, corpus, part, held_out)?);
        }
        Ok(clips)
    }
}

/// Loads the trained voice encoder `which` of a recipe.
///
/// # Errors
/// The run is missing, not finished, or has other settings.
pub fn load_voice(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<Encoder> {
    voice_run(recipe, which)?.load(Encoder::new(&recipe.voice.shape, RAVDESS.len(), &device()))
}

/// The training run of the voice encoder `which`: name, folder and settings.
///
/// # Errors
/// The settings cannot be serialised.
pub fn voice_run(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<TrainingRun<'_>> {
    let voice = &recipe.voice;
    let rules = (
        &voice.shape,
        &voice.preprocessing,
        voice.windows_per_clip,
        voice.min_window_ms,
        voice.mixup,
        Corpus::ALL.map(|corpus| which.held_out(recipe, corpus)),
        recipe.window.length_ms,
    );
    let (name, text) = (which.part(), serde_json::to_string(&rules)?);
    Ok(TrainingRun {
        name,
        folder: run_folder(recipe, name),
        settings: &voice.fit,
        recipe: text,
        seed: recipe.seed,
        stop_after: None,
    })
}

/// The logits of each clip, `[clips, classes]` row by row: the mean over its windows within speech.
/// Windows have the length of the recipe's `window.length_ms`, and start every 0.5 s.
///
/// # Errors
/// The device fails.
pub fn clip_logits(
    net: &Encoder,
    mel: &LogMel,
    clips: &[LabelledClip],
    recipe: &Recipe,
) -> anyhow::Result<Vec<f32>> {
    let mut all = Vec::new();
    for clip in clips {
        let pieces = windows(
            clip,
            milliseconds(recipe.window.length_ms),
            milliseconds(500),
        );
        let mut input = Vec::new();
        let mut frames = 0;
        for piece in &pieces {
            let (values, n) = mel.compute(piece);
            frames = n;
            input.extend(values);
        }
        let (_, logits) = net.forward(tensor(
            input,
            [pieces.len(), 1, recipe.voice.preprocessing.mels, frames],
            &device(),
        ));
        all.extend(values(logits.mean_dim(0))?);
    }
    Ok(all)
}
