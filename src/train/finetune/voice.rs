//! Training of the voice encoders.

use crate::labels::RAVDESS;
use crate::preprocess::LogMel;
use crate::train::data::Part;
use crate::train::data::speech_clip::LabelledClip;
use crate::train::data::voices::HeldOut;
use crate::train::encoder_runs::{VoiceRun, clip_logits, voice_run};
use crate::train::fit::{State, device, fit};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;
use crate::train::samples::{VoiceBatches, milliseconds};

use super::accuracy;

/// Trains the voice encoder `which` of the recipe, or resumes its training. Returns the selected
/// weights and the state of the run.
///
/// # Errors
/// A corpus is missing or unreadable, the run has other settings, or training fails.
pub(super) fn train_voice(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<(Encoder, State)> {
    let train = which.clips(recipe, Part::Train)?;
    // The accuracy on these clips is only logged; it does not select a checkpoint.
    let select = match which {
        VoiceRun::Calibration => which.clips(recipe, Part::Select)?,
        VoiceRun::OtherCorpus | VoiceRun::Final => Vec::new(),
    };
    let select: Vec<LabelledClip> = (select.into_iter())
        .filter(|clip| which.held_out(recipe, clip.corpus) != HeldOut::All)
        .collect();
    let settings = &recipe.voice.preprocessing;
    let operations = Encoder::operations(
        &recipe.voice.shape,
        RAVDESS.len(),
        [
            settings.mels,
            1 + milliseconds(recipe.window.length_ms) / settings.hop,
        ],
    );
    println!(
        "{}: {} training clips, {} selection clips, {:.1} MFLOP per window",
        which.part(),
        train.len(),
        select.len(),
        operations as f64 * 1e-6
    );
    let device = device();
    device.seed(recipe.seed);
    let net = Encoder::new(&recipe.voice.shape, RAVDESS.len(), &device);
    let mel = LogMel::new(settings);
    let batches = VoiceBatches {
        clips: &train,
        recipe: &recipe.voice,
        window_ms: recipe.window.length_ms,
        classes: RAVDESS.len(),
        seed: recipe.seed,
        mel,
    };
    let labels: Vec<usize> = select.iter().map(|c| c.emotion).collect();
    fit(&voice_run(recipe, which)?, net, &device, &batches, |net| {
        if select.is_empty() {
            return Ok(None);
        }
        Ok(Some(accuracy(
            &clip_logits(net, &batches.mel, &select, recipe)?,
            RAVDESS.len(),
            &labels,
        )))
    })
}
