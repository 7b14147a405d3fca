//! `finetune` over stores: a classifier on representations, by linear evaluation (heads frozen) or fine-tuning (heads too).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::manifest::Task;
use crate::modality::Modality;
use crate::time::monotonic_nanos;
use crate::train::calibrate::{Calibrated, abstain_threshold, calibrate, verdicts};
use crate::train::checkpoint::{Progress, RunFolder, read_json, write_json};
use crate::train::data::Split;
use crate::train::features::{Features, distinct, shuffled};
use crate::train::fit::{device, tensor, values};
use crate::train::heads::{ClassificationHead, ClassifierShape, HeadsShape, RepresentationHeads};
use crate::train::labelled::{self, Labelled};
use crate::train::metrics::{Judgements, MeasureOptions, Truth, measure, weights};
use crate::train::pretrain::{self, Profile};
use crate::train::recipe::{self, RecipeKind};
use crate::train::refused::Refused;
use crate::train::schedule::RateSchedule;

/// Never abstain above this confidence.
const HIGHEST_THRESHOLD: f64 = 0.45;

/// Fewer clips than these say little of confidence.
const TRUSTED_CLIPS: usize = 100;

/// `config/train/*.toml` of kind `finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneRecipe {
    pub kind: FinetuneKind,
    pub name: String,
    pub profile: Profile,
    pub seed: u64,
    pub task: Task,
    /// The heads are trained too (fine-tuning), not the classifier alone (linear evaluation).
    pub train_heads: bool,
    /// Without `--from`: heads begin at random, of these modalities and this length.
    pub modalities: Vec<Modality>,
    pub representation: usize,
    pub standardise: bool,
    /// Store's label to ours, where names differ. One that maps to "" is left out.
    #[serde(default)]
    pub label_map: BTreeMap<String, String>,
    /// Our labels, in order. Empty: the stores', by the names that `label_map` gives them.
    #[serde(default)]
    pub labels: Vec<String>,
    pub classifier: ClassifierShape,
    pub class_weights: ClassWeights,
    /// Each modality of a training clip is hidden with this probability (never the last one): so every subset is trained.
    pub modality_dropout: f64,
    pub epochs: usize,
    /// Stops when the selection figure has not risen for so many epochs.
    pub patience: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    /// Of the labelled training clips only this share is used, drawn by class (label scarcity).
    pub label_share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneKind {
    Finetune,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    None,
    /// Rare classes weigh more; for several labels, negatives over positives.
    Inverse,
    /// The reference's numbers for the data set, errors included.
    Reference,
}

impl FinetuneRecipe {
    pub fn read(path: &Path) -> anyhow::Result<FinetuneRecipe> {
        let recipe: FinetuneRecipe = recipe::parse(path, RecipeKind::Finetune)?;
        recipe::check(path, &recipe.faults())?;
        Ok(recipe)
    }

    /// Everything that cannot be meant, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let optimizer = recipe::optimizer_faults("", self.learning_rate, self.weight_decay);
        let mut faults = [
            self.schedule.faults(),
            optimizer,
            recipe::modality_faults(&self.modalities),
        ]
        .concat();
        let mut fault = |wrong: bool, text: &str| faults.extend(wrong.then(|| text.to_owned()));
        fault(
            self.batch == 0 || self.epochs == 0 || self.patience == 0,
            "batch, epochs and patience must be at least 1",
        );
        fault(
            !(0.0..1.0).contains(&self.modality_dropout),
            "modality_dropout must be in 0 to 1",
        );
        fault(
            !(self.label_share > 0.0 && self.label_share <= 1.0),
            "label_share must be above 0 and at most 1",
        );
        fault(
            self.classifier.layers == 0,
            "classifier.layers must be at least 1",
        );
        fault(
            self.profile == Profile::Reference && (self.classifier.presence || self.standardise),
            "profile reference has neither presence inputs nor standardise",
        );
        faults
    }

    /// Its labels; where it names none the stores', by the names that it gives them.
    fn labels_of(&self, stores: &[String]) -> Vec<String> {
        if !self.labels.is_empty() {
            return self.labels.clone();
        }
        distinct(
            stores
                .iter()
                .map(|name| self.label_map.get(name).unwrap_or(name))
                .filter(|name| !name.is_empty()),
        )
    }
}

/// `run.json` of a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierRun {
    pub recipe: FinetuneRecipe,
    pub heads: HeadsShape,
    pub labels: Vec<String>,
    pub fingerprint: String,
    pub dataset: String,
    pub stores: Vec<String>,
    pub from: Option<String>,
    /// The hash of which clips train and select, and what is true of them: labels and splits of a store may change under its name.
    #[serde(default)]
    pub clips: String,
}

/// What the validation clips say of confidence: `calibration.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadCalibration {
    pub subsets: BTreeMap<String, Calibrated>,
    pub abstain_threshold: f32,
}

/// Representation heads and classifier: what `evaluate` measures and `export` writes. One `forward` for all.
#[derive(Module, Debug)]
pub struct Recognition {
    pub heads: RepresentationHeads,
    pub classifier: ClassificationHead,
}

impl Recognition {
    pub fn new(
        heads: &HeadsShape,
        shape: &ClassifierShape,
        labels: usize,
        device: &Device,
    ) -> Self {
        let classifier = ClassificationHead::new(
            shape,
            heads.modalities.len(),
            heads.representation,
            labels,
            device,
        );
        Recognition {
            heads: RepresentationHeads::new(heads, device),
            classifier,
        }
    }

    /// Embeddings per modality `[batch, dim]`, zeros where absent, and presence `[batch, modalities]` to logits `[batch, labels]`.
    pub fn forward(&self, embeddings: Vec<Tensor<2>>, presence: Tensor<2>) -> Tensor<2> {
        let modalities = embeddings.len();
        let representations = embeddings.into_iter().enumerate().map(|(modality, x)| {
            let representation = self.heads.forward(modality, x);
            let width = representation.dims()[1];
            // The modality's column of presence, as wide as a representation: a product with a constant, which the exporter takes.
            let ones: Vec<f32> = (0..modalities * width)
                .map(|i| if i / width == modality { 1.0 } else { 0.0 })
                .collect();
            representation
                * presence.clone().matmul(Tensor::from_data(
                    TensorData::new(ones, [modalities, width]),
                    &presence.device(),
                ))
        });
        self.classifier
            .forward(representations.collect(), presence.clone())
    }
}

/// Trains a classifier over representations, on labelled clips of stores; selects on their validation split.
pub fn finetune(args: &crate::train::finetune::FinetuneArgs) -> anyhow::Result<()> {
    ensure!(
        args.from.is_none() || args.modalities.is_empty(),
        Refused("--modalities is for runs without --from: the heads decide".into())
    );
    let Some(run) = args.run.clone() else {
        bail!(Refused("--run DIR is needed: where checkpoints go".into()))
    };
    let mut recipe = FinetuneRecipe::read(&args.recipe)?;
    if !args.modalities.is_empty() {
        recipe.modalities = args.modalities.clone();
        let faults = recipe.faults();
        ensure!(
            faults.is_empty(),
            Refused(format!("with --modalities: {}", faults.join("; ")))
        );
    }
    let pretrained = args.from.as_deref().map(pretrain::load).transpose()?;
    if let (Some(from), Some((run, _))) = (&args.from, &pretrained)
        && let Some(done) = pretrain::epochs_done(from)?.filter(|done| *done < run.recipe.epochs)
    {
        println!(
            "{}: heads of {} after epoch {done} of {}: that run is not finished",
            recipe.name,
            from.display(),
            run.recipe.epochs
        );
    }
    let wanted = pretrained
        .as_ref()
        .map_or(recipe.modalities.clone(), |(run, _)| {
            run.recipe.modalities.clone()
        });
    let features = Features::open(&args.store)?.with_modalities(&wanted)?;
    let stores = args.store.iter().map(|s| s.display().to_string()).collect();
    let from = args.from.as_ref().map(|f| f.display().to_string());
    train(
        &recipe,
        &features,
        stores,
        from,
        pretrained,
        &RunFolder(run),
        true,
    )?;
    Ok(())
}

/// The classifier with the best selection figure, and the curves.
pub fn train(
    recipe: &FinetuneRecipe,
    features: &Features,
    stores: Vec<String>,
    from: Option<String>,
    pretrained: Option<(
        pretrain::PretrainedRun,
        crate::train::objective::PretextModel,
    )>,
    folder: &RunFolder,
    say: bool,
) -> anyhow::Result<(Recognition, ClassifierRun, Progress)> {
    let labels = recipe.labels_of(&features.spec().labels);
    ensure!(
        labels.len() >= 2,
        "the stores name {} labels; a classifier needs two",
        labels.len()
    );
    if let Some((run, _)) = &pretrained {
        ensure!(
            run.fingerprint == features.spec().fingerprint,
            "the pretrained heads know embeddings of {}, the stores hold those of {}: extract both with the same encoders",
            run.fingerprint,
            features.spec().fingerprint
        );
        ensure!(
            run.recipe.profile == recipe.profile,
            "the pretrained heads are of profile {:?}, the recipe of {:?}: they are not mixed",
            run.recipe.profile,
            recipe.profile
        );
    }
    let heads = match &pretrained {
        Some((run, _)) => run.heads.clone(),
        None => HeadsShape {
            modalities: features.modalities().to_vec(),
            representation: recipe.representation,
            standardise: recipe.standardise,
        },
    };
    let find = |split| Labelled::find(features, split, recipe.task, &labels, &recipe.label_map);
    let (all, select) = (find(Split::Train)?, find(Split::Val)?);
    ensure!(
        !all.rows.is_empty(),
        "the stores have no labelled training clips"
    );
    ensure!(
        !select.rows.is_empty(),
        "the stores have no labelled validation clips, which select the weights: give labels.csv a column split"
    );
    let scarce = all.scarce(recipe.label_share, labels.len(), recipe.seed);
    let run = ClassifierRun {
        recipe: recipe.clone(),
        heads: heads.clone(),
        labels: labels.clone(),
        fingerprint: features.spec().fingerprint.clone(),
        dataset: features.spec().dataset.clone(),
        stores,
        from,
        clips: labelled::sha256_of(features, &[&all, &select]),
    };
    let settings = serde_json::to_string(&run)?;
    let _lock = folder.lock()?;
    let device = device();
    device.seed(recipe.seed);
    let mut net = Recognition::new(&heads, &recipe.classifier, labels.len(), &device);
    net.heads = match pretrained {
        Some((_, model)) => model.heads,
        None => net
            .heads
            .with_statistics(&features.statistics(&all.rows, 20_000)?, &device),
    };
    if !recipe.train_heads {
        net.heads = net.heads.no_grad();
    }
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(recipe.weight_decay)
        .init();
    let mut progress = Progress {
        settings: settings.clone(),
        ..Progress::default()
    };
    if let Some(found) = folder.resume(&settings)? {
        (net, optimizer) = folder.load(net, optimizer, found.epochs)?;
        progress = found;
        if !recipe.train_heads {
            net.heads = net.heads.no_grad();
        }
        if say {
            println!(
                "{}: resuming after epoch {} of {}",
                recipe.name, progress.epochs, recipe.epochs
            );
        }
    } else {
        folder.save(&net, &optimizer, &progress)?;
    }
    write_json(&folder.at("run.json"), &run)?;
    let class_weights = class_weights(recipe, &run.dataset, labels.len(), &scarce.truth)?;
    if say {
        println!(
            "{}: {} labels; {} clips train ({})",
            recipe.name,
            labels.len(),
            scarce.rows.len(),
            scarce.counts(&labels)
        );
        println!(
            "{}: {} clips select ({})",
            recipe.name,
            select.rows.len(),
            select.counts(&labels)
        );
    }
    let training = device.clone().autodiff();
    let mut learner = net.to_device(&training).train();
    let batch = recipe.batch.min(scarce.rows.len());
    let steps = scarce.rows.len().div_ceil(batch);
    let everything = vec![true; heads.modalities.len()];
    while progress.epochs < recipe.epochs && !progress.finished {
        let (epoch, started, mut total) = (progress.epochs, monotonic_nanos(), 0.0);
        training.seed(recipe.seed.wrapping_add(epoch as u64 + 1));
        let order = shuffled(
            &(0..scarce.rows.len()).collect::<Vec<_>>(),
            recipe.seed,
            epoch,
        );
        let mut rng = StdRng::seed_from_u64(recipe.seed ^ ((epoch as u64 + 1) << 40));
        for (step, places) in order.chunks(batch).enumerate() {
            let picked = scarce.pick(places, labels.len());
            let (embeddings, presence) = inputs(
                features,
                &picked.rows,
                &everything,
                &training,
                Some((&mut rng, recipe.modality_dropout)),
            )?;
            let loss = label_loss(
                learner.forward(embeddings, presence),
                &picked.truth,
                class_weights.as_deref(),
                &training,
            );
            let value = f64::from(values(loss.clone())?[0]);
            ensure!(
                value.is_finite(),
                "the loss is {value} in epoch {epoch}, step {step}: lower learning_rate; the checkpoint after epoch {epoch} stands"
            );
            total += value / steps as f64;
            let gradients = GradientsParams::from_grads(loss.backward(), &learner);
            let rate = recipe.schedule.rate(
                recipe.learning_rate,
                epoch,
                epoch * steps + step,
                recipe.epochs * steps,
            );
            learner = optimizer.step(rate, learner, gradients);
        }
        let judged = judge(&learner.valid(), features, &select, &labels, &everything)?;
        let options = MeasureOptions {
            bootstrap: crate::train::metrics::Bootstrap {
                resamples: 0,
                ..Default::default()
            },
            groups: &[],
            abstain_threshold: 0.0,
        };
        let measured = measure("all", &judged, &options);
        // What is unbalanced is selected by what treats classes alike.
        let name = if recipe.task == Task::Single {
            "uar"
        } else {
            "f1_macro"
        };
        let figure = measured.figure(name).and_then(|f| f.value).unwrap_or(0.0);
        let curve = progress
            .curves
            .entry(format!("selection {name}"))
            .or_default();
        if curve.iter().all(|earlier| *earlier < figure) {
            progress.best = Some(epoch);
            folder.save_weights(&learner, "best")?;
        }
        curve.push(figure);
        let best = curve[progress.best.unwrap_or(0)];
        progress
            .curves
            .entry("loss".into())
            .or_default()
            .push(total);
        progress.epochs += 1;
        progress.seconds += (monotonic_nanos() - started) as f64 * 1e-9;
        progress.finished = progress.epochs == recipe.epochs
            || progress.epochs - progress.best.unwrap_or(epoch) > recipe.patience;
        folder.save(&learner, &optimizer, &progress)?;
        if say && (progress.finished || epoch % 5 == 0) {
            println!(
                "{}: epoch {epoch} done: loss {total:.4}, {name} {figure:.4} (best {best:.4} in {})",
                recipe.name,
                progress.best.unwrap_or(0)
            );
        }
    }
    let best = folder.load_weights(learner.valid(), "best")?;
    let calibration = calibration(&best, features, &select, &labels, &heads)?;
    write_json(&folder.at("calibration.json"), &calibration)?;
    let few: Vec<String> = calibration
        .subsets
        .iter()
        .filter(|(_, c)| c.items < TRUSTED_CLIPS)
        .map(|(name, c)| format!("{name} {}", c.items))
        .collect();
    if say && !few.is_empty() {
        println!(
            "{}: few clips tell how far to trust a confidence, so do not trust it far ({})",
            recipe.name,
            few.join(", ")
        );
    }
    Ok((best, run, progress))
}

fn class_weights(
    recipe: &FinetuneRecipe,
    dataset: &str,
    labels: usize,
    truth: &Truth,
) -> anyhow::Result<Option<Vec<f32>>> {
    let counts = weights::count_labels(labels, truth);
    let items = match truth {
        Truth::Classes(classes) => classes.len(),
        Truth::Labels(holds) => holds.len() / labels,
    };
    let found = match (recipe.class_weights, recipe.task) {
        (ClassWeights::None, _) => return Ok(None),
        (ClassWeights::Inverse, Task::Single) => weights::inverse_frequency_weights(&counts),
        (ClassWeights::Inverse, Task::Multi) => weights::positive_weights(&counts, items),
        (ClassWeights::Reference, _) => weights::reference_weights(dataset, &counts)
            .with_context(|| format!("the reference has no class weights for {dataset}"))?,
    };
    ensure!(
        found.len() == labels,
        "the reference's weights are for {} labels, here are {labels}",
        found.len()
    );
    Ok(Some(found.iter().map(|w| *w as f32).collect()))
}

/// Weighted cross-entropy (mean over weights) or binary cross-entropy (`src/train/method.md` c.6).
fn label_loss(
    logits: Tensor<2>,
    truth: &Truth,
    weights: Option<&[f32]>,
    device: &Device,
) -> Tensor<1> {
    let [rows, labels] = logits.dims();
    match truth {
        Truth::Classes(classes) => {
            let weight = |class: usize| weights.map_or(1.0, |w| w[class]);
            let sum: f32 = classes
                .iter()
                .map(|c| weight(*c))
                .sum::<f32>()
                .max(f32::MIN_POSITIVE);
            let mut targets = vec![0.0f32; rows * labels];
            classes
                .iter()
                .enumerate()
                .for_each(|(row, class)| targets[row * labels + class] = weight(*class) / sum);
            (log_softmax(logits, 1) * tensor(targets, [rows, labels], device))
                .sum()
                .neg()
        }
        Truth::Labels(holds) => {
            let (mut positive, mut negative) =
                (vec![0.0f32; holds.len()], vec![0.0f32; holds.len()]);
            for (i, holds) in holds.iter().enumerate() {
                if *holds {
                    positive[i] = weights.map_or(1.0, |w| w[i % labels])
                } else {
                    negative[i] = 1.0
                }
            }
            let shape = [rows, labels];
            // ln sigmoid(x) = x - softplus(x), ln (1 - sigmoid(x)) = -softplus(x).
            let soft_plus = burn::tensor::activation::softplus(logits.clone(), 1.0);
            let loss = tensor(positive, shape, device) * (soft_plus.clone() - logits)
                + tensor(negative, shape, device) * soft_plus;
            loss.mean()
        }
    }
}

/// Embeddings of full width and presence, of rows; `shown` says which modalities may be seen; with a generator some are hidden by chance.
pub fn inputs(
    features: &Features,
    rows: &[usize],
    shown: &[bool],
    device: &Device,
    mut hide: Option<(&mut StdRng, f64)>,
) -> anyhow::Result<(Vec<Tensor<2>>, Tensor<2>)> {
    let modalities = features.modalities();
    let mut presence = vec![0.0f32; rows.len() * modalities.len()];
    for (place, row) in rows.iter().enumerate() {
        let mut present: Vec<usize> = (0..modalities.len())
            .filter(|m| shown[*m] && features.has(*row, *m))
            .collect();
        if let Some((rng, share)) = &mut hide {
            let kept: Vec<usize> = present
                .iter()
                .copied()
                .filter(|_| rng.random::<f64>() >= *share)
                .collect();
            present = if kept.is_empty() && !present.is_empty() {
                vec![present[rng.random_range(0..present.len())]]
            } else {
                kept
            };
        }
        present
            .iter()
            .for_each(|m| presence[place * modalities.len() + m] = 1.0);
    }
    let batch = features.batch(rows)?;
    let embeddings = modalities
        .iter()
        .zip(batch.modalities)
        .map(|(shape, (present, found))| {
            let mut all = vec![0.0f32; rows.len() * shape.dim];
            for (place, values) in present.iter().zip(found.chunks(shape.dim)) {
                all[place * shape.dim..][..shape.dim].copy_from_slice(values);
            }
            tensor(all, [rows.len(), shape.dim], device)
        });
    Ok((
        embeddings.collect(),
        tensor(presence, [rows.len(), modalities.len()], device),
    ))
}

/// The logits of clips, of the modalities shown.
pub fn logits(
    net: &Recognition,
    features: &Features,
    rows: &[usize],
    shown: &[bool],
) -> anyhow::Result<Vec<f32>> {
    let mut all = Vec::new();
    for rows in rows.chunks(512) {
        let (embeddings, presence) = inputs(features, rows, shown, &device(), None)?;
        all.extend(values(net.forward(embeddings, presence))?);
    }
    Ok(all)
}

fn judge(
    net: &Recognition,
    features: &Features,
    clips: &Labelled,
    labels: &[String],
    shown: &[bool],
) -> anyhow::Result<Judgements> {
    Ok(Judgements::from_logits(
        labels.to_vec(),
        logits(net, features, &clips.rows, shown)?,
        1.0,
        clips.truth.clone(),
    )?)
}

/// The subsets of the heads' modalities: name, and which are shown.
pub fn subsets(heads: &HeadsShape) -> Vec<(String, Vec<bool>)> {
    crate::train::assess::subsets(
        &heads
            .modalities
            .iter()
            .map(|m| m.modality)
            .collect::<Vec<_>>(),
    )
}

fn calibration(
    net: &Recognition,
    features: &Features,
    select: &Labelled,
    labels: &[String],
    heads: &HeadsShape,
) -> anyhow::Result<HeadCalibration> {
    let (mut found, mut all) = (BTreeMap::new(), Vec::new());
    for (name, shown) in subsets(heads) {
        let clips = select.having(features, &shown, labels.len());
        if clips.rows.is_empty() {
            continue;
        }
        let logits = logits(net, features, &clips.rows, &shown)?;
        let calibrated = calibrate(labels, &logits, &clips.truth)?;
        all.extend(verdicts(&Judgements::from_logits(
            labels.to_vec(),
            logits,
            calibrated.temperature,
            clips.truth,
        )?));
        found.insert(name, calibrated);
    }
    Ok(HeadCalibration {
        subsets: found,
        abstain_threshold: abstain_threshold(&all, HIGHEST_THRESHOLD) as f32,
    })
}

/// A run that `finetune` made over stores: its best weights.
pub fn load(
    folder: &Path,
) -> anyhow::Result<(ClassifierRun, Recognition, HeadCalibration, Progress)> {
    let folder = RunFolder(folder.to_owned());
    let run: ClassifierRun = folder.description("finetune", "evaluate and export take")?;
    let calibration = read_json(&folder.at("calibration.json"))?
        .with_context(|| format!("{} is not finished: run finetune again", folder.0.display()))?;
    let progress: Progress = read_json(&folder.at("state.json"))?
        .with_context(|| format!("{} has no checkpoint", folder.0.display()))?;
    let net = Recognition::new(
        &run.heads,
        &run.recipe.classifier,
        run.labels.len(),
        &device(),
    );
    let net = folder.load_weights(net, "best")?;
    Ok((run, net, calibration, progress))
}

/// Where `finetune` was told to look, for messages.
pub fn stores_of(run: &ClassifierRun) -> Vec<PathBuf> {
    run.stores.iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests;
