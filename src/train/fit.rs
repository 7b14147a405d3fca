//! The training loop of encoders and head: AdamW, a checkpoint per epoch, and resuming from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::lane::{Received, WhenFull, lane};
use crate::time::monotonic_nanos;
use crate::train::adamw::burns;
use crate::train::average::Average;
use crate::train::checkpoint::RunFolder;
use crate::train::device::description;
pub use crate::train::device::device;
use crate::train::recipe::{FitSettings, Keep};

/// A network that is trained on batches.
pub trait Learner: Module {
    /// Inputs and targets of one step.
    type Batch: Send;

    /// The mean loss over `batch` on `device`, as a differentiable tensor of one value.
    fn loss(&self, batch: Self::Batch, device: &Device) -> Tensor<1>;

    /// The loss over `batch`, and its gradient for every weight.
    ///
    /// # Errors
    /// The device fails.
    fn gradients(
        &self,
        batch: Self::Batch,
        device: &Device,
    ) -> anyhow::Result<(f64, GradientsParams)> {
        differentiated(self, batch, device)
    }
}

/// The loss over `batch` and its gradients, by Burn's automatic differentiation.
///
/// # Errors
/// The loss cannot be read from the device.
pub fn differentiated<L: Learner>(
    learner: &L,
    batch: L::Batch,
    device: &Device,
) -> anyhow::Result<(f64, GradientsParams)> {
    let loss = learner.loss(batch, device);
    let value = values(loss.clone())?[0];
    Ok((
        f64::from(value),
        GradientsParams::from_grads(loss.backward(), learner),
    ))
}

/// A source of batches. The same epoch and index always give the same batch, so that a resumed run
/// needs no generator state.
pub trait Batches<B>: Sync {
    /// Number of batches per epoch.
    fn count(&self) -> usize;
    /// The batch `index` of `epoch`, both counted from 0.
    fn batch(&self, epoch: usize, index: usize) -> B;
}

/// A training run: name, folder and settings.
#[derive(Clone, Debug)]
pub struct TrainingRun<'a> {
    /// Name of the network, for logs.
    pub name: &'a str,
    /// Folder of the checkpoints. If it has one, training resumes from it.
    pub folder: PathBuf,
    /// The recipe's settings of this training.
    pub settings: &'a FitSettings,
    /// Other settings that determine the result, as text. A run made with other settings is not
    /// resumed.
    pub recipe: String,
    /// Seed of all random generators of the training.
    pub seed: u64,
    /// Number of finished epochs at which training stops early, as an interruption would; `None`:
    /// after all epochs.
    pub stop_after: Option<usize>,
}

impl TrainingRun<'_> {
    /// All settings that determine the result, as text for [`State::recipe`].
    fn identity(&self) -> anyhow::Result<String> {
        Ok(format!(
            "{} seed {} {}",
            serde_json::to_string(self.settings)?,
            self.seed,
            self.recipe
        ))
    }

    /// Loads the final weights of this run into `net`.
    ///
    /// # Errors
    /// The folder has no run, or the run is not finished or was made with other settings.
    pub fn load<L: Module>(&self, net: L) -> anyhow::Result<L> {
        let folder = self.folder.display();
        let state = read_state(&self.folder)?
            .with_context(|| format!("there is no run in {folder}: run finetune first"))?;
        ensure!(
            state.recipe == self.identity()?,
            "{folder} holds a run with other settings than the recipe's, over other encoders, or \
             of an earlier version: remove it and run finetune again"
        );
        ensure!(
            state.epochs >= self.settings.epochs,
            "{folder} is not finished (epoch {} of {}): run finetune again",
            state.epochs,
            self.settings.epochs
        );
        load_best(net, &self.folder)
    }
}

/// Contents of `state.json`. It is written last: a checkpoint is valid once this file names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// All settings that determine the result, as text ([`TrainingRun`]).
    pub recipe: String,
    /// Number of finished epochs.
    pub epochs: usize,
    /// Value of the selection metric after each epoch; empty without selection data.
    pub selection: Vec<f64>,
    /// Mean training loss of each epoch.
    pub losses: Vec<f64>,
    /// The epoch, counted from 0, of the weights in `best.bpk`.
    pub best: usize,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// The devices that the run was computed on, without duplicates.
    #[serde(default)]
    pub devices: Vec<String>,
}

impl State {
    /// The selection metric of the weights in `best.bpk`; `None` without selection data.
    pub fn kept(&self) -> Option<f64> {
        self.selection.get(self.best).copied()
    }
}

/// Trains `net`, whose tensors must not track gradients, on `device`, or resumes the run. Returns
/// the selected weights and the state of the run.
///
/// `select` computes the selection metric after each epoch, higher is better; `None`: no selection
/// data. The weights with the highest metric are selected, or the last ones if the settings keep
/// the last.
///
/// # Errors
/// The run has other settings, the loss is not finite, a checkpoint cannot be read or written, or
/// there is no metric to select by.
pub fn fit<L: Learner>(
    run: &TrainingRun<'_>,
    net: L,
    device: &Device,
    batches: &impl Batches<L::Batch>,
    mut select: impl FnMut(&L) -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<(L, State)> {
    let _lock = RunFolder(run.folder.clone()).lock()?;
    let recipe = run.identity()?;
    let mut optimizer = burns(run.settings.weight_decay);
    let mut state = State {
        recipe: recipe.clone(),
        ..State::default()
    };
    let at = |name: &str| run.folder.join(name);
    let mut net = net;
    if let Some(found) = read_state(&run.folder)? {
        ensure!(
            found.recipe == recipe,
            "{} holds a run with other settings, or of an earlier version; remove it, or take its \
             recipe",
            run.folder.display()
        );
        let epoch = found.epochs;
        net = net
            .try_load_file(at(&format!("net-{epoch}.bpk")))
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .context("the checkpoint's weights cannot be read")?;
        optimizer = optimizer
            .load(at(&format!("optimizer-{epoch}.bpk")))
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .context("the optimizer's state cannot be read")?;
        println!(
            "{}: resuming after epoch {epoch} of {}",
            run.name, run.settings.epochs
        );
        state = found;
    }
    let training = device.clone().autodiff();
    let mut learner = net.to_device(&training).train();
    let mut average = match run.settings.average {
        None => None,
        Some(decay) if state.epochs == 0 => Some(Average::new(learner.valid(), decay)),
        Some(decay) => {
            let path = at(&format!("average-{}.bpk", state.epochs));
            let net = learner
                .valid()
                .try_load_file(path)
                .map_err(|e| anyhow::anyhow!("{e:?}"))
                .context("the checkpoint's average cannot be read")?;
            Some(Average::new(net, decay))
        }
    };
    let steps = batches.count();
    while state.epochs < run.settings.epochs && run.stop_after != Some(state.epochs) {
        let (epoch, started) = (state.epochs, monotonic_nanos());
        let mut total = 0.0;
        // Dropout uses the device's random generator. The generator is seeded for each epoch, so
        // that a resumed run draws the same values.
        training.seed(run.seed.wrapping_add(epoch as u64 + 1));
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let (sender, receiver) = lane("batches", 4, WhenFull::Block);
            std::thread::Builder::new()
                .name("batches".into())
                .spawn_scoped(scope, move || {
                    // A closed lane means that training ended early.
                    (0..steps).all(|index| sender.send(batches.batch(epoch, index)).is_ok())
                })?;
            let mut step = 0;
            while let Received::Item(batch) = receiver.recv(None) {
                let (value, gradients) = learner.gradients(batch, &training)?;
                ensure!(
                    value.is_finite(),
                    "the loss is not finite in epoch {epoch}, step {step}: lower learning_rate"
                );
                total += value;
                learner = optimizer.step(
                    learning_rate(run.settings, epoch * steps + step, steps),
                    learner.clone(),
                    gradients,
                );
                step += 1;
                if let Some(average) = &mut average {
                    average.update(&learner, epoch * steps + step);
                }
                if step % 100 == 0 {
                    let seconds = (monotonic_nanos() - started) as f64 * 1e-9;
                    println!(
                        "{}: epoch {epoch} step {step} of {steps}, loss {:.3}, {:.0} s",
                        run.name,
                        total / step as f64,
                        seconds
                    );
                }
            }
            ensure!(step == steps, "batches ended early in epoch {epoch}");
            Ok(())
        })?;
        let candidate = average
            .as_ref()
            .map_or_else(|| learner.valid(), |average| average.net.clone());
        let accuracy = select(&candidate)?;
        let seconds = (monotonic_nanos() - started) as f64 * 1e-9;
        ensure!(
            accuracy.is_some() || run.settings.keep == Keep::Last,
            "{}: nothing selects, so only the last weights can be kept",
            run.name
        );
        if run.settings.keep == Keep::Last
            || accuracy
                .is_some_and(|accuracy| state.selection.iter().all(|earlier| *earlier < accuracy))
        {
            state.best = epoch;
            save(&candidate, &at("best.bpk"))?;
        }
        state.epochs += 1;
        let computed = description();
        if !state.devices.contains(&computed) {
            state.devices.push(computed);
        }
        state.selection.extend(accuracy);
        state.losses.push(total / steps as f64);
        state.seconds += seconds;
        save(&learner, &at(&format!("net-{}.bpk", state.epochs)))?;
        if average.is_some() {
            save(&candidate, &at(&format!("average-{}.bpk", state.epochs)))?;
        }
        let path = at(&format!("optimizer-{}.bpk", state.epochs));
        remove(&path)?;
        optimizer
            .save(&path)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        sync_to_disk(&path)?;
        write_state(&run.folder, &state)?;
        for old in ["net", "optimizer", "average"] {
            remove(&at(&format!("{old}-{epoch}.bpk")))?;
        }
        let left = seconds * (run.settings.epochs - state.epochs) as f64 / 60.0;
        let selection = accuracy.map_or(String::new(), |accuracy| {
            format!(
                ", selection {accuracy:.4} (kept {:.4} of {})",
                state.selection[state.best], state.best
            )
        });
        println!(
            "{}: epoch {epoch} done: loss {:.4}{selection}, {seconds:.1} s, about {left:.0} min \
             left",
            run.name,
            total / steps as f64
        );
    }
    Ok((load_best(learner.valid(), &run.folder)?, state))
}

/// Loads the weights `best.bpk` of a run into `net`.
fn load_best<L: Module>(net: L, folder: &Path) -> anyhow::Result<L> {
    let path = folder.join("best.bpk");
    net.try_load_file(&path)
        .map_err(|e| anyhow::anyhow!("{e:?}"))
        .with_context(|| format!("{} cannot be read; run finetune first", path.display()))
}

/// The learning rate of a step (counted from 0 over all epochs): linear warm-up, then a cosine to
/// zero.
fn learning_rate(settings: &FitSettings, step: usize, steps_per_epoch: usize) -> f64 {
    let (step, warmup) = (
        step as f64 + 1.0,
        settings.warmup_epochs * steps_per_epoch as f64,
    );
    let total = (settings.epochs * steps_per_epoch) as f64;
    let share = if step < warmup {
        step / warmup
    } else {
        0.5 + 0.5 * (std::f64::consts::PI * (step - warmup) / (total - warmup).max(1.0)).cos()
    };
    settings.learning_rate * share
}

/// Mean cross-entropy in nats of logits `[batch, classes]` against target probabilities of the same
/// shape.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let count = logits.dims()[0] as f64;
    (log_softmax(logits, 1) * targets).sum().div_scalar(-count)
}

/// A tensor of `shape` from values in row-major order.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Copies the values of a tensor from its device, in row-major order.
///
/// # Errors
/// The values are not f32, or the device fails.
pub fn values<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<Vec<f32>> {
    Ok(tensor.into_data().try_to_vec::<f32>()?)
}

/// Reads `state.json` of the run in `folder`; `None` if the file does not exist.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read_state(folder: &Path) -> anyhow::Result<Option<State>> {
    match std::fs::read(folder.join("state.json")) {
        Ok(bytes) => {
            let state = folder.join("state.json");
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged, or of another kind of run", state.display())
            })?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", folder.display())),
    }
}

/// Writes `state.json` of the run in `folder`, atomically.
fn write_state(folder: &Path, state: &State) -> anyhow::Result<()> {
    let new = folder.join("state.json.tmp");
    std::fs::write(&new, serde_json::to_vec_pretty(state)?)?;
    sync_to_disk(&new)?;
    std::fs::rename(new, folder.join("state.json"))?;
    Ok(())
}

/// Writes the weights of `net` to `path`, atomically.
fn save<L: Module>(net: &L, path: &Path) -> anyhow::Result<()> {
    let new = path.with_extension("tmp.bpk");
    remove(&new)?;
    net.valid()
        .save_file(&new)
        .map_err(|e| anyhow::anyhow!("{e:?}"))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    sync_to_disk(&new)?;
    std::fs::rename(&new, path).with_context(|| format!("{} cannot be written", path.display()))
}

/// Syncs the file to disk. The file that it replaces is removed afterwards, and a power failure
/// must not lose both.
fn sync_to_disk(path: &Path) -> anyhow::Result<()> {
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Removes a file; a missing file is no error.
fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub mod tests;
