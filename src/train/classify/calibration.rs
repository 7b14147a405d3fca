//! Calibration of a classifier on the validation clips: temperatures and abstention threshold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Recognition, logits, subsets};
use crate::train::calibrate::{
    Calibrated, abstain_threshold, answered, calibrate, low_coverage_warning, scored_predictions,
};
use crate::train::features::Features;
use crate::train::heads::HeadsShape;
use crate::train::labelled::LabelledClips;
use crate::train::metrics::Predictions;

/// Number of validation recordings below which a calibration is reported as unreliable.
const TRUSTED_CLIPS: usize = 100;

/// Temperatures and abstention threshold of a classifier, fitted to the validation clips; the
/// content of `calibration.json` in the run's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadCalibration {
    /// Temperature and calibration error of each subset of modalities, by its name (`face+voice`).
    pub subsets: BTreeMap<String, Calibrated>,
    /// Confidence below which a prediction abstains, 0..1, selected by [`abstain_threshold`].
    pub abstain_threshold: f32,
    /// Share of the predictions for validation clips that reach the threshold, 0..1, over all
    /// subsets of modalities. `None`: an earlier version calibrated the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<f64>,
    /// Number of validation recordings.
    #[serde(default)]
    pub recordings: usize,
}

impl HeadCalibration {
    /// Warnings that confidences are unreliable or nearly always too low for an answer, one
    /// sentence each; empty if there is nothing to warn of.
    pub fn warnings(&self) -> Vec<String> {
        let few: Vec<String> = self
            .subsets
            .iter()
            .filter(|(_, c)| c.items < TRUSTED_CLIPS)
            .map(|(name, c)| format!("{name} {}", c.items))
            .collect();
        let few = (!few.is_empty()).then(|| {
            format!(
                "Confidences are unreliable, because few recordings calibrate them ({}).",
                few.join(", ")
            )
        });
        few.into_iter().chain(self.low_coverage_warning()).collect()
    }

    /// The warning that the head abstains from nearly all predictions. `None`: it answers enough of
    /// them, or an earlier version calibrated it.
    pub fn low_coverage_warning(&self) -> Option<String> {
        let clips = format!("the clips of {} validation recordings", self.recordings);
        low_coverage_warning(self.answered?, &clips)
    }
}

/// Fits a temperature for each subset of modalities, and one abstention threshold. `select`: the
/// validation clips; `labels`: the label names.
///
/// # Errors
/// Rows of a store cannot be read, or a logit is not finite.
pub(super) fn calibration(
    net: &Recognition,
    features: &Features,
    select: &LabelledClips,
    labels: &[String],
    heads: &HeadsShape,
) -> anyhow::Result<HeadCalibration> {
    let (mut found, mut all) = (BTreeMap::new(), Vec::new());
    for (name, shown) in subsets(heads) {
        let clips = select.with_modalities(features, &shown, labels.len());
        if clips.rows.is_empty() {
            continue;
        }
        let logits = logits(net, features, &clips.rows, &shown)?;
        let recordings = features.recordings(&clips.rows);
        let calibrated = calibrate(labels, &logits, &clips.truth, recordings)?;
        all.extend(scored_predictions(&Predictions::from_logits(
            labels.to_vec(),
            logits,
            calibrated.temperature,
            clips.truth,
        )?));
        found.insert(name, calibrated);
    }
    let recordings = features.recordings(&select.rows);
    let threshold = abstain_threshold(&all, labels.len(), recordings);
    Ok(HeadCalibration {
        subsets: found,
        abstain_threshold: threshold as f32,
        answered: Some(answered(&all, threshold)),
        recordings,
    })
}
