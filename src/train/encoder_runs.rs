//! The training runs of the face and voice encoders of a recipe: folders, settings, trained
//! weights.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::manifest::hex_sha256;
use crate::train::recipe::Recipe;

mod face;
mod voice;

pub use face::{encode_faces, face_part, face_parts, face_run, generation, load_face};
pub use voice::{VoiceRun, clip_logits, load_voice, voice_run};

/// The checkpoint folder of the run `part` of a recipe, such as `voice`.
pub fn run_folder(recipe: &Recipe, part: &str) -> PathBuf {
    recipe.runs.join(&recipe.name).join(part)
}

/// SHA-256 of `best.bpk` in a run's folder, in hexadecimal. Results that depend on the weights are
/// stored with it, to detect other weights.
///
/// # Errors
/// The file cannot be read.
pub fn weights_sha256(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("best.bpk");
    Ok(hex_sha256(&std::fs::read(&path).with_context(|| {
        format!("{} cannot be read", path.display())
    })?))
}
