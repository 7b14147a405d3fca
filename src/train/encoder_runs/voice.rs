//! The voice encoders: the final one, and those with held-out speakers or corpora.

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

/// A voice encoder of a recipe, by its training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceRun {
    /// Trained without the calibration actors and the calibration corpus.
    Calibration,
    /// Trained on the calibration corpus alone; used only to report metrics on the other corpora.
    OtherCorpus,
    /// The bundle's encoder: trained on all speakers except the report speakers.
    Final,
}

impl VoiceRun {
    /// The encoders that the recipe trains, in order.
    pub fn all(recipe: &Recipe) -> Vec<VoiceRun> {
        let mut runs = vec![VoiceRun::Calibration, VoiceRun::Final];
        if recipe.voice.calibration_corpus.is_some() {
            runs.push(VoiceRun::OtherCorpus);
        }
        runs
    }

    /// The run name of this encoder.
    pub fn part(self) -> &'static str {
        match self {
            VoiceRun::Calibration => "voice-calibration",
            VoiceRun::OtherCorpus => "voice-other-corpus",
            VoiceRun::Final => "voice",
        }
    }

    /// The selection speakers of a corpus, who are not in this encoder's training data.
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

    /// The clips of one part of all corpora, one corpus after another.
    pub fn clips(self, recipe: &Recipe, part: Part) -> anyhow::Result<Vec<LabelledClip>> {
        let mut clips = Vec::new();
        for corpus in Corpus::ALL {
            let held_out = self.held_out(recipe, corpus);
            clips.extend(read(&recipe.material, corpus, part, held_out)?);
        }
        Ok(clips)
    }
}

/// Loads a voice encoder of this recipe, which must be finished.
pub fn load_voice(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<Encoder> {
    voice_run(recipe, which)?.load(Encoder::new(&recipe.voice.shape, RAVDESS.len(), &device()))
}

/// Settings of the run of a voice encoder.
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

/// Mean logits of each clip over its windows within speech. Windows have the bundle's length, one
/// every 0.5 s.
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
