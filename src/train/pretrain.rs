//! The command `pretrain`: trains representation heads on unlabelled clips, with any sum of
//! objectives.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::lane::{Received, WhenFull, lane};
use crate::modality::Modality;
use crate::time::monotonic_nanos;
use crate::train::checkpoint::{Progress, RunFolder, read_json, write_json};
use crate::train::data::Split;
use crate::train::device::{device, devices};
use crate::train::features::{Features, shuffled};
use crate::train::heads::HeadsShape;
use crate::train::objective::{PretextModel, queue};
use crate::train::refused::Refused;
use crate::train::windows::Windows;

mod recipe;
pub(crate) mod step;

pub use recipe::{PretrainKind, PretrainRecipe, Profile};
use step::batch_of;
pub use step::train_step;

/// Contents of `run.json` in the folder of a run of `pretrain`; later commands read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainedRun {
    /// The settings of the training.
    pub recipe: PretrainRecipe,
    /// Sizes of the representation heads.
    pub heads: HeadsShape,
    /// Fingerprint of the encoders that made the stores' embeddings.
    pub fingerprint: String,
    /// Folders of the stores, as given on the command line.
    pub stores: Vec<String>,
    /// Number of training clips.
    pub clips: usize,
}

/// Trains representation heads on the clips of stores, without labels.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: expressd-train pretrain --recipe config/train/conclugen.toml --store \
                  stores/sessions --run runs/conclugen"
)]
pub struct PretrainArgs {
    /// File of a recipe of kind pretrain, from config/train or of your own.
    #[arg(long)]
    pub recipe: PathBuf,
    /// Feature stores, one or several (--store A B) of the same encoders.
    #[arg(long, required = true, num_args = 1..)]
    pub store: Vec<PathBuf>,
    /// Folder of the checkpoints; a run that was killed resumes from them.
    #[arg(long)]
    pub run: PathBuf,
    /// Modalities to use instead of the recipe's, such as face,voice if there are no transcripts.
    #[arg(long, value_delimiter = ',', value_parser = modality)]
    pub modalities: Vec<Modality>,
}

/// Parses the name of a modality: face, voice or text.
///
/// # Errors
/// Another name, with the permitted ones as text.
pub fn modality(name: &str) -> Result<Modality, String> {
    serde_json::from_value(name.into())
        .map_err(|_| format!("{name} is no modality; permitted are face, voice and text"))
}

/// Runs the command: trains the heads in the folder `--run`, or resumes there.
///
/// # Errors
/// The recipe is not valid, or the stores cannot be read or lack its modalities. See also
/// [`pretrain`].
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

/// Trains representation heads in `folder`, or resumes there. Returns the model, whose tensors do
/// not track gradients, and the state of the run with its curves. `stores` is recorded in the run's
/// description; `verbose`: progress is printed.
///
/// # Errors
/// The stores have too few usable clips, the folder has a run with other settings, a loss is not
/// finite, or a file cannot be written.
pub fn pretrain(
    recipe: &PretrainRecipe,
    features: &Features,
    stores: Vec<String>,
    folder: &RunFolder,
    verbose: bool,
) -> anyhow::Result<(PretextModel, Progress)> {
    let rows = usable_rows(recipe, features)?;
    let windows = Windows::new(features, &rows);
    let apart = windows.min_rows();
    let batch = recipe.batch.min(apart);
    ensure!(
        batch >= 2,
        "the stores have {apart} usable clips; pre-training needs at least two"
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
        if verbose {
            println!(
                "{}: resuming after epoch {} of {}",
                recipe.name, progress.epochs, recipe.epochs
            );
        }
    } else {
        // The initial weights are saved too, so that a run that is killed in the first epoch
        // restarts from the same weights.
        folder.save(&net, &optimizer, &progress)?;
    }
    write_json(&folder.at("run.json"), &description)?;
    let training: Vec<Device> = devices().into_iter().map(Device::autodiff).collect();
    let mut learner = Some(net.to_device(&training[0]).train());
    let steps = apart / batch;
    if verbose {
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
                "{}: {} other clips are not used: they have fewer than two of these modalities",
                recipe.name,
                all - rows.len()
            );
        }
        if apart < rows.len() {
            println!(
                "{}: windows of a recording overlap: each epoch takes {apart} that do not",
                recipe.name
            );
        }
        if training.len() > 1 {
            println!(
                "{}: {} devices, each batch is split between them",
                recipe.name,
                training.len()
            );
        }
    }
    while progress.epochs < recipe.epochs {
        let (epoch, started) = (progress.epochs, monotonic_nanos());
        let mut sums = std::collections::BTreeMap::<String, f64>::new();
        let mut queue = queue(&recipe.objectives, batch);
        let order = shuffled(&windows.draw(recipe.seed, epoch), recipe.seed, epoch);
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
                // The learner is moved into the step and returned by it. The optimiser changes
                // weights in place only if no other handle to them exists.
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
                        "{name} is {value} in epoch {epoch}, step {step}: lower learning_rate; the \
                         checkpoint after epoch {epoch} stands"
                    );
                    *sums.entry(name.to_owned()).or_default() += value / steps as f64;
                }
                step += 1;
                if verbose && step % 50 == 0 {
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
        if verbose {
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

/// Indices of the training clips with at least two of the recipe's modalities, or with the only
/// one. Labels are ignored.
fn usable_rows(recipe: &PretrainRecipe, features: &Features) -> anyhow::Result<Vec<usize>> {
    let least = recipe.modalities.len().min(2);
    let simclr = recipe.objectives.iter().any(|o| o.name() == "simclr");
    let usable = |row: &usize| {
        let entry = features.entry(*row);
        let present = (0..recipe.modalities.len())
            .filter(|m| features.has(*row, *m))
            .count();
        // One row represents all augmented views of its clip. Two rows would count as different
        // clips, that is, as negatives of each other.
        entry.split == Split::Train && present >= least && entry.view == u32::from(simclr)
    };
    let rows: Vec<usize> = (0..features.count()).filter(usable).collect();
    ensure!(
        !simclr || !rows.is_empty(),
        "the stores have no augmented views, which simclr needs: extract with --views 3"
    );
    Ok(rows)
}

/// Number of finished epochs of the run in `folder`; `None` if there is no run.
///
/// # Errors
/// The state file cannot be read or parsed.
pub fn epochs_done(folder: &Path) -> anyhow::Result<Option<usize>> {
    Ok(
        read_json::<Progress>(&RunFolder(folder.to_owned()).at("state.json"))?
            .map(|progress| progress.epochs),
    )
}

/// Loads the description of a run of `pretrain`, and its model after the last finished epoch.
///
/// # Errors
/// The folder holds no such run, or no checkpoint yet.
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
