//! Opening a bundle with its golden self-test: the graphs must reproduce the exporter's outputs.

use std::path::Path;
use std::sync::Arc;

use super::{embed, head_logits};
use crate::clip::Crop;
use crate::encode::{Provider, Runtime, first_that_works};
use crate::model::golden::{Goldens, golden_crop, golden_samples};
use crate::model::{Bundle, BundleError};

/// Largest permitted difference from the exporter's numbers, on values of order 1. Float kernels
/// differ between machines and providers by some 1e-5; a wrong weight or preprocessing differs by
/// far more.
const PERMITTED: f32 = 2e-3;

/// The same for int8 graphs. Their sums are exact on every processor, but a value between two steps
/// is rounded by the last bit of the preprocessing. Inputs off by a share of 1e-6 changed no
/// embedding of the default face encoder. Off by 1e-5 they changed one of 40 by up to 0.014; its
/// float graph is 0.08 away.
const PERMITTED_INT8: f32 = 4e-2;

impl Bundle {
    /// Opens the bundle in `directory` and replays its golden cases on the opened graphs.
    ///
    /// With [`Provider::Auto`], an execution provider that fails the self-test is skipped like one
    /// that cannot open the graphs.
    ///
    /// # Errors
    /// A [`BundleError`] if hashes, fingerprint, shapes or goldens do not match.
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

/// Runs every case; the first deviation refuses the bundle.
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
        // The head gets the fp32 embeddings: one expected answer serves either precision.
        embeddings.extend(
            int8_encoders
                .iter()
                .filter_map(|name| Some((name.clone(), case.embeddings.get(name)?.clone()))),
        );
        let logits = head_logits(bundle, &embeddings).map_err(refused)?;
        off("the answer".into(), &logits, &case.logits, PERMITTED)?;
    }
    Ok(())
}
