//! The golden self-test: what the bundle answered when it was exported, it must answer here.

use std::path::Path;
use std::sync::Arc;

use super::golden::{Goldens, golden_crop, golden_samples};
use super::{Bundle, BundleError};
use crate::clip::Crop;
use crate::recognize::embed;

/// Largest difference permitted between the exporter's numbers and ours, on values of order 1: float kernels differ between
/// machines and providers by some 1e-5, a wrong weight or a wrong preprocessing by far more.
const PERMITTED: f32 = 2e-3;

/// Runs every case; the first number that is off refuses the bundle.
pub(super) fn replay(bundle: &mut Bundle, directory: &Path, goldens: &Goldens) -> Result<(), BundleError> {
    if goldens.cases.is_empty() {
        return Err(BundleError::Unsupported { directory: directory.to_owned(), what: "golden.json holds no case".into() });
    }
    for (index, case) in goldens.cases.iter().enumerate() {
        let face = bundle.manifest.face.clone();
        let crops: Vec<Arc<Crop>> =
            face.iter().flat_map(|f| (0..case.face_frames).map(|i| Arc::new(golden_crop(case.seed, i as u32, f.size, f.channels)))).collect();
        let samples = (case.voice_samples > 0).then(|| golden_samples(case.seed, case.voice_samples));
        let refused = |source| BundleError::Graph { directory: directory.to_owned(), source };
        let embeddings = embed(bundle, &crops, samples.as_deref(), case.text.as_deref()).map_err(refused)?;
        let off = |what: String, ours: &[f32], theirs: &[f32]| {
            let difference = if ours.len() == theirs.len() { ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) } else { f32::INFINITY };
            if difference <= PERMITTED {
                Ok(())
            } else {
                Err(BundleError::SelfTest { directory: directory.to_owned(), case: index, what, difference, permitted: PERMITTED })
            }
        };
        for (name, expected) in &case.embeddings {
            let ours = embeddings.get(name).map_or(&[][..], |e| e);
            off(format!("the embedding of encoder {name}"), ours, expected)?;
        }
        let logits = crate::recognize::head_logits(bundle, &embeddings).map_err(refused)?;
        off("the answer".into(), &logits, &case.logits)?;
    }
    Ok(())
}
