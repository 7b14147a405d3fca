//! The head: trained on faces, voices and words of the same label, calibrated on held-out ones.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::labels::{LABELS, RAVDESS, label_index};
use crate::modality::{Modality, Presence};
use crate::preprocess::{LogMel, normalise};
use crate::train::augment::{vary_crop, vary_voice};
use crate::train::calibrate::{Judged, abstain_threshold};
use crate::train::data::Part;
use crate::train::data::fer;
use crate::train::data::ravdess;
use crate::train::finetune::{encode_faces, run_folder};
use crate::train::fit::{Batches, Learner, Run, device, fit, load_best, soft_cross_entropy, tensor, values};
use crate::train::net::{Encoder, Head};
use crate::train::recipe::Recipe;
use crate::train::samples::{generator, milliseconds, random_start, smoothed, windows};
use crate::train::words::{self, Words};

/// Never abstain above this confidence.
const HIGHEST_THRESHOLD: f64 = 0.45;

/// What held-out data says of the head's confidence. `calibration.json` beside the head's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factors of the modalities' evidence, in the order of [`Modality::ALL`].
    pub factors: Vec<f32>,
    /// Per label what is added where words are alone.
    pub prior: Vec<f32>,
    pub temperature: BTreeMap<String, f32>,
    pub abstain_threshold: f32,
    /// Expected calibration error on the selection data per subset, before (factors and temperatures 1) and after.
    pub error: BTreeMap<String, [f64; 2]>,
    /// Rows of the selection data per subset.
    pub rows: BTreeMap<String, usize>,
}

/// Embeddings by label of the wire: of each item (a picture, a window) one or several views.
#[derive(Clone, Debug)]
pub struct Evidence {
    dim: usize,
    /// Per label, per item, views of `dim` values.
    by_label: Vec<Vec<Vec<f32>>>,
}

impl Evidence {
    pub fn new(dim: usize) -> Self {
        Evidence { dim, by_label: vec![Vec::new(); LABELS.len()] }
    }

    pub fn push(&mut self, label: usize, views: Vec<f32>) {
        assert_eq!(views.len() % self.dim, 0);
        self.by_label[label].push(views);
    }

    /// The mean of some of the views of an item of this label.
    fn draw(&self, label: usize, rng: &mut StdRng) -> Vec<f32> {
        let item = &self.by_label[label][rng.random_range(0..self.by_label[label].len())];
        let views = item.len() / self.dim;
        let (first, count) = (rng.random_range(0..views), rng.random_range(1..=views));
        let mut mean = vec![0.0; self.dim];
        for view in (0..count).map(|i| (first + i) % views) {
            mean.iter_mut().zip(&item[view * self.dim..]).for_each(|(m, v)| *m += v / count as f32);
        }
        mean
    }

    pub fn count(&self) -> usize {
        self.by_label.iter().map(Vec::len).sum()
    }

    /// Logarithms of the labels' shares, their mean taken away.
    fn log_shares(&self) -> Vec<f32> {
        let all = self.count() as f32;
        let logs: Vec<f32> = self.by_label.iter().map(|items| ((items.len() as f32).max(1.0) / all).ln()).collect();
        let mean = logs.iter().sum::<f32>() / logs.len() as f32;
        logs.iter().map(|l| l - mean).collect()
    }

    /// Every item's first view, with its label.
    fn rows(&self) -> (Vec<f32>, Vec<usize>) {
        let items = self.by_label.iter().enumerate().flat_map(|(label, items)| items.iter().map(move |item| (label, item)));
        items.fold((Vec::new(), Vec::new()), |(mut rows, mut truth), (label, item)| {
            rows.extend_from_slice(&item[..self.dim]);
            truth.push(label);
            (rows, truth)
        })
    }
}

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
    let rows = |values: &Vec<f32>| tensor(values.clone(), [batch.count, values.len() / batch.count], device);
    head.forward(batch.embeddings.iter().map(rows).collect(), rows(&batch.presence))
}

/// A row's part of a batch: what is there is drawn by `draw`, what is not is zeros.
fn push_row(batch: &mut HeadBatch, all: &[Evidence], presence: &Presence, mut draw: impl FnMut(usize) -> Vec<f32>) {
    for (i, modality) in Modality::ALL.into_iter().enumerate() {
        let present = *presence.get(modality);
        batch.embeddings[i].extend(if present { draw(i) } else { vec![0.0; all[i].dim] });
        batch.presence.push(f32::from(present));
    }
    batch.count += 1;
}

fn empty(all: &[Evidence]) -> HeadBatch {
    HeadBatch { embeddings: vec![Vec::new(); all.len()], ..HeadBatch::default() }
}

/// Labels drawn alike often, and so are the subsets of modalities; what is there is joined by label alone.
struct Joined<'a> {
    all: &'a [Evidence],
    batch: usize,
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
            let subset = &subsets[rng.random_range(0..subsets.len())];
            push_row(&mut batch, self.all, subset, |i| self.all[i].draw(label, &mut rng));
            batch.targets.extend(smoothed(label, LABELS.len(), self.smoothing));
        }
        batch
    }
}

/// Held-out rows of one subset of modalities: every item of one of them (voice where it is among them, else face, else words), joined by
/// label with items of the others that are drawn, `DRAWS` times over where anything is drawn.
fn held_out(all: &[Evidence], subset: &Presence) -> (HeadBatch, Vec<usize>) {
    const DRAWS: usize = 4;
    let leads = [Modality::Voice, Modality::Face, Modality::Text].into_iter().find(|m| *subset.get(*m)).expect("a subset is not empty");
    let lead = Modality::ALL.iter().position(|m| *m == leads).expect("it is one of them");
    let alone = Modality::ALL.iter().filter(|m| *subset.get(**m)).count() == 1;
    let mut rng = generator(1, 0, 0);
    let (mut batch, mut truth) = (empty(all), Vec::new());
    let (rows, labels) = all[lead].rows();
    for (row, label) in rows.chunks(all[lead].dim).zip(labels) {
        for _ in 0..if alone { 1 } else { DRAWS } {
            push_row(&mut batch, all, subset, |i| if i == lead { row.to_vec() } else { all[i].draw(label, &mut rng) });
            truth.push(label);
        }
    }
    (batch, truth)
}

/// Rows of one subset, judged by anything that answers a [`HeadBatch`] with logits.
pub fn judge(all: &[Evidence], subset: &Presence, answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>) -> anyhow::Result<Judged> {
    let (batch, truth) = held_out(all, subset);
    Ok(Judged::new(LABELS.len(), answer(&batch)?, truth))
}

/// The subset of one modality.
pub fn only(modality: Modality) -> Presence {
    let mut presence = Presence::default();
    *presence.get_mut(modality) = true;
    presence
}

/// Trains and calibrates the head over the best encoders of their runs.
pub fn train(recipe: &Recipe) -> anyhow::Result<()> {
    let (face, voice) = load_encoders(recipe)?;
    println!("head: taking embeddings");
    let crops = fer::read(&recipe.fer_archive())?;
    let mut words = Words::open(&recipe.words.encoder)?;
    let mut evidence = |part| -> anyhow::Result<Vec<Evidence>> {
        Ok(vec![face_evidence(recipe, &face, &crops, part)?, voice_evidence(recipe, &voice, part)?, words.evidence(&recipe.meld_folder(), part)?])
    };
    let (training, selection) = (evidence(Part::Train)?, evidence(Part::Select)?);
    let device = device();
    device.seed(recipe.seed);
    let head = new_head(recipe, &device);
    let folder = run_folder(recipe, "head");
    let joined = Joined { all: &training, batch: recipe.head.fit.batch, smoothing: recipe.head.fit.label_smoothing, seed: recipe.seed };
    // The head depends on the encoders' weights: another encoder, another run.
    let mut sums = Vec::new();
    for part in ["face", "voice"] {
        let path = run_folder(recipe, part).join("best.bpk");
        sums.push(crate::model::manifest::hex_sha256(&std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?));
    }
    let text = serde_json::to_string(&(recipe.head.hidden, recipe.head.views, Modality::ALL.len(), &sums))?;
    if crate::train::fit::read_state(&folder)?.is_some_and(|state| sums.iter().any(|sum| !state.recipe.contains(sum))) {
        println!("head: the encoders have changed, starting again");
        std::fs::remove_dir_all(&folder)?;
    }
    let run = Run { name: "head", folder: folder.clone(), settings: &recipe.head.fit, recipe: text, seed: recipe.seed, stop_after: None };
    let judged = |head: &Head, subset: &Presence| judge(&selection, subset, &mut |batch| values(forward(head, batch, &device)));
    let (head, _) = fit(&run, head, &device, &joined, |head| {
        let recalls = Presence::subsets().map(|subset| Ok(judged(head, &subset)?.recall())).collect::<anyhow::Result<Vec<f64>>>()?;
        Ok(recalls.iter().sum::<f64>() / recalls.len() as f64)
    })?;
    let raw = |subset: &Presence| judged(&head, subset);
    // An encoder knows its training data too well, the one on few voices most: what its evidence is worth shows on held-out data.
    let factors = Modality::ALL.iter().map(|m| Ok(1.0 / raw(&only(*m))?.temperature() as f32)).collect::<anyhow::Result<Vec<f32>>>()?;
    // Words alone say little, and most of what people say is said neutrally: how often each label comes in talk counts there, as far as
    // it helps on the selection data.
    let shares = training[2].log_shares();
    let strengthened = |strength: f32| shares.iter().map(|s| s * strength).collect::<Vec<f32>>();
    let mut best = (f64::NEG_INFINITY, 0.0);
    for tenths in 0..=10 {
        let strength = tenths as f32 / 10.0;
        let candidate = head.clone().weighed(&factors).with_prior(&strengthened(strength), &device);
        let found = judged(&candidate, &only(Modality::Text))?.metric("f1_weighted").context("no words to select by")?;
        if found > best.0 {
            best = (found, strength);
        }
    }
    println!("head: words alone: weighted F1 {:.3} where {:.1} of the labels' log shares is added", best.0, best.1);
    let prior = strengthened(best.1);
    let final_head = head.clone().weighed(&factors).with_prior(&prior, &device);
    let mut calibration = Calibration { factors, prior, temperature: BTreeMap::new(), abstain_threshold: 0.0, error: BTreeMap::new(), rows: BTreeMap::new() };
    let mut verdicts = Vec::new();
    for subset in Presence::subsets() {
        let (name, before, judged) = (subset.name(), raw(&subset)?, judged(&final_head, &subset)?);
        let judged = if subset == only(Modality::Text) { judged.as_counted() } else { judged };
        let temperature = judged.temperature();
        ensure!(temperature.is_finite(), "no temperature fits {name}");
        verdicts.extend(judged.verdicts(temperature));
        let error = [before.calibration_error(1.0), judged.calibration_error(temperature)];
        println!(
            "head: {name}: n {}, mean recall {:.3}, temperature {temperature:.3}, calibration error {:.3} before, {:.3} after",
            judged.count(),
            judged.recall(),
            error[0],
            error[1]
        );
        calibration.temperature.insert(name.clone(), temperature as f32);
        calibration.error.insert(name.clone(), error);
        calibration.rows.insert(name, judged.count());
    }
    calibration.abstain_threshold = abstain_threshold(&verdicts, HIGHEST_THRESHOLD) as f32;
    println!("head: factors {:?}, abstains under {:.2}", calibration.factors, calibration.abstain_threshold);
    std::fs::write(folder.join("calibration.json"), serde_json::to_vec_pretty(&calibration)?)?;
    Ok(())
}

/// Both encoders with their best weights.
pub fn load_encoders(recipe: &Recipe) -> anyhow::Result<(Encoder, Encoder)> {
    let face = load_best(Encoder::new(&recipe.face.shape, LABELS.len(), &device()), &run_folder(recipe, "face"))?;
    let voice = load_best(Encoder::new(&recipe.voice.shape, RAVDESS.len(), &device()), &run_folder(recipe, "voice"))?;
    Ok((face, voice))
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
    let folder = run_folder(recipe, "head");
    let bytes = std::fs::read(folder.join("calibration.json")).context("the head is not calibrated; run finetune first")?;
    let calibration: Calibration = serde_json::from_slice(&bytes).context("calibration.json is damaged")?;
    let head = load_best(new_head(recipe, &device()), &folder)?.weighed(&calibration.factors).with_prior(&calibration.prior, &device());
    Ok((head, calibration))
}

/// Of each picture its embedding, and in training that of varied views too.
fn face_evidence(recipe: &Recipe, net: &Encoder, crops: &[fer::LabelledCrop], part: Part) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence::new(recipe.face.shape.dim);
    let views = if part == Part::Train { recipe.head.views } else { 1 };
    let crops: Vec<_> = crops.iter().filter(|c| c.part == part).collect();
    for (index, chunk) in crops.chunks(64).enumerate() {
        let mut rng = generator(recipe.seed + 1, 0, index);
        let mut inputs = Vec::new();
        for sample in chunk {
            inputs.push(normalise(&sample.crop, &recipe.face.preprocessing.normalise));
            inputs.extend(
                (1..views).map(|_| normalise(&vary_crop(&sample.crop, recipe.face.preprocessing.size, &mut rng), &recipe.face.preprocessing.normalise)),
            );
        }
        let (embeddings, _) = encode_faces(net, &inputs, recipe.face.preprocessing.size)?;
        for (sample, views) in chunk.iter().zip(embeddings.chunks(evidence.dim * views)) {
            evidence.push(sample.label, views.to_vec());
        }
    }
    Ok(evidence)
}

/// In training varied windows of each clip, each an item of its own; else the windows as the daemon would cut them.
fn voice_evidence(recipe: &Recipe, net: &Encoder, part: Part) -> anyhow::Result<Evidence> {
    let mut evidence = Evidence::new(recipe.voice.shape.dim);
    let mel = LogMel::new(&recipe.voice.preprocessing);
    let length = milliseconds(recipe.window.length_ms);
    for (index, clip) in ravdess::read(&recipe.ravdess_folder(), part, &recipe.voice.select_actors)?.iter().enumerate() {
        let mut rng = generator(recipe.seed + 2, 0, index);
        let pieces: Vec<Vec<f32>> = if part == Part::Train {
            (0..4 * recipe.head.views).map(|_| vary_voice(&clip.samples, random_start(clip, length, &mut rng), length, &mut rng)).collect()
        } else {
            windows(clip, length, milliseconds(500)).into_iter().map(<[f32]>::to_vec).collect()
        };
        let spectrograms: Vec<Vec<f32>> = pieces.iter().map(|piece| mel.compute(piece).0).collect();
        let shape = [pieces.len(), 1, recipe.voice.preprocessing.mels, mel.frames(pieces[0].len())];
        let embeddings = values(net.forward(tensor(spectrograms.concat(), shape, &device())).0)?;
        let label = label_index(RAVDESS[clip.emotion]).expect("every emotion of RAVDESS is on the wire");
        embeddings.chunks(evidence.dim).for_each(|views| evidence.push(label, views.to_vec()));
    }
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden::golden_samples;

    fn evidence(dim: usize, seed: u64) -> Evidence {
        let mut evidence = Evidence::new(dim);
        for label in 0..LABELS.len() {
            for item in 0..5 {
                evidence.push(label, golden_samples(seed + (label * 10 + item) as u64, 2 * dim).into_iter().map(|v| v + label as f32).collect());
            }
        }
        evidence
    }

    #[test]
    fn labels_and_subsets_are_balanced_and_what_is_absent_is_cleared() {
        let all = [evidence(4, 1), evidence(6, 500), evidence(5, 900)];
        let joined = Joined { all: &all, batch: 700, smoothing: 0.0, seed: 3 };
        let batch = joined.batch(0, 0);
        assert_eq!(batch, joined.batch(0, 0));
        for label in 0..LABELS.len() {
            let count = batch.targets.chunks(7).filter(|row| row[label] == 1.0).count();
            assert!((60..140).contains(&count), "label {label}: {count}");
        }
        let mut seen = BTreeMap::new();
        for (row, present) in batch.presence.chunks(3).enumerate() {
            *seen.entry(format!("{present:?}")).or_insert(0) += 1;
            for (i, dim) in [4, 6, 5].into_iter().enumerate() {
                assert_eq!(batch.embeddings[i][row * dim..][..dim].iter().all(|v| *v == 0.0), present[i] == 0.0);
            }
        }
        assert!(seen.len() == 7 && seen.values().all(|n| *n > 60), "{seen:?}");
    }

    #[test]
    fn every_held_out_item_is_judged_and_joined_with_its_own_label() {
        let all = [evidence(4, 1), evidence(6, 500), evidence(5, 900)];
        for subset in Presence::subsets() {
            let (batch, truth) = held_out(&all, &subset);
            let several = Modality::ALL.iter().filter(|m| *subset.get(**m)).count() > 1;
            assert_eq!((batch.count, truth.len()), if several { (140, 140) } else { (35, 35) }, "{}", subset.name());
            for (row, label) in truth.iter().enumerate() {
                for (i, dim) in [4, 6, 5].into_iter().enumerate() {
                    let mean = batch.embeddings[i][row * dim..][..dim].iter().sum::<f32>() / dim as f32;
                    let expected = if *subset.get(Modality::ALL[i]) { *label as f32 } else { 0.0 };
                    assert!((mean - expected).abs() < 0.9, "{}: {mean} for {label}", subset.name());
                }
            }
        }
    }

    #[test]
    fn an_absent_modality_adds_nothing_whatever_it_says() {
        let _turn = crate::train::fit::tests::GENERATOR.lock();
        let device = device();
        let head = Head::new(&[4, 6, 5], 8, 7, &device);
        let run = |head: &Head, voice: f32, presence: [f32; 3]| {
            let batch = HeadBatch { count: 1, embeddings: vec![vec![0.3; 4], vec![voice; 6], vec![0.1; 5]], presence: presence.to_vec(), targets: vec![] };
            values(forward(head, &batch, &device)).unwrap()
        };
        assert_eq!(run(&head, 5.0, [1.0, 0.0, 1.0]), run(&head, -2.0, [1.0, 0.0, 1.0]));
        assert_ne!(run(&head, 5.0, [1.0, 1.0, 0.0]), run(&head, -2.0, [1.0, 1.0, 0.0]));
        let heavier = head.clone().weighed(&[2.0, 1.0, 1.0]);
        let (one, two) = (run(&head, 0.0, [1.0, 0.0, 0.0]), run(&heavier, 0.0, [1.0, 0.0, 0.0]));
        assert!(one.iter().zip(&two).all(|(a, b)| (2.0 * a - b).abs() < 1e-5));
        // The prior counts where words are alone, and nowhere else.
        let informed = head.clone().with_prior(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], &device);
        for presence in [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0; 3]] {
            assert_eq!(run(&informed, 0.2, presence), run(&head, 0.2, presence));
        }
        let (plain, informed) = (run(&head, 0.2, [0.0, 0.0, 1.0]), run(&informed, 0.2, [0.0, 0.0, 1.0]));
        let differences: Vec<f32> = informed.iter().zip(&plain).map(|(a, b)| a - b).collect();
        assert!((differences[0] - 1.0).abs() < 1e-6 && differences[3] == 0.0 && (differences[6] + 1.0).abs() < 1e-6, "{differences:?}");
    }
}
