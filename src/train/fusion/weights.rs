//! Settings of the fusion head for rows with several modalities: factors, bounds, face prior.

use crate::modality::Presence;
use crate::train::calibrate::LabelledLogits;
use crate::train::fit::device;
use crate::train::net::Head;
use crate::train::prior::scaled;

use super::FACE;

/// Candidate factors on the logits of a modality, as multiples of the factor that was fitted to the
/// modality alone.
const MULTIPLES: [f64; 7] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8];
/// Candidate bounds of a modality's logits, in nats ([`Head::with_bounds`]). The selection data has
/// few voices that are confident and wrong, so the fit would favour unbounded logits; they are no
/// candidate.
const BOUNDS: [f64; 6] = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0];
/// Candidate strengths of the label prior of faces; 0: no prior, 1: the full log prior.
const PRIORS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Largest number of passes of the coordinate descent over all settings.
const PASSES: usize = 3;

/// The constants of [`FusionSettings::fit`] as text, for the hash that identifies a calibration.
pub(super) fn rules() -> String {
    format!("{MULTIPLES:?} {BOUNDS:?} {PRIORS:?} {PASSES}")
}

/// Settings of the fusion head for rows with several modalities.
///
/// A factor that is fitted to one modality alone calibrates confidence for the data of that
/// modality: photographs for the face, actors for the voice. For recordings of one person, other
/// factors may be better, because one modality is often less expressive than the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FusionSettings {
    /// Factor on the logits of each modality, in the order of [`crate::modality::Modality::ALL`].
    pub factors: Vec<f32>,
    /// Bound of the logits of each modality in nats ([`Head::with_bounds`]), in the order of
    /// `factors`.
    pub bounds: Vec<f64>,
    /// Strength of the label prior of faces, 0 to 1.
    pub face_prior: f32,
}

impl FusionSettings {
    /// Selects the candidates with the least mean loss over all subsets of several modalities, by
    /// [coordinate descent](https://en.wikipedia.org/wiki/Coordinate_descent) over the settings.
    ///
    /// `factors`: the factors that were fitted to each modality alone. `predict` returns the
    /// predictions for the held-out rows of a subset with the given settings. The loss of a subset
    /// is the cross-entropy at the temperature that fits it best.
    ///
    /// # Errors
    /// Those of `predict`.
    pub fn fit(
        factors: &[f32],
        mut predict: impl FnMut(&FusionSettings, &Presence) -> anyhow::Result<LabelledLogits>,
    ) -> anyhow::Result<FusionSettings> {
        let several: Vec<Presence> = Presence::subsets()
            .filter(|subset| {
                [subset.face, subset.voice, subset.text]
                    .iter()
                    .filter(|present| **present)
                    .count()
                    > 1
            })
            .collect();
        let mut loss = |settings: &FusionSettings| -> anyhow::Result<f64> {
            let mut sum = 0.0;
            for subset in &several {
                let predictions = predict(settings, subset)?;
                sum += predictions.loss(predictions.temperature());
            }
            Ok(sum / several.len() as f64)
        };
        let begin = FusionSettings {
            factors: factors.to_vec(),
            bounds: vec![BOUNDS[BOUNDS.len() - 1]; factors.len()],
            face_prior: 0.0,
        };
        let first = loss(&begin)?;
        let (mut least, mut best) = (first, begin);
        let mut settings = settings(factors);
        for _ in 0..PASSES {
            let before = best.clone();
            for setting in &mut settings {
                // Larger values are tried while the loss falls; if it never does, smaller ones.
                for step in [1, -1] {
                    let from = setting.at;
                    while let Some(at) = setting.at.checked_add_signed(step)
                        && let Some(value) = setting.values.get(at)
                    {
                        let mut candidate = best.clone();
                        (setting.set)(&mut candidate, *value);
                        let found = loss(&candidate)?;
                        if found >= least {
                            break;
                        }
                        (least, best, setting.at) = (found, candidate, at);
                    }
                    if setting.at != from {
                        break;
                    }
                }
            }
            if best == before {
                break;
            }
        }
        println!(
            "head: factors {factors:?} become {:?}, bounds {:?}, {:.1} of the faces' label \
             prior: mean loss with several modalities {first:.4}, then {least:.4}",
            best.factors, best.bounds, best.face_prior
        );
        Ok(best)
    }

    /// Applies the settings to `head`. `face_shares`: the log prior of each label for faces, of
    /// which [`FusionSettings::face_prior`] is the used fraction.
    pub fn apply(&self, head: Head, face_shares: &[f32]) -> Head {
        head.scaled(&self.factors)
            .with_bounds(&self.bounds)
            .with_modality_prior(FACE, &scaled(face_shares, self.face_prior), &device())
    }
}

/// A function that sets one of the [`FusionSettings`] to a candidate value.
type Setter = Box<dyn Fn(&mut FusionSettings, f64)>;

/// One of the fitted settings, with its candidate values.
struct Setting {
    set: Setter,
    /// The candidate values, ascending.
    values: Vec<f64>,
    /// Index of the selected value in `values`.
    at: usize,
}

/// The settings that are fitted, with their initial values. `factors`: one per modality.
fn settings(factors: &[f32]) -> Vec<Setting> {
    let setting = |set: Setter, values: &[f64], begin: f64| Setting {
        set,
        values: values.to_vec(),
        at: (values.iter().position(|value| *value == begin)).expect("it is a candidate"),
    };
    let mut all = Vec::new();
    for (modality, factor) in factors.iter().copied().enumerate() {
        let set =
            move |j: &mut FusionSettings, multiple| j.factors[modality] = factor * multiple as f32;
        all.push(setting(Box::new(set), &MULTIPLES, 1.0));
        let set = move |j: &mut FusionSettings, bound| j.bounds[modality] = bound;
        all.push(setting(Box::new(set), &BOUNDS, BOUNDS[BOUNDS.len() - 1]));
    }
    let set = |j: &mut FusionSettings, strength| j.face_prior = strength as f32;
    all.push(setting(Box::new(set), &PRIORS, 0.0));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predictions for four rows of two labels with the true label `truth`. The face favours the
    /// first label, the voice the second one a little less strongly.
    fn rows(settings: &FusionSettings, subset: &Presence, truth: usize) -> LabelledLogits {
        let (face, voice) = (
            1.5 * f32::from(subset.face) * settings.factors[0],
            f32::from(subset.voice) * settings.factors[1],
        );
        let logits = [[face, voice]; 4].concat();
        LabelledLogits::new(2, logits, vec![truth; 4])
    }

    #[test]
    fn the_modality_that_predicts_the_truth_gets_a_larger_factor() {
        let factors = [1.0, 1.0, 1.0];
        let fit = |truth| {
            FusionSettings::fit(&factors, |settings, subset| {
                Ok(rows(settings, subset, truth))
            })
            .unwrap()
        };
        assert_eq!(fit(1).factors, [0.35, 2.8, 1.0]);
        assert_eq!(fit(0).factors, [2.0, 0.35, 1.0]);
    }

    #[test]
    fn a_modality_that_is_sometimes_confident_and_wrong_gets_a_smaller_bound() {
        // The face is certain of the truth in nine of ten rows, and of another label in one row.
        // The voice favours the truth slightly in every row.
        let predict = |settings: &FusionSettings, subset: &Presence| {
            let mut logits = Vec::new();
            for row in 0..10 {
                let sure = (8.0 * settings.factors[0]).min(settings.bounds[0] as f32);
                let face = [sure, 0.0, 0.0];
                let truth = usize::from(row == 0);
                for label in 0..3 {
                    let voice = if label == truth { 1.0 } else { 0.0 };
                    logits.push(
                        f32::from(subset.face) * face[label]
                            + f32::from(subset.voice) * settings.factors[1] * voice,
                    );
                }
            }
            let truth = (0..10).map(|row| usize::from(row == 0)).collect();
            Ok(LabelledLogits::new(3, logits, truth))
        };
        let settings = FusionSettings::fit(&[1.0; 3], predict).unwrap();
        let largest = BOUNDS[BOUNDS.len() - 1];
        assert!(settings.bounds[0] < largest, "{settings:?}");
        assert_eq!(settings.bounds[1..], [largest; 2]);
    }
}
