//! Calibration of a classifier on the validation clips.

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

/// Minimum recordings for a trustworthy calibration.
const TRUSTED_CLIPS: usize = 100;

/// `calibration.json`: temperatures and abstention threshold from the validation clips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadCalibration {
    pub subsets: BTreeMap<String, Calibrated>,
    /// By the rule of [`abstain_threshold`].
    pub abstain_threshold: f32,
    /// Share of the validation clips that reach the threshold, over all subsets of modalities;
    /// `None`: calibrated by an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<f64>,
    /// Validation recordings.
    #[serde(default)]
    pub recordings: usize,
}

impl HeadCalibration {
    /// Warnings about the confidences, one sentence each.
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

    /// The warning about a head that abstains from nearly all predictions.
    pub fn low_coverage_warning(&self) -> Option<String> {
        let clips = format!("the clips of {} validation recordings", self.recordings);
        low_coverage_warning(self.answered?, &clips)
    }
}

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
