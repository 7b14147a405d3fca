//! Opens a bundle with its self-test: the graphs must reproduce the outputs that the exporter
//! stored (the goldens).

use std::path::Path;
use std::sync::Arc;

use super::head::further_outputs;
use super::{embed, head_logits};
use crate::clip::Crop;
use crate::encode::{Provider, Runtime, first_that_works};
use crate::model::golden::{Goldens, golden_crop, golden_samples};
use crate::model::{Bundle, BundleError};

/// Largest permitted absolute difference from the exporter's numbers, which are of order 1. Float
/// kernels differ between machines and providers by some 1e-5; a wrong weight or preprocessing
/// differs by far more.
const PERMITTED: f32 = 2e-3;

/// Largest permitted absolute difference for int8 graphs. Their sums are exact on every processor,
/// but the last bit of the preprocessing decides how a value between two steps is rounded. Relative
/// errors of 1e-6 in the input changed no embedding of the default face encoder. Errors of 1e-5
/// changed one embedding of 40 by up to 0.014; the float graph's differs by 0.08.
const PERMITTED_INT8: f32 = 4e-2;

impl Bundle {
    /// Opens the bundle in `directory` and replays its golden cases on the opened graphs.
    ///
    /// With [`Provider::Auto`], an execution provider that fails the self-test is skipped, like one
    /// that cannot open the graphs. Each graph gets `threads` threads.
    ///
    /// # Errors
    /// A file is missing, or hashes, fingerprint, shapes or goldens do not match.
    pub fn open(
        runtime: &Runtime,
        directory: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<Bundle, BundleError> {
        let at_fault = |error: &BundleError| {
            matches!(
                error,
                BundleError::Graph { .. } | BundleError::SelfTest { .. }
            )
        };
        first_that_works(provider, at_fault, |provider| {
            let (mut bundle, goldens) =
                Bundle::open_unverified(runtime, directory, provider, threads)?;
            replay(&mut bundle, directory, &goldens)?;
            Ok(bundle)
        })
    }
}

/// Runs every golden case; fails at the first output that differs by more than is permitted.
fn replay(bundle: &mut Bundle, directory: &Path, goldens: &Goldens) -> Result<(), BundleError> {
    if goldens.cases.is_empty() {
        return Err(BundleError::Unsupported {
            directory: directory.to_owned(),
            what: "golden.json holds no case".into(),
        });
    }
    for (index, case) in goldens.cases.iter().enumerate() {
        let face = bundle.manifest.face.clone();
        let crops: Vec<Arc<Crop>> = face
            .iter()
            .flat_map(|f| {
                (0..case.face_frames)
                    .map(|i| Arc::new(golden_crop(case.seed, i as u32, f.size, f.channels)))
            })
            .collect();
        let samples =
            (case.voice_samples > 0).then(|| golden_samples(case.seed, case.voice_samples));
        let refused = |source| BundleError::Graph {
            directory: directory.to_owned(),
            source,
        };
        let mut embeddings =
            embed(bundle, &crops, samples.as_deref(), case.text.as_deref()).map_err(refused)?;
        let off = |what: String, ours: &[f32], theirs: &[f32], permitted: f32| {
            let difference = if ours.len() == theirs.len() {
                ours.iter()
                    .zip(theirs)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max)
            } else {
                f32::INFINITY
            };
            if difference <= permitted {
                Ok(())
            } else {
                Err(BundleError::SelfTest {
                    directory: directory.to_owned(),
                    case: index,
                    what,
                    difference,
                    permitted,
                })
            }
        };
        let int8_encoders: Vec<String> = bundle.int8_encoders().map(str::to_owned).collect();
        for (name, expected) in &case.embeddings {
            let ours = embeddings.get(name).map_or(&[][..], |e| e);
            if int8_encoders.contains(name) {
                let expected = case.int8.get(name).map_or(&[][..], |e| e);
                off(
                    format!("the int8 embedding of encoder {name}"),
                    ours,
                    expected,
                    PERMITTED_INT8,
                )?;
            } else {
                off(
                    format!("the embedding of encoder {name}"),
                    ours,
                    expected,
                    PERMITTED,
                )?;
            }
        }
        // The head gets the stored fp32 embeddings, because the stored logits were computed from
        // them.
        embeddings.extend(
            int8_encoders
                .iter()
                .filter_map(|name| Some((name.clone(), case.embeddings.get(name)?.clone()))),
        );
        let logits = head_logits(bundle, &embeddings).map_err(refused)?;
        off("the answer".into(), &logits, &case.logits, PERMITTED)?;
        for (name, ours) in further_outputs(bundle, &embeddings).map_err(refused)? {
            let expected = case.also.get(&name).map_or(&[][..], |e| e);
            off(
                format!("the answer of head {name}"),
                &ours,
                expected,
                PERMITTED,
            )?;
        }
    }
    Ok(())
}
