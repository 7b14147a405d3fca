//! The face encoder's generations: settings, folders, weights.

use crate::labels::LABELS;
use crate::train::fit::{TrainingRun, device, tensor, values};
use crate::train::net::Encoder;
use crate::train::recipe::Recipe;

use super::{run_folder, weights_sha256};

/// Settings of the run of face-encoder generation `number` (from 0), with the run name `part`.
/// Settings of later generations include the hash of the previous weights.
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
    // Runs from before this key had it at 1.
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

/// Loads the face encoder of the bundle: the last generation of this recipe, which must be
/// finished.
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

/// The run name of the bundle's face encoder: that of the last generation.
pub fn face_part(recipe: &Recipe) -> String {
    face_parts(recipe).pop().expect("there is a first one")
}

/// The run names of all generations of the face encoder.
pub fn face_parts(recipe: &Recipe) -> Vec<String> {
    (0..=recipe.face.distillation.len())
        .map(generation)
        .collect()
}

/// The run name of face-encoder generation `number`, from 0.
pub fn generation(number: usize) -> String {
    match number {
        0 => "face".into(),
        1 => "face-again".into(),
        _ => format!("face-again-{number}"),
    }
}

/// Embeddings and logits of preprocessed faces, row by row.
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
