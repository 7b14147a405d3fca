//! The head: trained on faces, voices and words of the same label, calibrated on held-out ones.

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use crate::labels::LABELS;
use crate::modality::{Modality, Presence};
use crate::train::calibrate::Judged;
use crate::train::checkpoint::RunFolder;
use crate::train::data::Part;
use crate::train::data::fer;
use crate::train::evaluate::Figure;
use crate::train::evidence::{Evidence, face_evidence, voice_evidence};
use crate::train::finetune::{
    VoiceRun, face_part, load_face, load_voice, run_folder, weights_sha256,
};
use crate::train::fit::{Batches, Learner, Run, device, fit, soft_cross_entropy, tensor, values};
use crate::train::net::Head;
use crate::train::recipe::Recipe;
use crate::train::samples::{generator, smoothed};
use crate::train::words::{self, Words};

mod calibration;
mod judge;
mod recordings;
mod strangers;

pub use calibration::Calibration;
use calibration::{Shares, calibrate};
#[cfg(test)]
use judge::held_out;
pub use judge::{alone, judge};
use judge::{judge_paired, paired};
use recordings::Recordings;

/// A face's place among the modalities.
const FACE: usize = 0;

/// Inputs of the head, row by row, and soft targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadBatch {
    pub count: usize,
    /// Per modality, in the order of [`Modality::ALL`].
    pub embeddings: Vec<Vec<f32>>,
    /// A row has one value a modality.
    pub presence: Vec<f32>,
    pub targets: Vec<f32>,
}

impl Learner for Head {
    type Batch = HeadBatch;

    fn loss(&self, batch: HeadBatch, device: &Device) -> Tensor<1> {
        let targets = tensor(batch.targets.clone(), [batch.count, LABELS.len()], device);
        soft_cross_entropy(forward(self, &batch, device), targets)
    }
}

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

/// A row's part of a batch: what is there is drawn by `draw`, what is not is zeros.
pub(super) fn push_row(
    batch: &mut HeadBatch,
    all: &[Evidence],
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

pub(super) fn empty(all: &[Evidence]) -> HeadBatch {
    HeadBatch {
        embeddings: vec![Vec::new(); all.len()],
        ..HeadBatch::default()
    }
}

/// Embeddings of a face and a voice of one person at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Place in [`LABELS`].
    pub label: usize,
    pub face: Vec<f32>,
    pub voice: Vec<f32>,
}

impl Pair {
    /// Of the modality with this place in [`Modality::ALL`]; `None` for words.
    fn of(&self, modality: usize) -> Option<&Vec<f32>> {
        [&self.face, &self.voice].get(modality).copied()
    }
}

/// Labels drawn alike often, and so are the subsets of modalities but for a share of single ones;
/// what is there is joined by label, or in a share of the rows that have both a face and a voice is
/// of one person.
struct Joined<'a> {
    all: &'a [Evidence],
    pairs: &'a [Pair],
    same_person: f64,
    batch: usize,
    /// Share of rows of one modality, beside those that chance gives one.
    alone: f64,
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
            let of_label: Vec<&Pair> = match subset.face && subset.voice {
                true => (self.pairs.iter())
                    .filter(|pair| pair.label == label)
                    .collect(),
                false => Vec::new(),
            };
            let pair = (!of_label.is_empty() && rng.random_bool(self.same_person))
                .then(|| of_label[rng.random_range(0..of_label.len())]);
            push_row(&mut batch, self.all, &subset, |i| {
                match pair.and_then(|pair| pair.of(i)) {
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

/// Does the subset hold its items' labels in the shares in which they come? Where words or a face
/// are alone: then each item weighs the same. What is joined by label has no shares of its own.
pub fn is_as_counted(subset: &Presence) -> bool {
    [Modality::Face, Modality::Text]
        .into_iter()
        .any(|modality| *subset == only(modality))
}

/// The subset of one modality.
pub fn only(modality: Modality) -> Presence {
    let mut presence = Presence::default();
    *presence.get_mut(modality) = true;
    presence
}

/// Trains the head over the recipe's encoders. What its confidence is worth is found with a second one, over the voice encoder that has
/// not met the calibration actors, and on those.
pub fn train(recipe: &Recipe) -> anyhow::Result<()> {
    println!("head: taking embeddings");
    let face = load_face(recipe)?;
    let crops = fer::read(&recipe.fer_archive(), recipe.face_votes().as_deref())?;
    let mut words = Words::open(&recipe.words.encoder)?;
    let mut others = |part| -> anyhow::Result<[Evidence; 2]> {
        let mut sentences = words.evidence(&recipe.meld_folder(), part, words::whole)?;
        // How far words are to be trusted is found on talk alone.
        if part == Part::Train && recipe.words.goemotions > 0.0 {
            let comments = words.comments(&recipe.goemotions_folder(), part)?;
            sentences.join(comments, recipe.words.goemotions);
        }
        Ok([face_evidence(recipe, &face, &crops, part)?, sentences])
    };
    let (training, selection) = (others(Part::Train)?, others(Part::Select)?);
    let joined =
        |which: VoiceRun, part, [face, words]: &[Evidence; 2]| -> anyhow::Result<Vec<Evidence>> {
            Ok(vec![
                face.clone(),
                voice_evidence(recipe, &load_voice(recipe, which)?, which, part)?,
                words.clone(),
            ])
        };
    let held_out = joined(VoiceRun::Calibration, Part::Select, &selection)?;
    let firsts = fer::voted(&crops, Part::Select).0;
    let firsts: Vec<Option<usize>> = firsts.iter().map(|c| c.votes.first()).collect();
    let shares = Shares {
        faces: training[0].log_shares(),
        words: words::log_shares(&recipe.meld_folder())?,
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
    calibration.strangers = strangers::figures(recipe, &calibrated, &calibration)?;
    calibration.strangers.extend(strangers::of_one_person(
        &calibrated,
        &calibration,
        &held_out,
        &of_one_person,
    )?);
    calibration.strangers.iter().for_each(Figure::print);
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
        ..calibration
    };
    std::fs::write(
        folder.join("calibration.json"),
        serde_json::to_vec_pretty(&calibration)?,
    )?;
    Ok(())
}

/// The run's folder of the head over that voice encoder.
fn head_part(which: VoiceRun) -> &'static str {
    match which {
        VoiceRun::Calibration => "head-calibration",
        VoiceRun::OtherCorpus => "head-other-corpus",
        VoiceRun::Final => "head",
    }
}

fn judged(head: &Head, held_out: &[Evidence], subset: &Presence) -> anyhow::Result<Judged> {
    judge(held_out, subset, &mut |batch| {
        values(forward(head, batch, &device()))
    })
}

fn fit_head(
    recipe: &Recipe,
    which: VoiceRun,
    training: &[Evidence],
    pairs: &[Pair],
    held_out: Option<&[Evidence]>,
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
            "{}: the encoders have changed, starting again",
            head_part(which)
        );
        // Not under another process's hands.
        let _lock = RunFolder(folder.clone()).lock()?;
        std::fs::remove_dir_all(folder)?;
    }
    let (head, _) = fit(&run, head, &device, &joined, |head| {
        let Some(held_out) = held_out else {
            return Ok(None);
        };
        let recalls = Presence::subsets()
            .map(|subset| Ok(judged(head, held_out, &subset)?.recall()))
            .collect::<anyhow::Result<Vec<f64>>>()?;
        Ok(Some(recalls.iter().sum::<f64>() / recalls.len() as f64))
    })?;
    Ok(head)
}

/// The head's run over that voice encoder, and the hashes of the encoders' weights: of other encoders, another run.
fn head_run(recipe: &Recipe, which: VoiceRun) -> anyhow::Result<(Run<'_>, Vec<String>)> {
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
        Run {
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

/// Lengths of the embeddings, in the order of [`Modality::ALL`].
pub fn dims(recipe: &Recipe) -> [usize; 3] {
    [recipe.face.shape.dim, recipe.voice.shape.dim, words::DIM]
}

fn new_head(recipe: &Recipe, device: &Device) -> Head {
    Head::new(&dims(recipe), recipe.head.hidden, LABELS.len(), device)
}

/// The calibrated head.
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
    Ok((calibrated(head, &calibration), calibration))
}

/// The head with what calibration found.
fn calibrated(head: Head, calibration: &Calibration) -> Head {
    head.weighed(&calibration.factors)
        .with_prior_of(FACE, &calibration.face_prior, &device())
        .with_prior(&calibration.prior, &device())
}

#[cfg(test)]
mod tests;
