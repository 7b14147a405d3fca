//! Settings for the fusion of several modalities, fitted to rows with several of them.

use crate::modality::Presence;
use crate::train::calibrate::LabelledLogits;
use crate::train::fit::device;
use crate::train::net::Head;
use crate::train::prior::scaled;

use super::FACE;

/// Candidate multiples of the factor of a modality.
const MULTIPLES: [f64; 7] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8];
/// Candidate bounds of evidence, in nats ([`Head::with_bounds`]). The selection data has few voices
/// that are confident and wrong, so the largest candidate limits their effect in any case.
const BOUNDS: [f64; 6] = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0];
/// Candidate strengths of the faces' label prior.
const PRIORS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Number of passes over all settings.
const PASSES: usize = 3;

/// The constants of the fit as text, for the hash of a calibration.
pub(super) fn rules() -> String {
    format!("{MULTIPLES:?} {BOUNDS:?} {PRIORS:?} {PASSES}")
}

/// Settings for the fusion of several modalities.
///
/// A factor that is fitted to one modality alone calibrates its confidence for its own data:
/// photographs for the face, actors for the voice. For recordings of one person, other factors may
/// be better, and one modality is often less expressive than the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FusionSettings {
    /// Factor on the evidence of each modality, in the order of [`crate::modality::Modality::ALL`].
    pub factors: Vec<f32>,
    /// Bounds of the evidence, in the same order.
    pub bounds: Vec<f64>,
    /// Strength of the faces' label prior, 0 to 1.
    pub face_prior: f32,
}

impl FusionSettings {
    /// The settings with the least mean loss over the subsets of several modalities, one setting
    /// after another ([coordinate descent](https://en.wikipedia.org/wiki/Coordinate_descent)).
    /// `predict` predicts a subset's held-out rows; each subset is scored at its own temperature.
    ///
    /// `factors` are fitted to each modality alone.
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
                // Up from the present value while the loss falls, else down.
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

    /// `head` with these settings. `face_shares`: log prior of each label for faces.
    pub fn apply(&self, head: Head, face_shares: &[f32]) -> Head {
        head.scaled(&self.factors)
            .with_bounds(&self.bounds)
            .with_modality_prior(FACE, &scaled(face_shares, self.face_prior), &device())
    }
}

/// Assigns a value to one setting.
type Set = Box<dyn Fn(&mut FusionSettings, f64)>;

/// A setting and its candidate values in ascending order.
struct Setting {
    set: Set,
    values: Vec<f64>,
    /// Index of the current value.
    at: usize,
}

fn settings(factors: &[f32]) -> Vec<Setting> {
    let setting = |set: Set, values: &[f64], begin: f64| Setting {
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

    /// Two labels; the face favours the first label, the voice the second one, a little less
    /// strongly.
    fn rows(settings: &FusionSettings, subset: &Presence, truth: usize) -> LabelledLogits {
        let (face, voice) = (
            1.5 * f32::from(subset.face) * settings.factors[0],
            f32::from(subset.voice) * settings.factors[1],
        );
        let logits = [[face, voice]; 4].concat();
        LabelledLogits::new(2, logits, vec![truth; 4])
    }

    #[test]
    fn the_modality_that_is_right_gains_weight() {
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
    fn a_modality_that_is_sometimes_sure_and_wrong_gets_a_smaller_bound() {
        // Of ten rows the face is sure of the truth in nine and of another label in one; the voice
        // favours the truth a little.
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
