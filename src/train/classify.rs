//! Trains a classifier on the rows of stores (`finetune` with `--store`), with frozen
//! representation heads (linear evaluation) or training them too (fine-tuning).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::optim::GradientsParams;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::manifest::Task;
use crate::modality::Modality;
use crate::time::monotonic_nanos;
use crate::train::adamw::burns;
use crate::train::checkpoint::{Progress, RunFolder, read_json, write_json};
use crate::train::data::Split;
use crate::train::features::{Features, shuffled};
use crate::train::fit::{device, values};
use crate::train::heads::HeadsShape;
use crate::train::labelled::{self, LabelledClips};
use crate::train::metrics::{MeasureOptions, Predictions, measure};
use crate::train::objective::label_loss;
use crate::train::pretrain;
use crate::train::refused::Refused;
use crate::train::windows::unlike_served;

mod calibration;
mod class_weights;
mod network;
mod recipe;

pub use calibration::HeadCalibration;
use calibration::calibration;
use class_weights::class_weights;
pub use network::{Recognition, inputs, logits};
pub use recipe::{ClassWeights, FinetuneKind, FinetuneRecipe};

/// Contents of `run.json` in the folder of a classifier's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierRun {
    /// The settings of the training.
    pub recipe: FinetuneRecipe,
    /// Sizes of the representation heads, in the order of the classifier's inputs.
    pub heads: HeadsShape,
    /// Label names in the order of the logits.
    pub labels: Vec<String>,
    /// Fingerprint of the encoders that made the stores' embeddings.
    pub fingerprint: String,
    /// Names of the stores' data sets, joined by ` + `.
    pub dataset: String,
    /// Folders of the stores, as given on the command line.
    pub stores: Vec<String>,
    /// The run of `pretrain` with the initial heads; `None`: random heads.
    pub from: Option<String>,
    /// SHA-256 of the training and validation clips and their labels. A store's labels and splits
    /// may change while its folder keeps its name. Empty in runs of earlier versions.
    #[serde(default)]
    pub clips: String,
}

/// Arguments of [`finetune`].
#[derive(Clone, Copy, Debug)]
pub struct StoreTraining<'a> {
    /// File of the recipe.
    pub recipe: &'a Path,
    /// Folders of the feature stores with the labelled clips.
    pub stores: &'a [PathBuf],
    /// Folder of the run of `pretrain` with the initial heads. `None`: random heads.
    pub from: Option<&'a Path>,
    /// Folder of the checkpoints. `None` is refused.
    pub run: Option<&'a Path>,
    /// Modalities that replace the recipe's; empty: the recipe's are used.
    pub modalities: &'a [Modality],
}

/// Trains a classifier over representations on the labelled clips of stores. The validation split
/// selects the epoch.
///
/// # Errors
/// Arguments or recipe are not valid, or the stores cannot be read or do not fit the initial heads.
pub fn finetune(args: &StoreTraining<'_>) -> anyhow::Result<()> {
    ensure!(
        args.from.is_none() || args.modalities.is_empty(),
        Refused("--modalities is for runs without --from: the heads decide".into())
    );
    let Some(run) = args.run else {
        bail!(Refused("--run DIR is needed: where checkpoints go".into()))
    };
    let mut recipe = FinetuneRecipe::read(args.recipe)?;
    if !args.modalities.is_empty() {
        recipe.modalities = args.modalities.to_vec();
        let faults = recipe.faults();
        ensure!(
            faults.is_empty(),
            Refused(format!("with --modalities: {}", faults.join("; ")))
        );
    }
    let pretrained = args.from.map(pretrain::load).transpose()?;
    if let (Some(from), Some((run, _))) = (args.from, &pretrained)
        && let Some(done) = pretrain::epochs_done(from)?.filter(|done| *done < run.recipe.epochs)
    {
        println!(
            "{}: heads from {} after epoch {done} of {}: that run is not finished",
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
    let features = Features::open(args.stores)?.with_modalities(&wanted)?;
    if let Some(rows) = unlike_served(&features) {
        println!(
            "{}: rows are {rows}: for a bundle that is served live, extract with --clips window",
            recipe.name
        );
    }
    let stores = args
        .stores
        .iter()
        .map(|s| s.display().to_string())
        .collect();
    let from = args.from.map(|f| f.display().to_string());
    train(
        &recipe,
        &features,
        stores,
        from,
        pretrained,
        &RunFolder(run.to_owned()),
        true,
    )?;
    Ok(())
}

/// Trains the classifier in `folder`, or resumes there. Returns the weights of the epoch with the
/// best selection metric, the run's description, and the curves.
///
/// `stores` and `from` are recorded in the description. `pretrained`: the run and model of
/// `pretrain` with the initial heads; `None`: random heads. `verbose`: progress is printed to
/// standard output.
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
    verbose: bool,
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
            "the pretrained heads know embeddings of {}, the stores hold those of {}: extract both \
             with the same encoders",
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
    let find =
        |split| LabelledClips::find(features, split, recipe.task, &labels, &recipe.label_map);
    let (all, select) = (find(Split::Train)?, find(Split::Val)?);
    ensure!(
        !all.rows.is_empty(),
        "the stores have no labelled training clips"
    );
    ensure!(
        !select.rows.is_empty(),
        "the stores have no labelled validation clips, which select the weights: give labels.csv a \
         column split"
    );
    let scarce = all.take_share(features, recipe.label_share, labels.len(), recipe.seed);
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
    let mut optimizer = burns(recipe.weight_decay);
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
        if verbose {
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
    if verbose {
        println!(
            "{}: {} labels; {} training clips ({})",
            recipe.name,
            labels.len(),
            scarce.rows.len(),
            scarce.counts(&labels)
        );
        println!(
            "{}: {} selection clips ({})",
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
            let picked = scarce.select(places, labels.len());
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
                "the loss is {value} in epoch {epoch}, step {step}: lower learning_rate; the \
                 checkpoint after epoch {epoch} stands"
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
        let predictions = predict(&learner.valid(), features, &select, &labels, &everything)?;
        let options = MeasureOptions {
            bootstrap: crate::train::metrics::Bootstrap {
                resamples: 0,
                ..Default::default()
            },
            groups: &[],
            abstain_threshold: 0.0,
        };
        let measured = measure("all", &predictions, &options);
        // Class-balanced metrics select, because the classes are imbalanced.
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
        if verbose && (progress.finished || epoch % 5 == 0) {
            println!(
                "{}: epoch {epoch} done: loss {total:.4}, {name} {figure:.4} (best {best:.4} in \
                 {})",
                recipe.name,
                progress.best.unwrap_or(0)
            );
        }
    }
    let best = folder.load_weights(learner.valid(), "best")?;
    let calibration = calibration(&best, features, &select, &labels, &heads)?;
    write_json(&folder.at("calibration.json"), &calibration)?;
    if verbose {
        for sentence in calibration.warnings() {
            println!("{}: {sentence}", recipe.name);
        }
    }
    Ok((best, run, progress))
}

/// The predictions of `net` on `clips` at temperature 1. `shown`: for each of the heads'
/// modalities, whether it is used.
fn predict(
    net: &Recognition,
    features: &Features,
    clips: &LabelledClips,
    labels: &[String],
    shown: &[bool],
) -> anyhow::Result<Predictions> {
    Ok(Predictions::from_logits(
        labels.to_vec(),
        logits(net, features, &clips.rows, shown)?,
        1.0,
        clips.truth.clone(),
    )?)
}

/// The subsets of the heads' modalities, the largest first: name, and for each of the heads'
/// modalities whether the subset contains it.
pub fn subsets(heads: &HeadsShape) -> Vec<(String, Vec<bool>)> {
    labelled::subsets(
        &heads
            .modalities
            .iter()
            .map(|m| m.modality)
            .collect::<Vec<_>>(),
    )
}

/// Loads a run that `finetune` made over stores: its description, the network with the best
/// weights, the calibration and the state.
///
/// # Errors
/// The folder holds no such run, or the run is not finished.
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

/// Folders of the stores that `finetune` was given.
pub fn stores_of(run: &ClassifierRun) -> Vec<PathBuf> {
    run.stores.iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests;
