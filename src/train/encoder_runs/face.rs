//! The training runs of the face encoder: settings, names of the runs, trained weights.
//!
//! Round 0 is the first training. Each later round is a distillation round, whose teacher is the
//! encoder of the round before.

use crate::labels::LABELS;
use crate::train::fit::{TrainingRun, device, tensor, values};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;

use super::{run_folder, weights_sha256};

/// The training run of the face encoder in round `number` (0: the first training, then the
/// distillation rounds). `part`: the name of the run ([`generation`]).
///
/// A distillation round is bound to its teacher: its settings include the hash of the weights of
/// the round before.
///
/// # Errors
/// The weights of the round before cannot be read.
pub fn face_run<'a>(
    recipe: &'a Recipe,
    number: usize,
    part: &'a str,
) -> anyhow::Result<TrainingRun<'a>> {
    let face = &recipe.face;
    let rules = serde_json::to_string(&(
        &face.shape,
        &face.preprocessing.normalise,
        &face.early,
        &face.votes,
        face.mixup,
    ))?;
    // Runs from before this key existed trained with a probability of 1. Their settings lack it.
    let variation = |probability: Option<f64>| {
        probability.map_or(String::new(), |p| format!(" camera_variation {p}"))
    };
    let (settings, text) = match number.checked_sub(1) {
        None => (&face.fit, rules + &variation(face.camera_variation)),
        Some(before) => {
            let round = &face.distillation[before];
            let own = round
                .shape
                .as_ref()
                .map(serde_json::to_string)
                .transpose()?
                .map_or(String::new(), |shape| format!(" {shape}"));
            let weights = weights_sha256(&run_folder(recipe, &generation(before)))?;
            (
                &round.fit,
                format!(
                    "{rules} {}{own}{} after {weights}",
                    serde_json::to_string(&(round.teacher_weight, round.early))?,
                    variation(round.camera_variation.or(face.camera_variation)),
                ),
            )
        }
    };
    let seed = recipe.seed.wrapping_add(number as u64);
    Ok(TrainingRun {
        name: part,
        folder: run_folder(recipe, part),
        settings,
        recipe: text,
        seed,
        stop_after: None,
    })
}

/// Loads the face encoder of the bundle, which is the one of the recipe's last round.
///
/// # Errors
/// The run of this round is missing, not finished, or has other settings.
pub fn load_face(recipe: &Recipe) -> anyhow::Result<Encoder> {
    let number = recipe.face.distillation.len();
    let shape = recipe
        .face
        .distillation
        .last()
        .and_then(|round| round.shape.as_ref())
        .unwrap_or(&recipe.face.shape);
    face_run(recipe, number, &generation(number))?.load(Encoder::new(
        shape,
        LABELS.len(),
        &device(),
    ))
}

/// The name of the run of the bundle's face encoder, which is the one of the last round.
pub fn face_part(recipe: &Recipe) -> String {
    face_parts(recipe).pop().expect("there is a first one")
}

/// The names of the runs of the face encoder, one per round, in order.
pub fn face_parts(recipe: &Recipe) -> Vec<String> {
    (0..=recipe.face.distillation.len())
        .map(generation)
        .collect()
}

/// The name of the run of the face encoder in round `number` (0: the first training).
pub fn generation(number: usize) -> String {
    match number {
        0 => "face".into(),
        1 => "face-again".into(),
        _ => format!("face-again-{number}"),
    }
}

/// Embeddings `[inputs, dim]` and logits `[inputs, labels]` of face crops, row by row. `inputs`:
/// preprocessed grey crops of `size` x `size` pixels.
///
/// # Errors
/// The device fails.
pub fn encode_faces(
    net: &Encoder,
    inputs: &[Vec<f32>],
    size: usize,
) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let (mut embeddings, mut logits) = (Vec::new(), Vec::new());
    for batch in inputs.chunks(128) {
        let (e, l) = net.forward(tensor(
            batch.concat(),
            [batch.len(), 1, size, size],
            &device(),
        ));
        embeddings.extend(values(e)?);
        logits.extend(values(l)?);
    }
    Ok((embeddings, logits))
}
