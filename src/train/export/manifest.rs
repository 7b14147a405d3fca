//! The manifest of the bundle that `export` makes from the runs of a recipe.

use std::path::Path;

use super::Graphs;
use crate::labels::{LABELS, RAVDESS};
use crate::manifest::{EncoderEntry, EncoderKind, HeadEntry, Manifest, SCHEMA, Task, hex_sha256};
use crate::modality::Modality;
use crate::onnx::sentence::SentenceFiles;
use crate::train::data::{Part, nemo, ravdess};
use crate::train::fusion::Calibration;
use crate::train::recipe::Recipe;

/// The RAVDESS actors that the voice encoder was trained on, as text: all actors with a folder in
/// `ravdess` except the report actors. Example: "actors 1-17, 22-24".
pub(super) fn training_actors(ravdess: &Path) -> String {
    let is_here = |actor: &u32| ravdess.join(format!("Actor_{actor:02}")).is_dir();
    let actors: Vec<u32> = ravdess::ACTORS
        .filter(|actor| is_here(actor) && ravdess::part_of(*actor, &[]) == Part::Train)
        .collect();
    let runs: Vec<&[u32]> = actors.chunk_by(|a, b| a + 1 == *b).collect();
    let name = |run: &[u32]| {
        if run.len() == 1 {
            run[0].to_string()
        } else {
            format!("{}-{}", run[0], run[run.len() - 1])
        }
    };
    format!(
        "actors {}",
        runs.into_iter().map(name).collect::<Vec<_>>().join(", ")
    )
}

/// The manifest of a bundle with the given graphs, with its fingerprint.
pub(super) fn manifest(
    recipe: &Recipe,
    graphs: &Graphs,
    sentence: &SentenceFiles,
    calibration: &Calibration,
) -> Manifest {
    let size = recipe.face.preprocessing.size;
    let encoder = |modality: Modality,
                   kind,
                   bytes: &[u8],
                   input,
                   dim,
                   classes: &[&str],
                   source: &str,
                   licence: &str| EncoderEntry {
        name: modality.name().into(),
        modality,
        kind,
        file: format!("{}.onnx", modality.name()),
        sha256: hex_sha256(bytes),
        int8: None,
        input,
        dim,
        classes: classes.iter().map(|c| c.to_string()).collect(),
        rate_hz: None,
        normalise: None,
        frozen: false,
        source: source.into(),
        licence: licence.into(),
    };
    let (face_dim, voice_dim) = (recipe.face.shape.dim, recipe.voice.shape.dim);
    let encoders = vec![
        encoder(
            Modality::Face,
            EncoderKind::Frame,
            &graphs.face,
            vec![1, size, size],
            face_dim,
            &LABELS,
            "trained here on FER2013 and FER+",
            "research only (FER2013); MIT (FER+'s votes)",
        ),
        encoder(
            Modality::Voice,
            EncoderKind::Window,
            &graphs.voice,
            vec![1, recipe.voice.preprocessing.mels, 0],
            voice_dim,
            &RAVDESS,
            &format!(
                "trained here on RAVDESS speech, {}, and nEMO but for {}",
                training_actors(&recipe.ravdess_folder()),
                nemo::REPORT_SPEAKERS.join(" and ")
            ),
            "CC BY-NC-SA 4.0 (RAVDESS, nEMO)",
        ),
        EncoderEntry {
            name: "text".into(),
            ..sentence.entry.clone()
        },
    ];
    let head = HeadEntry {
        file: "head.onnx".into(),
        sha256: hex_sha256(&graphs.head),
        inputs: Modality::ALL.map(|m| m.name().to_owned()).to_vec(),
        temperature: calibration.temperature.clone(),
        abstain_threshold: calibration.abstain_threshold,
        ..HeadEntry::default()
    };
    let mut manifest = Manifest {
        schema: SCHEMA,
        name: recipe.name.clone(),
        task: Task::Single,
        labels: LABELS.iter().map(|l| l.to_string()).collect(),
        fingerprint: String::new(),
        window: recipe.window,
        face: Some(recipe.face.preprocessing.clone()),
        audio: Some(recipe.voice.preprocessing.clone()),
        text: Some(sentence.text.clone()),
        encoders,
        head,
        further: Vec::new(),
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}
