//! `pretrain`: representation heads out of unlabelled clips, by any sum of objectives.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::lane::{Received, WhenFull, lane};
use crate::modality::Modality;
use crate::time::monotonic_nanos;
use crate::train::adamw::AdamW;
use crate::train::checkpoint::{Progress, RunFolder, read_json, write_json};
use crate::train::data::Split;
use crate::train::device::{device, devices};
use crate::train::features::{Features, shuffled};
use crate::train::fit::values;
use crate::train::heads::{HeadsShape, PretextShape};
use crate::train::objective::{
    Clusters, FeatureBatch, Objective, PretextModel, Queue, Replicas, kmeans_cosine,
};
use crate::train::recipe::{self, RecipeKind};
use crate::train::refused::Refused;
use crate::train::schedule::RateSchedule;

/// Which of the reference's quirks are kept. Heads of the two are never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Every one (`src/train/method.md` c): for parity.
    Reference,
    /// Mended (`src/train/method.md` f.1).
    Fixed,
}

/// `config/train/<variant>.toml` of kind `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    pub kind: PretrainKind,
    pub name: String,
    pub profile: Profile,
    pub seed: u64,
    /// In the order of pairs and concatenation.
    pub modalities: Vec<Modality>,
    pub representation: usize,
    pub projection: usize,
    /// Embeddings to mean 0 and deviation 1 first. Not in the reference.
    pub standardise: bool,
    /// Projections end in a rectifier. So in the reference.
    pub rectified_projection: bool,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f32,
    pub schedule: RateSchedule,
    #[serde(rename = "objective")]
    pub objectives: Vec<Objective>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PretrainKind {
    Pretrain,
}

impl PretrainRecipe {
    pub fn read(path: &Path) -> anyhow::Result<PretrainRecipe> {
        let recipe: PretrainRecipe = recipe::parse(path, RecipeKind::Pretrain)?;
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
        let has = |name: &str| self.objectives.iter().any(|o| o.name() == name);
        fault(self.objectives.is_empty(), "it has no [[objective]]");
        fault(
            has("contrastive") && self.modalities.len() < 2,
            "contrastive needs two modalities",
        );
        fault(
            has("simclr") && self.objectives.len() > 1,
            "simclr stands alone",
        );
        fault(
            self.batch < 2 || self.epochs == 0,
            "batch must be at least 2 and epochs at least 1",
        );
        fault(
            self.representation < 8 || self.projection == 0,
            "representation must be at least 8 and projection at least 1",
        );
        // Without a loss there is nothing to go down on.
        let late = self.objectives.iter().filter(|o| !o.is_active(0)).count();
        fault(
            late > 0 && late == self.objectives.len(),
            "clustering alone has a start_epoch above 0, permitted is 0: one objective at least begins in epoch 0",
        );
        for (place, objective) in self.objectives.iter().enumerate() {
            let (name, weight) = (objective.name(), objective.weight());
            fault(
                self.objectives[..place].iter().any(|o| o.name() == name),
                &format!("objective {name} stands there twice, permitted is each once"),
            );
            fault(
                !(weight > 0.0 && weight.is_finite()),
                &format!("weight of {name} is {weight}, permitted are numbers above 0"),
            );
            match objective {
                Objective::Contrastive { temperature, .. }
                | Objective::Simclr { temperature, .. } => {
                    fault(
                        !(*temperature > 0.0 && temperature.is_finite()),
                        &format!(
                            "temperature of {name} is {temperature}, permitted are numbers above 0"
                        ),
                    );
                }
                Objective::Clustering {
                    clusters,
                    queue_reduction,
                    ..
                } => {
                    fault(*clusters < 2, "clusters must be at least 2");
                    fault(
                        *queue_reduction == 0,
                        "queue_reduction is 0, permitted are numbers from 1, which keeps all rows",
                    );
                }
                Objective::Reconstruction {
                    hidden, rectified, ..
                } => {
                    fault(*hidden == 0, "hidden must be at least 1");
                    fault(
                        self.profile == Profile::Reference && !rectified,
                        "profile reference has rectified reconstructions",
                    );
                }
            }
        }
        let quirks = self.rectified_projection && !self.standardise;
        fault(
            self.profile == Profile::Reference && !quirks,
            "profile reference has rectified_projection = true and standardise = false",
        );
        faults
    }

    pub fn heads(&self, features: &Features) -> HeadsShape {
        HeadsShape {
            modalities: features.modalities().to_vec(),
            representation: self.representation,
            standardise: self.standardise,
        }
    }

    pub fn pretext(&self) -> PretextShape {
        let mut shape = PretextShape {
            projection: self.projection,
            clusters: 0,
            reconstruction: 0,
            rectified_projection: self.rectified_projection,
            rectified_reconstruction: true,
        };
        for objective in &self.objectives {
            match objective {
                Objective::Clustering { clusters, .. } => shape.clusters = *clusters,
                Objective::Reconstruction {
                    hidden, rectified, ..
                } => (shape.reconstruction, shape.rectified_reconstruction) = (*hidden, *rectified),
                _ => {}
            }
        }
        shape
    }

    pub fn optimizer(&self) -> ModuleOptimizer {
        AdamW {
            weight_decay: self.weight_decay,
        }
        .into()
    }
}

/// `run.json`: what later verbs need of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainedRun {
    pub recipe: PretrainRecipe,
    pub heads: HeadsShape,
    pub fingerprint: String,
    pub stores: Vec<String>,
    pub clips: usize,
}

/// Trains representation heads on the clips of stores, without labels.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: expressd-train pretrain --recipe config/train/conclugen.toml --store stores/sessions --run runs/conclugen"
)]
pub struct PretrainArgs {
    /// A file of config/train of kind pretrain, or one's own like it.
    #[arg(long)]
    pub recipe: PathBuf,
    /// What `extract` made; several (--store A B), if the same encoders made them.
    #[arg(long, required = true, num_args = 1..)]
    pub store: Vec<PathBuf>,
    /// Checkpoints; a run that was killed goes on from here.
    #[arg(long)]
    pub run: PathBuf,
    /// Others than the recipe's, such as face,voice where nobody's words are known.
    #[arg(long, value_delimiter = ',', value_parser = modality)]
    pub modalities: Vec<Modality>,
}

/// A modality by its name.
pub fn modality(name: &str) -> Result<Modality, String> {
    serde_json::from_value(name.into())
        .map_err(|_| format!("{name} is no modality; permitted are face, voice and text"))
}

pub fn run(args: &PretrainArgs) -> anyhow::Result<()> {
    let mut recipe = PretrainRecipe::read(&args.recipe)?;
    if !args.modalities.is_empty() {
        recipe.modalities = args.modalities.clone();
        let faults = recipe.faults();
        ensure!(
            faults.is_empty(),
            Refused(format!("with --modalities: {}", faults.join("; ")))
        );
    }
    let features = Features::open(&args.store)?.with_modalities(&recipe.modalities)?;
    let stores = args.store.iter().map(|s| s.display().to_string()).collect();
    pretrain(
        &recipe,
        &features,
        stores,
        &RunFolder(args.run.clone()),
        true,
    )?;
    Ok(())
}

/// Trains, or goes on training; gives the model on an inference device, and the curves.
pub fn pretrain(
    recipe: &PretrainRecipe,
    features: &Features,
    stores: Vec<String>,
    folder: &RunFolder,
    say: bool,
) -> anyhow::Result<(PretextModel, Progress)> {
    let rows = usable_rows(recipe, features)?;
    let batch = recipe.batch.min(rows.len());
    ensure!(
        batch >= 2,
        "the stores have {} usable clips; pre-training needs at least two",
        rows.len()
    );
    let (heads, device) = (recipe.heads(features), device());
    let description = PretrainedRun {
        recipe: recipe.clone(),
        heads: heads.clone(),
        fingerprint: features.spec().fingerprint.clone(),
        stores,
        clips: rows.len(),
    };
    let settings = serde_json::to_string(&description)?;
    let _lock = folder.lock()?;
    device.seed(recipe.seed);
    let mut net = PretextModel::new(&heads, &recipe.pretext(), &device);
    net.heads = net
        .heads
        .with_statistics(&features.statistics(&rows, 20_000)?, &device);
    let mut optimizer = recipe.optimizer();
    let mut progress = Progress {
        settings: settings.clone(),
        ..Progress::default()
    };
    if let Some(found) = folder.resume(&settings)? {
        (net, optimizer) = folder.load(net, optimizer, found.epochs)?;
        progress = found;
        if say {
            println!(
                "{}: resuming after epoch {} of {}",
                recipe.name, progress.epochs, recipe.epochs
            );
        }
    } else {
        // The first weights too, so that a kill in the first epoch begins from the same.
        folder.save(&net, &optimizer, &progress)?;
    }
    write_json(&folder.at("run.json"), &description)?;
    let training: Vec<Device> = devices().into_iter().map(Device::autodiff).collect();
    let mut learner = Some(net.to_device(&training[0]).train());
    let steps = rows.len() / batch;
    if say {
        println!(
            "{}: {} clips, {} modalities, batches of {batch}, {steps} steps an epoch",
            recipe.name,
            rows.len(),
            features.modalities().len()
        );
        let all = (0..features.count())
            .filter(|row| {
                features.entry(*row).split == Split::Train && features.entry(*row).view == 0
            })
            .count();
        if rows.len() < all {
            println!(
                "{}: {} more have one of these modalities alone or none: there is nothing to hold it against",
                recipe.name,
                all - rows.len()
            );
        }
        if training.len() > 1 {
            println!(
                "{}: {} devices, each with its part of every batch",
                recipe.name,
                training.len()
            );
        }
    }
    while progress.epochs < recipe.epochs {
        let (epoch, started) = (progress.epochs, monotonic_nanos());
        let mut sums = std::collections::BTreeMap::<String, f64>::new();
        let mut queue = queue(recipe, batch);
        let order = shuffled(&rows, recipe.seed, epoch);
        let batches = |index: usize| {
            batch_of(
                recipe,
                features,
                &order[index * batch..][..batch],
                epoch,
                index,
            )
        };
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let (sender, receiver) = lane("batches", 4, WhenFull::Block);
            // A closed lane means that training ended early.
            std::thread::Builder::new()
                .name("batches".into())
                .spawn_scoped(scope, move || {
                    (0..steps).all(|i| sender.send(batches(i)).is_ok())
                })?;
            let mut step = 0;
            while let Received::Item(batch) = receiver.recv(None) {
                let batch = batch?;
                let rate = recipe.schedule.rate(
                    recipe.learning_rate,
                    epoch,
                    epoch * steps + step,
                    recipe.epochs * steps,
                );
                // Given away and taken back: the optimiser changes weights in place only where nobody else holds them.
                let before = learner.take().context("training ended with an error")?;
                let (after, found) = train_step(
                    recipe,
                    before,
                    &mut optimizer,
                    &batch,
                    epoch,
                    step,
                    queue.as_mut(),
                    rate,
                    &training,
                )?;
                learner = Some(after);
                for (name, value) in found {
                    ensure!(
                        value.is_finite(),
                        "{name} is {value} in epoch {epoch}, step {step}: lower learning_rate; the checkpoint after epoch {epoch} stands"
                    );
                    *sums.entry(name.to_owned()).or_default() += value / steps as f64;
                }
                step += 1;
                if say && step % 50 == 0 {
                    println!(
                        "{}: epoch {epoch} step {step} of {steps}, {:.0} s",
                        recipe.name,
                        (monotonic_nanos() - started) as f64 * 1e-9
                    );
                }
            }
            ensure!(step == steps, "batches ended early in epoch {epoch}");
            Ok(())
        })?;
        progress.epochs += 1;
        let seconds = (monotonic_nanos() - started) as f64 * 1e-9;
        progress.seconds += seconds;
        let text: Vec<String> = sums
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        sums.into_iter()
            .for_each(|(name, value)| progress.curves.entry(name).or_default().push(value));
        progress.finished = progress.epochs == recipe.epochs;
        folder.save(
            learner.as_ref().context("training ended with an error")?,
            &optimizer,
            &progress,
        )?;
        if say {
            let left = seconds * (recipe.epochs - progress.epochs) as f64;
            println!(
                "{}: epoch {epoch} done: {}, {seconds:.1} s, about {:.1} min left",
                recipe.name,
                text.join(", "),
                left / 60.0
            );
        }
    }
    Ok((
        learner.context("training ended with an error")?.valid(),
        progress,
    ))
}

/// Training clips that have at least two of the modalities (or the one that there is). Labels are not looked at.
fn usable_rows(recipe: &PretrainRecipe, features: &Features) -> anyhow::Result<Vec<usize>> {
    let least = recipe.modalities.len().min(2);
    let simclr = recipe.objectives.iter().any(|o| o.name() == "simclr");
    let usable = |row: &usize| {
        let entry = features.entry(*row);
        let present = (0..recipe.modalities.len())
            .filter(|m| features.has(*row, *m))
            .count();
        // One row stands for all views of its clip: two would be told apart as if they were two clips.
        entry.split == Split::Train && present >= least && entry.view == u32::from(simclr)
    };
    let rows: Vec<usize> = (0..features.count()).filter(usable).collect();
    ensure!(
        !simclr || !rows.is_empty(),
        "the stores have no augmented views, which simclr needs: extract with --views 3"
    );
    Ok(rows)
}

fn queue(recipe: &PretrainRecipe, batch: usize) -> Option<Queue> {
    recipe.objectives.iter().find_map(|o| match o {
        Objective::Clustering {
            queue,
            clusters,
            queue_reduction,
            ..
        } => Some(Queue::new(
            *queue,
            batch,
            *clusters,
            (*queue_reduction > 1).then_some(*queue_reduction),
        )),
        _ => None,
    })
}

fn batch_of(
    recipe: &PretrainRecipe,
    features: &Features,
    rows: &[usize],
    epoch: usize,
    index: usize,
) -> anyhow::Result<FeatureBatch> {
    let Some(views) = recipe.objectives.iter().find_map(|o| {
        if let Objective::Simclr { views, .. } = o {
            Some(*views)
        } else {
            None
        }
    }) else {
        return features.batch(rows);
    };
    // Views of a clip stand side by side in a store: the drawn row is one view, its neighbours are the others. Rows go view after view.
    let mut rng =
        StdRng::seed_from_u64(recipe.seed ^ ((epoch as u64 + 1) << 40) ^ ((index as u64 + 1) << 8));
    let mut by_view = vec![Vec::new(); views];
    for row in rows {
        let same = |other: usize| {
            features.entry(other).id == features.entry(*row).id && features.entry(other).view > 0
        };
        let first = (0..=*row)
            .rev()
            .take_while(|r| same(*r))
            .last()
            .unwrap_or(*row);
        let all: Vec<usize> = (first..features.count()).take_while(|r| same(*r)).collect();
        ensure!(
            all.len() >= views,
            "{} has {} augmented views, {views} are needed",
            features.entry(*row).id,
            all.len()
        );
        let offset = rng.random_range(0..all.len());
        by_view
            .iter_mut()
            .enumerate()
            .for_each(|(view, rows)| rows.push(all[(offset + view) % all.len()]));
    }
    features.batch(&by_view.concat())
}

/// One step: forward, k-means, losses, gradients, AdamW. Gives each loss and the total. The model lies on the first of `devices`; with
/// more of them each takes its part of the clips.
#[allow(clippy::too_many_arguments)]
pub fn train_step(
    recipe: &PretrainRecipe,
    learner: PretextModel,
    optimizer: &mut ModuleOptimizer,
    batch: &FeatureBatch,
    epoch: usize,
    step: usize,
    queue: Option<&mut Queue>,
    rate: f64,
    devices: &[Device],
) -> anyhow::Result<(PretextModel, Vec<(&'static str, f64)>)> {
    let device = &devices[0];
    let replicas = (devices.len() > 1).then(|| Replicas::new(&learner, &devices[1..]));
    let outputs = match &replicas {
        None => learner.forward(batch, &recipe.objectives, device),
        Some(replicas) => replicas.forward(&learner, batch, &recipe.objectives, device),
    };
    let mut found = None;
    if let (Some(fused), Some(queue)) = (&outputs.fused, queue) {
        // K-means runs before clustering counts too, and the queue fills: so in the reference.
        let clusters = fused.dims()[1];
        let input = queue.push(&values(fused.clone().detach())?);
        let rows = input.len() / clusters;
        let mut rng =
            StdRng::seed_from_u64(recipe.seed ^ 0x6b6d_6561 ^ ((epoch as u64) << 32) ^ step as u64);
        let initial: Vec<usize> = (0..clusters).map(|_| rng.random_range(0..rows)).collect();
        found = Some(kmeans_cosine(&input, clusters, &initial));
    }
    let clusters = found.as_ref().map(|f| Clusters {
        labels: &f.labels,
        centroids: &f.centroids,
    });
    let terms = learner.losses(
        &outputs,
        batch,
        &recipe.objectives,
        epoch,
        clusters.as_ref(),
        device,
    );
    let mut losses = Vec::new();
    for (name, loss) in terms.each.iter().chain([&("total", terms.total.clone())]) {
        losses.push((*name, f64::from(values(loss.clone())?[0])));
    }
    drop(outputs);
    // Nothing to learn from: no two clips of a small batch have the same two modalities.
    if terms.each.is_empty() || losses.iter().any(|(_, value)| !value.is_finite()) {
        return Ok((learner, losses));
    }
    let gradients = terms.total.backward();
    let learner = match replicas {
        None => {
            let gradients = GradientsParams::from_grads(gradients, &learner);
            optimizer.step(rate, learner, gradients)
        }
        Some(replicas) => {
            let gradients = replicas.gradients(gradients, &learner, device);
            drop(replicas);
            optimizer.step_multi(rate, learner, gradients)
        }
    };
    Ok((learner, losses))
}

/// How many epochs of the run in `folder` are done.
pub fn epochs_done(folder: &Path) -> anyhow::Result<Option<usize>> {
    Ok(
        read_json::<Progress>(&RunFolder(folder.to_owned()).at("state.json"))?
            .map(|progress| progress.epochs),
    )
}

/// A run that `pretrain` made, and its model.
pub fn load(folder: &Path) -> anyhow::Result<(PretrainedRun, PretextModel)> {
    let folder = RunFolder(folder.to_owned());
    let run: PretrainedRun = folder.description("pretrain", "--from takes")?;
    let progress: Progress = read_json(&folder.at("state.json"))?
        .with_context(|| format!("{} has no checkpoint yet", folder.0.display()))?;
    let net = PretextModel::new(&run.heads, &run.recipe.pretext(), &device());
    Ok((
        run,
        folder.load_weights(net, &format!("net-{}", progress.epochs))?,
    ))
}

#[cfg(test)]
mod tests;
