//! How far the head is to be trusted: factors, priors, temperatures and a threshold, from what it has never met.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::modality::{Modality, Presence};
use crate::train::calibrate::abstain_threshold;
use crate::train::evaluate::Figure;
use crate::train::evidence::Evidence;
use crate::train::fit::{device, values};
use crate::train::net::Head;
use crate::train::prior::{strength_for, times};

use super::{FACE, Pair, alone, forward, is_as_counted, judge_paired, only};

/// Never abstain above this confidence.
const HIGHEST_THRESHOLD: f64 = 0.45;

/// What held-out data says of the head's confidence. `calibration.json` beside the head's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factors of the modalities' evidence, in the order of [`Modality::ALL`].
    pub factors: Vec<f32>,
    /// Per label what is added to a face's evidence: the labels' shares in what people see in faces, as far as rare labels permit
    /// ([`crate::train::prior`]).
    pub face_prior: Vec<f32>,
    /// How much of those shares that is, 0 to 1.
    pub face_prior_strength: f32,
    /// Per label what is added where words are alone.
    pub prior: Vec<f32>,
    pub temperature: BTreeMap<String, f32>,
    pub abstain_threshold: f32,
    /// Expected calibration error on the selection data per subset, before (factors and temperatures 1) and after.
    pub error: BTreeMap<String, [f64; 2]>,
    /// Rows of the selection data per subset.
    pub rows: BTreeMap<String, usize>,
    /// Voices of speakers and corpora that the calibration encoder, or one taught by the calibration corpus alone, never met.
    pub strangers: Vec<Figure>,
    /// The hash of the head's weights that it goes with.
    pub head: String,
}

/// The mean of all that do as well as the best, within the standard error of a share of so many: of `(setting, share, count)`.
///
/// The best alone would be the luckiest: near it, settings that differ much do alike.
pub(super) fn middle_of_the_best(tried: &[(f32, f64, usize)]) -> f32 {
    let best = tried
        .iter()
        .copied()
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .expect("something was tried");
    let error = (best.1 * (1.0 - best.1) / best.2.max(1) as f64).sqrt();
    let alike: Vec<f32> = tried
        .iter()
        .filter(|(_, share, _)| *share >= best.1 - error)
        .map(|(setting, ..)| *setting)
        .collect();
    alike.iter().sum::<f32>() / alike.len() as f32
}

/// Logarithms of the labels' shares.
pub(super) struct Shares {
    /// In what people see in faces.
    pub faces: Vec<f32>,
    /// In talk.
    pub words: Vec<f32>,
}

/// Factors, priors, temperatures and threshold from held-out evidence, and from `pairs` of one person each; of the evidence's faces `firsts` has what most people say, where that is one
/// label.
pub(super) fn calibrate(
    head: &Head,
    held_out: &[Evidence],
    pairs: &[Pair],
    firsts: &[Option<usize>],
    shares: &Shares,
) -> anyhow::Result<Calibration> {
    let device = device();
    let judged = |head: &Head, subset: &Presence| {
        judge_paired(held_out, pairs, subset, &mut |batch| {
            values(forward(head, batch, &device))
        })
    };
    let raw = |subset: &Presence| judged(head, subset);
    // An encoder knows its training data too well, the one on few voices most: what its evidence is worth shows on held-out data.
    let factors = Modality::ALL
        .iter()
        .map(|m| Ok(1.0 / raw(&only(*m))?.temperature() as f32))
        .collect::<anyhow::Result<Vec<f32>>>()?;
    let weighed = head.clone().weighed(&factors);
    let faces = alone(held_out, Modality::Face, &mut |batch| {
        values(forward(&weighed, batch, &device))
    })?;
    let chosen = strength_for(&faces, firsts, &shares.faces, 0.0)?;
    println!(
        "head: faces: {:.2} of the labels' log shares is added: accuracy {:.4}, mean recall {:.4} on clear ones",
        chosen.of_prior, chosen.accuracy, chosen.recall
    );
    let face_prior_strength = chosen.of_prior;
    let face_prior = times(&shares.faces, face_prior_strength);
    let weighed = weighed.with_prior_of(FACE, &face_prior, &device);
    // Words alone say little, and most of what people say is said neutrally: how often each label comes in talk counts there, as far as
    // it helps on the selection data.
    let mut tried = Vec::new();
    for tenths in 0..=10 {
        let strength = tenths as f32 / 10.0;
        let candidate = weighed
            .clone()
            .with_prior(&times(&shares.words, strength), &device);
        let judged = judged(&candidate, &only(Modality::Text))?;
        tried.push((
            strength,
            judged
                .metric("f1_weighted")
                .context("no words to select by")?,
            judged.count(),
        ));
    }
    let strength = middle_of_the_best(&tried);
    println!("head: words alone: {strength:.2} of the labels' log shares is added");
    let prior = times(&shares.words, strength);
    let final_head = weighed.with_prior(&prior, &device);
    let (temperature, error, rows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut calibration = Calibration {
        factors,
        face_prior,
        face_prior_strength,
        prior,
        temperature,
        abstain_threshold: 0.0,
        error,
        rows,
        strangers: Vec::new(),
        head: String::new(),
    };
    let mut verdicts = Vec::new();
    for subset in Presence::subsets() {
        let (name, before, judged) = (subset.name(), raw(&subset)?, judged(&final_head, &subset)?);
        let judged = if is_as_counted(&subset) {
            judged.as_counted()
        } else {
            judged
        };
        let temperature = judged.temperature();
        ensure!(temperature.is_finite(), "no temperature fits {name}");
        verdicts.extend(judged.verdicts(temperature));
        let error = [
            before.calibration_error(1.0),
            judged.calibration_error(temperature),
        ];
        println!(
            "head: {name}: n {}, mean recall {:.3}, weighted F1 {:.3}, temperature {temperature:.3}, calibration error {:.3} before, {:.3} after",
            judged.count(),
            judged.recall(),
            judged.metric("f1_weighted").unwrap_or(f64::NAN),
            error[0],
            error[1]
        );
        calibration
            .temperature
            .insert(name.clone(), temperature as f32);
        calibration.error.insert(name.clone(), error);
        calibration.rows.insert(name, judged.rows());
    }
    calibration.abstain_threshold = abstain_threshold(&verdicts, HIGHEST_THRESHOLD) as f32;
    println!(
        "head: factors {:?}, abstains under {:.2}",
        calibration.factors, calibration.abstain_threshold
    );
    Ok(calibration)
}
