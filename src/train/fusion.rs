//! The head: trained on pairs of faces and voices of the same label, calibrated on held-out ones.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::labels::{LABELS, RAVDESS, label_index};
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

/// Never abstain above this confidence.
const HIGHEST_THRESHOLD: f64 = 0.45;

/// What held-out data says of the head's confidence. `calibration.json` beside the head's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factors of the face's and the voice's evidence.
    pub factors: [f32; 2],
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
#[derive(Clone, Debug, PartialEq)]
pub struct HeadBatch {
    pub count: usize,
    pub face: Vec<f32>,
    pub voice: Vec<f32>,
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
    head.forward(rows(&batch.face), rows(&batch.voice), rows(&batch.presence))
}

/// Labels drawn alike often; face, voice, and both drawn alike often; a face and a voice paired by label alone.
struct Pairs<'a> {
    face: &'a Evidence,
    voice: &'a Evidence,
    batch: usize,
    smoothing: f32,
    seed: u64,
}

impl Batches<HeadBatch> for Pairs<'_> {
    fn count(&self) -> usize {
        200
    }

    fn batch(&self, epoch: usize, index: usize) -> HeadBatch {
        let mut rng = generator(self.seed, epoch, index);
        let mut batch = HeadBatch { count: self.batch, face: vec![], voice: vec![], presence: vec![], targets: vec![] };
        for _ in 0..self.batch {
            let label = rng.random_range(0..LABELS.len());
            let subset = rng.random_range(0..3);
            let mut row = |present: bool, evidence: &Evidence| if present { evidence.draw(label, &mut rng) } else { vec![0.0; evidence.dim] };
            batch.face.extend(row(subset != 1, self.face));
            batch.voice.extend(row(subset != 0, self.voice));
            batch.presence.extend([f32::from(subset != 1), f32::from(subset != 0)]);
            batch.targets.extend(smoothed(label, LABELS.len(), self.smoothing));
        }
        batch
    }
}

/// Held-out rows of one subset of modalities. Pairs: four faces for every voice.
fn held_out(face: &Evidence, voice: &Evidence, subset: &str) -> (HeadBatch, Vec<usize>) {
    let with = |face: Vec<f32>, voice: Vec<f32>, present: [f32; 2], truth: Vec<usize>| {
        let presence = present.repeat(truth.len());
        (HeadBatch { count: truth.len(), face, voice, presence, targets: vec![] }, truth)
    };
    let (face_rows, face_truth) = face.rows();
    let (voice_rows, voice_truth) = voice.rows();
    match subset {
        "face" => {
            let zeros = vec![0.0; face_truth.len() * voice.dim];
            with(face_rows, zeros, [1.0, 0.0], face_truth)
        }
        "voice" => {
            let zeros = vec![0.0; voice_truth.len() * face.dim];
            with(zeros, voice_rows, [0.0, 1.0], voice_truth)
        }
        _ => {
            let mut rng = generator(1, 0, 0);
            let (mut faces, mut voices, mut truth) = (Vec::new(), Vec::new(), Vec::new());
            for (row, label) in voice_rows.chunks(voice.dim).zip(voice_truth) {
                for _ in 0..4 {
                    faces.extend(face.draw(label, &mut rng));
                    voices.extend_from_slice(row);
                    truth.push(label);
                }
            }
            with(faces, voices, [1.0, 1.0], truth)
        }
    }
}

/// The subsets that this head knows.
pub const SUBSETS: [&str; 3] = ["face", "voice", "face+voice"];

/// Rows of one subset, judged by anything that answers a [`HeadBatch`] with logits.
pub fn judge(face: &Evidence, voice: &Evidence, subset: &str, answer: &mut impl FnMut(&HeadBatch) -> anyhow::Result<Vec<f32>>) -> anyhow::Result<Judged> {
    let (batch, truth) = held_out(face, voice, subset);
    Ok(Judged::new(LABELS.len(), answer(&batch)?, truth))
}

/// Trains and calibrates the head over the best encoders of their runs.
pub fn train(recipe: &Recipe) -> anyhow::Result<()> {
    let (face, voice) = load_encoders(recipe)?;
    println!("head: taking embeddings");
    let crops = fer::read(&recipe.fer_archive())?;
    let faces = |part| face_evidence(recipe, &face, &crops, part);
    let (face_train, face_select) = (faces(Part::Train)?, faces(Part::Select)?);
    let (voice_train, voice_select) = (voice_evidence(recipe, &voice, Part::Train)?, voice_evidence(recipe, &voice, Part::Select)?);
    let device = device();
    device.seed(recipe.seed);
    let head = Head::new([recipe.face.shape.dim, recipe.voice.shape.dim], recipe.head.hidden, LABELS.len(), &device);
    let folder = run_folder(recipe, "head");
    let pairs = Pairs { face: &face_train, voice: &voice_train, batch: recipe.head.fit.batch, smoothing: recipe.head.fit.label_smoothing, seed: recipe.seed };
    // The head depends on the encoders' weights: another encoder, another run.
    let mut sums = Vec::new();
    for part in ["face", "voice"] {
        let path = run_folder(recipe, part).join("best.bpk");
        sums.push(crate::model::manifest::hex_sha256(&std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?));
    }
    let text = serde_json::to_string(&(recipe.head.hidden, recipe.head.views, &sums))?;
    if crate::train::fit::read_state(&folder)?.is_some_and(|state| !state.recipe.contains(&sums[0]) || !state.recipe.contains(&sums[1])) {
        println!("head: the encoders have changed, starting again");
        std::fs::remove_dir_all(&folder)?;
    }
    let run = Run { name: "head", folder: folder.clone(), settings: &recipe.head.fit, recipe: text, seed: recipe.seed, stop_after: None };
    let judged = |head: &Head, subset: &str| judge(&face_select, &voice_select, subset, &mut |batch| values(forward(head, batch, &device)));
    let (head, _) = fit(&run, head, &device, &pairs, |head| {
        let recalls = SUBSETS.iter().map(|subset| Ok(judged(head, subset)?.recall())).collect::<anyhow::Result<Vec<f64>>>()?;
        Ok(recalls.iter().sum::<f64>() / 3.0)
    })?;
    let raw: Vec<Judged> = SUBSETS.iter().map(|subset| judged(&head, subset)).collect::<anyhow::Result<_>>()?;
    // An encoder knows its training data too well, the one on few voices most: what its evidence is worth shows on held-out data.
    let factors = [1.0 / raw[0].temperature() as f32, 1.0 / raw[1].temperature() as f32];
    let head = head.weighed(factors);
    let mut calibration = Calibration { factors, temperature: BTreeMap::new(), abstain_threshold: 0.0, error: BTreeMap::new(), rows: BTreeMap::new() };
    let mut verdicts = Vec::new();
    for (subset, raw) in SUBSETS.iter().zip(raw) {
        let judged = judged(&head, subset)?;
        let temperature = judged.temperature();
        ensure!(temperature.is_finite(), "no temperature fits {subset}");
        verdicts.extend(judged.verdicts(temperature));
        println!(
            "head: {subset}: n {}, mean recall {:.3}, temperature {temperature:.3}, calibration error {:.3} before, {:.3} after",
            judged.count(),
            judged.recall(),
            raw.calibration_error(1.0),
            judged.calibration_error(temperature)
        );
        calibration.temperature.insert(subset.to_string(), temperature as f32);
        calibration.error.insert(subset.to_string(), [raw.calibration_error(1.0), judged.calibration_error(temperature)]);
        calibration.rows.insert(subset.to_string(), judged.count());
    }
    calibration.abstain_threshold = abstain_threshold(&verdicts, HIGHEST_THRESHOLD) as f32;
    println!("head: factors {factors:?}, abstains under {:.2}", calibration.abstain_threshold);
    std::fs::write(folder.join("calibration.json"), serde_json::to_vec_pretty(&calibration)?)?;
    Ok(())
}

/// Both encoders with their best weights.
pub fn load_encoders(recipe: &Recipe) -> anyhow::Result<(Encoder, Encoder)> {
    let face = load_best(Encoder::new(&recipe.face.shape, LABELS.len(), &device()), &run_folder(recipe, "face"))?;
    let voice = load_best(Encoder::new(&recipe.voice.shape, RAVDESS.len(), &device()), &run_folder(recipe, "voice"))?;
    Ok((face, voice))
}

/// The calibrated head.
pub fn load_head(recipe: &Recipe) -> anyhow::Result<(Head, Calibration)> {
    let folder = run_folder(recipe, "head");
    let head = Head::new([recipe.face.shape.dim, recipe.voice.shape.dim], recipe.head.hidden, LABELS.len(), &device());
    let bytes = std::fs::read(folder.join("calibration.json")).context("the head is not calibrated; run finetune first")?;
    let calibration: Calibration = serde_json::from_slice(&bytes).context("calibration.json is damaged")?;
    Ok((load_best(head, &folder)?.weighed(calibration.factors), calibration))
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
            inputs.extend((1..views).map(|_| normalise(&vary_crop(&sample.crop, &mut rng), &recipe.face.preprocessing.normalise)));
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
    for (index, clip) in ravdess::read(&recipe.ravdess_folder(), part)?.iter().enumerate() {
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
    fn pairs_balance_labels_and_subsets_and_clear_what_is_absent() {
        let (face, voice) = (evidence(4, 1), evidence(6, 500));
        let pairs = Pairs { face: &face, voice: &voice, batch: 700, smoothing: 0.0, seed: 3 };
        let batch = pairs.batch(0, 0);
        assert_eq!(batch, pairs.batch(0, 0));
        for label in 0..LABELS.len() {
            let count = batch.targets.chunks(7).filter(|row| row[label] == 1.0).count();
            assert!((60..140).contains(&count), "label {label}: {count}");
        }
        let mut seen = BTreeMap::new();
        for (row, present) in batch.presence.chunks(2).enumerate() {
            *seen.entry(format!("{present:?}")).or_insert(0) += 1;
            assert_eq!(batch.face[row * 4..][..4].iter().all(|v| *v == 0.0), present[0] == 0.0);
            assert_eq!(batch.voice[row * 6..][..6].iter().all(|v| *v == 0.0), present[1] == 0.0);
        }
        assert!(seen.len() == 3 && seen.values().all(|n| *n > 180), "{seen:?}");
    }

    #[test]
    fn an_absent_modality_adds_nothing_whatever_it_says() {
        let _turn = crate::train::fit::tests::GENERATOR.lock();
        let device = device();
        let head = Head::new([4, 6], 8, 7, &device);
        let run = |voice: f32, present: f32| {
            let batch = HeadBatch { count: 1, face: vec![0.3; 4], voice: vec![voice; 6], presence: vec![1.0, present], targets: vec![] };
            values(forward(&head, &batch, &device)).unwrap()
        };
        assert_eq!(run(5.0, 0.0), run(-2.0, 0.0));
        assert_ne!(run(5.0, 1.0), run(-2.0, 1.0));
        let heavier = head.clone().weighed([2.0, 1.0]);
        let face_only = HeadBatch { count: 1, face: vec![0.3; 4], voice: vec![0.0; 6], presence: vec![1.0, 0.0], targets: vec![] };
        let (one, two) = (values(forward(&head, &face_only, &device)).unwrap(), values(forward(&heavier, &face_only, &device)).unwrap());
        assert!(one.iter().zip(&two).all(|(a, b)| (2.0 * a - b).abs() < 1e-5));
    }
}
