//! Trains the fusion head on faces, voices and texts with the same label, and calibrates it on
//! held-out data.

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use crate::labels::LABELS;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::LabelledLogits;
use crate::train::checkpoint::RunFolder;
use crate::train::data::Part;
use crate::train::data::fer;
use crate::train::embeddings::{
    EmbeddingPair, LabelledEmbeddings, face_embeddings, voice_embeddings,
};
use crate::train::encoder_runs::{
    VoiceRun, face_part, load_face, load_voice, run_folder, weights_sha256,
};
use crate::train::figure::Figure;
use crate::train::fit::{
    Batches, Learner, TrainingRun, device, fit, soft_cross_entropy, tensor, values,
};
use crate::train::net::Head;
use crate::train::prior::difference;
use crate::train::recipe::Recipe;
use crate::train::samples::{generator, smoothed};
use crate::train::sentences::{self, SentenceEncoder};

mod calibration;
mod recordings;
mod unseen_speakers;
mod validation;
mod weights;

pub use calibration::Calibration;
use calibration::{Shares, calibrate};
use recordings::Recordings;
#[cfg(test)]
use validation::held_out;
pub use validation::{evaluate_subset, single_modality_logits};
use validation::{evaluate_with_pairs, paired};

/// Index of the face modality in [`Modality::ALL`].
const FACE: usize = 0;
/// Index of the text modality in [`Modality::ALL`].
const WORDS: usize = 2;

/// A batch for the fusion head: embeddings, presence and target probabilities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadBatch {
    /// Number of rows.
    pub count: usize,
    /// The embeddings of each modality, in the order of [`Modality::ALL`]: `[count, dim]`,
    /// row-major; zeros in rows without the modality.
    pub embeddings: Vec<Vec<f32>>,
    /// Whether each modality is present, 1 or 0: `[count, modalities]`, row-major.
    pub presence: Vec<f32>,
    /// Target probability of each label: `[count, labels]`, row-major.
    pub targets: Vec<f32>,
}

impl Learner for Head {
    type Batch = HeadBatch;

    fn loss(&self, batch: HeadBatch, device: &Device) -> Tensor<1> {
        let targets = tensor(batch.targets.clone(), [batch.count, LABELS.len()], device);
        soft_cross_entropy(forward(self, &batch, device), targets)
    }
}

/// The head's logits `[rows, labels]` of a batch.
fn forward(head: &Head, batch: &HeadBatch, device: &Device) -> Tensor<2> {
    let rows = |values: &Vec<f32>| {
        tensor(
            values.clone(),
            [batch.count, values.len() / batch.count],
            device,
        )
    };
    head.forward(
        batch.embeddings.iter().map(rows).collect(),
        rows(&batch.presence),
    )
}

/// Appends a row with the modalities in `presence` to `batch`. `draw` returns the embedding of a
/// present modality by its index in [`Modality::ALL`]; absent modalities are zeros of the lengths
/// in `all`.
pub(super) fn push_row(
    batch: &mut HeadBatch,
    all: &[LabelledEmbeddings],
    presence: &Presence,
    mut draw: impl FnMut(usize) -> Vec<f32>,
) {
    for (i, modality) in Modality::ALL.into_iter().enumerate() {
        let present = *presence.get(modality);
        batch.embeddings[i].extend(if present {
            draw(i)
        } else {
            vec![0.0; all[i].dim]
        });
        batch.presence.push(f32::from(present));
    }
    batch.count += 1;
}

/// A batch without rows for the modalities in `all`.
pub(super) fn empty(all: &[LabelledEmbeddings]) -> HeadBatch {
    HeadBatch {
        embeddings: vec![Vec::new(); all.len()],
        ..HeadBatch::default()
    }
}

/// Training batches of the head. Labels are drawn uniformly. Subsets of modalities are drawn
/// uniformly too, except for an extra share of rows with a single modality.
///
/// The modalities of a row are items with the same label, joined at random. A share of the rows
/// with face and voice is of one person.
struct Joined<'a> {
    /// Embeddings of each modality, in the order of [`Modality::ALL`].
    all: &'a [LabelledEmbeddings],
    /// Embeddings of face and voice of one person.
    pairs: &'a [EmbeddingPair],
    /// Share of `pairs` among rows with face and voice, if a pair has the label, 0..1.
    same_person: f64,
    /// Number of rows of a batch.
    batch: usize,
    /// Share of rows that are restricted to one modality, 0..1. The uniformly drawn subsets contain
    /// further rows with one modality.
    alone: f64,
    /// Probability that label smoothing takes from the true label, 0..1.
    smoothing: f32,
    seed: u64,
}

impl Batches<HeadBatch> for Joined<'_> {
    fn count(&self) -> usize {
        200
    }

    fn batch(&self, epoch: usize, index: usize) -> HeadBatch {
        let mut rng = generator(self.seed, epoch, index);
        let subsets: Vec<Presence> = Presence::subsets().collect();
        let mut batch = empty(self.all);
        for _ in 0..self.batch {
            let label = rng.random_range(0..LABELS.len());
            let subset = if rng.random_bool(self.alone) {
                only(Modality::ALL[rng.random_range(0..3)])
            } else {
                subsets[rng.random_range(0..subsets.len())]
            };
            let of_label: Vec<&EmbeddingPair> = match subset.face && subset.voice {
                true => (self.pairs.iter())
                    .filter(|pair| pair.label == label)
                    .collect(),
                false => Vec::new(),
            };
            let pair = (!of_label.is_empty() && rng.random_bool(self.same_person))
                .then(|| of_label[rng.random_range(0..of_label.len())]);
            push_row(&mut batch, self.all, &subset, |i| {
                match pair.and_then(|pair| pair.embedding(i)) {
                    Some(embedding) => embedding.clone(),
                    None => self.all[i].draw(label, &mut rng),
                }
            });
            batch
                .targets
                .extend(smoothed(label, LABELS.len(), self.smoothing));
        }
        batch
    }
}

/// Whether all items have the same weight when this subset of modalities is evaluated, so that the
/// label frequencies of the data apply. True for the face alone and for text alone. Rows of joined
/// modalities have no label frequencies of their own.
pub fn is_evaluated_unweighted(subset: &Presence) -> bool {
    [Modality::Face, Modality::Text]
        .into_iter()
        .any(|modality| *subset == only(modality))
}

/// The subset of modalities with `modality` alone.
pub fn only(modality: Modality) -> Presence {
    let mut presence = Presence::default();
    *presence.get_mut(modality) = true;
    presence
}

/// Trains the head over the recipe's encoders and writes its calibration. Confidence is calibrated
/// on the calibration actors, with a second head and a voice encoder that were not trained on them.
///
/// # Errors
/// An encoder is not trained, or data is missing.
pub fn train(recipe: &Recipe) -> anyhow::Result<()> {
    println!("head: computing embeddings");
    let face = load_face(recipe)?;
    let crops = fer::read(&recipe.fer_archive(), recipe.face_votes().as_deref())?;
    let mut words = SentenceEncoder::open(&recipe.words.encoder)?;
    let mut others = |part| -> anyhow::Result<[LabelledEmbeddings; 2]> {
        let mut utterances =
            words.embed_utterances(&recipe.meld_folder(), part, sentences::whole_text)?;
        // Only utterances of dialogues calibrate the words; comments are training data.
        if part == Part::Train && recipe.words.goemotions > 0.0 {
            let comments = words.embed_comments(&recipe.goemotions_folder(), part)?;
            utterances.join(comments, recipe.words.goemotions);
        }
        Ok([face_embeddings(recipe, &face, &crops, part)?, utterances])
    };
    let (training, selection) = (others(Part::Train)?, others(Part::Select)?);
    let joined = |which: VoiceRun,
                  part,
                  [face, words]: &[LabelledEmbeddings; 2]|
     -> anyhow::Result<Vec<LabelledEmbeddings>> {
        Ok(vec![
            face.clone(),
            voice_embeddings(recipe, &load_voice(recipe, which)?, which, part)?,
            words.clone(),
        ])
    };
    let held_out = joined(VoiceRun::Calibration, Part::Select, &selection)?;
    let firsts = fer::with_votes(&crops, Part::Select).0;
    let firsts: Vec<Option<usize>> = firsts.iter().map(|c| c.votes.first()).collect();
    let shares = Shares {
        faces: training[0].log_shares(),
        words: sentences::log_shares(&recipe.meld_folder())?,
    };
    let recordings = Recordings::read(recipe)?;
    let of_one_person = recordings.embedded(recipe, &face, VoiceRun::Calibration)?;
    let head = fit_head(
        recipe,
        VoiceRun::Calibration,
        &joined(VoiceRun::Calibration, Part::Train, &training)?,
        &[],
        Some(&held_out),
    )?;
    let mut calibration = calibrate(&head, &held_out, &of_one_person.select, &firsts, &shares)?;
    let calibrated = calibrated(head, &calibration);
    calibration.unseen_speakers = unseen_speakers::figures(recipe, &calibrated, &calibration)?;
    calibration
        .unseen_speakers
        .extend(unseen_speakers::of_one_person(
            &calibrated,
            &calibration,
            &held_out,
            &of_one_person,
        )?);
    calibration.unseen_speakers.iter().for_each(Figure::print);
    let of_one_person = recordings.embedded(recipe, &face, VoiceRun::Final)?;
    fit_head(
        recipe,
        VoiceRun::Final,
        &joined(VoiceRun::Final, Part::Train, &training)?,
        &of_one_person.select,
        None,
    )?;
    let folder = run_folder(recipe, head_part(VoiceRun::Final));
    let calibration = Calibration {
        head: weights_sha256(&folder)?,
        basis: calibration::basis(recipe)?,
        ..calibration
    };
    std::fs::write(
        folder.join("calibration.json"),
        serde_json::to_vec_pretty(&calibration)?,
    )?;
    Ok(())
}

/// Name of the run of the head that takes this voice encoder.
fn head_part(which: VoiceRun) -> &'static str {
    match which {
        VoiceRun::Calibration => "head-calibration",
        VoiceRun::OtherCorpus => "head-other-corpus",
        VoiceRun::Final => "head",
    }
}

/// The head's logits and true labels for one subset of modalities of held-out data.
fn evaluate_head(
    head: &Head,
    held_out: &[LabelledEmbeddings],
    subset: &Presence,
) -> anyhow::Result<LabelledLogits> {
    evaluate_subset(held_out, subset, &mut |batch| {
        values(forward(head, batch, &device()))
    })
}

/// Trains the head over the voice encoder `which`, or resumes its run. `training`, `held_out`:
/// embeddings of each modality. `held_out`: `None`: the last epoch is kept; otherwise the mean
/// recall over all subsets is recorded for each epoch.
fn fit_head(
    recipe: &Recipe,
    which: VoiceRun,
    training: &[LabelledEmbeddings],
    pairs: &[EmbeddingPair],
    held_out: Option<&[LabelledEmbeddings]>,
) -> anyhow::Result<Head> {
    let device = device();
    device.seed(recipe.seed);
    let head = new_head(recipe, &device);
    let (run, sums) = head_run(recipe, which)?;
    let (folder, settings) = (&run.folder, &recipe.head);
    let joined = Joined {
        all: training,
        pairs,
        same_person: settings.same_person,
        batch: settings.fit.batch,
        alone: settings.alone,
        smoothing: settings.fit.label_smoothing,
        seed: recipe.seed,
    };
    if crate::train::fit::read_state(folder)?
        .is_some_and(|state| sums.iter().any(|sum| !state.recipe.contains(sum)))
    {
        println!(
            "{}: the encoders have changed, training starts again",
            head_part(which)
        );
        // The lock prevents that another process trains in the folder meanwhile.
        let _lock = RunFolder(folder.clone()).lock()?;
        std::fs::remove_dir_all(folder)?;
    }
    let (head, _) = fit(&run, head, &device, &joined, |head| {
        let Some(held_out) = held_out else {
            return Ok(None);
        };
        let recalls = Presence::subsets()
            .map(|subset| Ok(evaluate_head(head, held_out, &subset)?.recall()))
            .collect::<anyhow::Result<Vec<f64>>>()?;
        Ok(Some(recalls.iter().sum::<f64>() / recalls.len() as f64))
    })?;
    Ok(head)
}

/// Settings of the run of the head over the voice encoder `which`, and the hashes of the face and
/// voice encoders' weights. The hashes are part of the settings, so a head over other encoders is
/// another run.
fn head_run(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<(TrainingRun<'_>, Vec<String>)> {
    let (settings, name) = (&recipe.head, head_part(which));
    let sums = [&*face_part(recipe), which.part()]
        .map(|part| weights_sha256(&run_folder(recipe, part)))
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?;
    let text = serde_json::to_string(&(
        settings.hidden,
        settings.views,
        settings.alone,
        settings.same_person,
        recipe.words.goemotions,
        Modality::ALL.len(),
        &sums,
        &recipe.window,
    ))?;
    Ok((
        TrainingRun {
            name,
            folder: run_folder(recipe, name),
            settings: &settings.fit,
            recipe: text,
            seed: recipe.seed,
            stop_after: None,
        },
        sums,
    ))
}

/// Lengths of the face, voice and text embeddings, in the order of [`Modality::ALL`].
pub fn dims(recipe: &Recipe) -> [usize; 3] {
    [
        recipe.face.shape.dim,
        recipe.voice.shape.dim,
        sentences::DIM,
    ]
}

/// A head with random weights, of the recipe's sizes.
fn new_head(recipe: &Recipe, device: &Device) -> Head {
    Head::new(&dims(recipe), recipe.head.hidden, LABELS.len(), device)
}

/// Loads the final head, with its calibration applied to the weights, and the calibration.
///
/// # Errors
/// The head is not trained or calibrated, or the calibration is of another head or other encoders.
pub fn load_head(recipe: &Recipe) -> anyhow::Result<(Head, Calibration)> {
    let (run, _) = head_run(recipe, VoiceRun::Final)?;
    let head = run.load(new_head(recipe, &device()))?;
    let again = "run finetune again";
    let bytes = std::fs::read(run.folder.join("calibration.json"))
        .with_context(|| format!("the head is not calibrated: {again}"))?;
    let calibration: Calibration = serde_json::from_slice(&bytes).with_context(|| {
        format!("calibration.json is damaged, or of an earlier version: {again}")
    })?;
    ensure!(
        calibration.head == weights_sha256(&run.folder)?,
        "the calibration is of another head: {again}"
    );
    ensure!(
        calibration.basis == calibration::basis(recipe)?,
        "the calibration is of other encoders, or of an earlier version: {again}"
    );
    Ok((calibrated(head, &calibration), calibration))
}

/// The head with factors, bounds and label priors of the calibration applied to its weights.
fn calibrated(head: Head, calibration: &Calibration) -> Head {
    let device = device();
    let alone = difference(&calibration.face_prior, &calibration.joined_face_prior);
    head.scaled(&calibration.factors)
        .with_bounds(&calibration.bounds)
        .with_modality_prior(FACE, &calibration.joined_face_prior, &device)
        .with_single_modality_prior(FACE, &alone, &device)
        .with_single_modality_prior(WORDS, &calibration.prior, &device)
}

#[cfg(test)]
mod tests;
