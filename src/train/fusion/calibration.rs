//! Calibration of the fusion head on held-out data: factors on the logits of each modality, label
//! priors, temperatures and the abstention threshold.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::labels::LABELS;
use crate::manifest::hex_sha256;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::{HIGHEST_THRESHOLD, abstain_threshold};
use crate::train::embeddings::{EmbeddingPair, LabelledEmbeddings};
use crate::train::encoder_runs::{VoiceRun, run_folder, weights_sha256};
use crate::train::figure::Figure;
use crate::train::fit::{device, values};
use crate::train::net::Head;
use crate::train::prior::{difference, mean_within_one_error, scaled, strength_for};
use crate::train::recipe::Recipe;

use super::head_part;
use super::weights::FusionSettings;
use super::{
    FACE, WORDS, evaluate_with_pairs, forward, is_evaluated_unweighted, only,
    single_modality_logits,
};

/// The calibration of a fusion head; the content of `calibration.json` in the folder of its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor on the logits of each modality, in the order of [`Modality::ALL`].
    pub factors: Vec<f32>,
    /// Bound of each modality's logits if others are present, in nats ([`Head::with_bounds`]), in
    /// the order of `factors`.
    pub bounds: Vec<f64>,
    /// Log prior of each label, added to the logits of the face if it is the only modality
    /// ([`crate::train::prior`]).
    pub face_prior: Vec<f32>,
    /// Fraction of the training data's log prior that `face_prior` has for common labels, 0 to 1.
    pub face_prior_strength: f32,
    /// As `face_prior_strength`, for rare labels, down to -1: a negative value favours them.
    pub face_rare_strength: f32,
    /// Log prior of each label, added to the logits of the face if other modalities are present.
    pub joined_face_prior: Vec<f32>,
    /// Fraction of the training data's log prior that `joined_face_prior` has, 0 to 1.
    pub joined_face_prior_strength: f32,
    /// Log prior of each label, added to the logits of the text if it is the only modality.
    pub prior: Vec<f32>,
    /// Temperature of each subset of modalities, by its name (`face+voice`).
    pub temperature: BTreeMap<String, f32>,
    /// Confidence below which a recognition abstains, 0..1.
    pub abstain_threshold: f32,
    /// Expected calibration error of each subset of modalities on the selection data, 0..1: before
    /// and after calibration.
    pub error: BTreeMap<String, [f64; 2]>,
    /// Number of rows of the selection data for each subset of modalities.
    pub rows: BTreeMap<String, usize>,
    /// Metrics on speakers and corpora that the evaluated voice encoder was not trained on.
    pub unseen_speakers: Vec<Figure>,
    /// SHA-256 of the weights of the head.
    pub head: String,
    /// SHA-256 of the weights and constants that the calibration was computed from ([`basis`]).
    pub basis: String,
}

/// SHA-256 of everything besides the recipe that determines a calibration: the constants of the
/// selection rules, and the weights of the voice encoder and the head that are calibrated.
///
/// # Errors
/// Weights of a run cannot be read.
pub(super) fn basis(recipe: &Recipe) -> anyhow::Result<String> {
    let weights = [
        head_part(VoiceRun::Calibration),
        VoiceRun::Calibration.part(),
    ]
    .map(|part| weights_sha256(&run_folder(recipe, part)))
    .into_iter()
    .collect::<anyhow::Result<Vec<_>>>()?;
    let rules = format!(
        "{HIGHEST_THRESHOLD} {} {}",
        super::weights::rules(),
        crate::train::prior::rules()
    );
    Ok(hex_sha256(format!("{rules} {weights:?}").as_bytes()))
}

/// Log priors of the labels in the training data, one per label, with zero mean.
pub(super) struct Shares {
    /// From the annotators' votes for pictures of faces.
    pub faces: Vec<f32>,
    /// From the labels of utterances in dialogues.
    pub words: Vec<f32>,
}

/// Fits factors, bounds, priors, temperatures and the abstention threshold of `head`.
///
/// `held_out`: the held-out embeddings of each modality, in the order of [`Modality::ALL`];
/// `pairs`: embeddings of face and voice of one person. `majority_labels`: the majority label of
/// each held-out face; `None` in a tie.
///
/// # Errors
/// The device fails, there are no held-out texts, or no temperature fits a subset.
pub(super) fn calibrate(
    head: &Head,
    held_out: &[LabelledEmbeddings],
    pairs: &[EmbeddingPair],
    majority_labels: &[Option<usize>],
    shares: &Shares,
) -> anyhow::Result<Calibration> {
    let device = device();
    let predictions = |head: &Head, subset: &Presence| {
        evaluate_with_pairs(held_out, pairs, subset, &mut |batch| {
            values(forward(head, batch, &device))
        })
    };
    let raw = |subset: &Presence| predictions(head, subset);
    // Encoders are overconfident on training data, so the factors are fitted on held-out data.
    let factors = Modality::ALL
        .iter()
        .map(|m| Ok(1.0 / raw(&only(*m))?.temperature() as f32))
        .collect::<anyhow::Result<Vec<f32>>>()?;
    let settings = FusionSettings::fit(&factors, |settings, subset| {
        predictions(&settings.apply(head.clone(), &shares.faces), subset)
    })?;
    let factors = settings.factors.clone();
    let joined_face_prior = scaled(&shares.faces, settings.face_prior);
    let weighed = settings.apply(head.clone(), &shares.faces);
    let faces = single_modality_logits(held_out, Modality::Face, &mut |batch| {
        values(forward(&weighed, batch, &device))
    })?;
    let chosen = strength_for(&faces, majority_labels, &shares.faces, settings.face_prior)?;
    println!(
        "head: face prior: {:.2} of the labels' log shares ({:.2} of rare labels'): accuracy \
         {:.4}, mean recall {:.4} on pictures with a majority label",
        chosen.common_labels, chosen.rare_labels, chosen.accuracy, chosen.recall
    );
    let face_prior = chosen.prior(&shares.faces);
    let more = difference(&face_prior, &joined_face_prior);
    let weighed = weighed.with_single_modality_prior(FACE, &more, &device);
    // The logits of text are weak, and most utterances are neutral. Therefore the label prior of
    // dialogue is added with the strength that is best on the selection data.
    let mut tried = Vec::new();
    for tenths in 0..=10 {
        let strength = tenths as f32 / 10.0;
        let candidate = weighed.clone().with_single_modality_prior(
            WORDS,
            &scaled(&shares.words, strength),
            &device,
        );
        let predictions = predictions(&candidate, &only(Modality::Text))?;
        tried.push((
            strength,
            predictions
                .metric("f1_weighted")
                .context("no words to select by")?,
            predictions.count(),
        ));
    }
    let strength = mean_within_one_error(&tried);
    println!("head: text prior: {strength:.2} of the labels' log shares");
    let prior = scaled(&shares.words, strength);
    let final_head = weighed.with_single_modality_prior(WORDS, &prior, &device);
    let (temperature, error, rows) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut calibration = Calibration {
        factors,
        bounds: settings.bounds,
        face_prior,
        face_prior_strength: chosen.common_labels,
        face_rare_strength: chosen.rare_labels,
        joined_face_prior,
        joined_face_prior_strength: settings.face_prior,
        prior,
        temperature,
        abstain_threshold: 0.0,
        error,
        rows,
        unseen_speakers: Vec::new(),
        head: String::new(),
        basis: String::new(),
    };
    let mut verdicts = Vec::new();
    for subset in Presence::subsets() {
        let (name, before, predictions) = (
            subset.name(),
            raw(&subset)?,
            predictions(&final_head, &subset)?,
        );
        let predictions = if is_evaluated_unweighted(&subset) {
            predictions.unweighted()
        } else {
            predictions
        };
        let temperature = predictions.temperature();
        ensure!(temperature.is_finite(), "no temperature fits {name}");
        verdicts.extend(predictions.scored_predictions(temperature));
        let error = [
            before.calibration_error(1.0),
            predictions.calibration_error(temperature),
        ];
        println!(
            "head: {name}: n {}, mean recall {:.3}, weighted F1 {:.3}, temperature \
             {temperature:.3}, calibration error {:.3} before, {:.3} after",
            predictions.count(),
            predictions.recall(),
            predictions.metric("f1_weighted").unwrap_or(f64::NAN),
            error[0],
            error[1]
        );
        calibration
            .temperature
            .insert(name.clone(), temperature as f32);
        calibration.error.insert(name.clone(), error);
        calibration.rows.insert(name, predictions.rows());
    }
    let rows = calibration.rows.values().sum();
    calibration.abstain_threshold = abstain_threshold(&verdicts, LABELS.len(), rows) as f32;
    println!(
        "head: evidence factors {:?}, abstention threshold {:.2}",
        calibration.factors, calibration.abstain_threshold
    );
    Ok(calibration)
}
