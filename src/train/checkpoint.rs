//! What a run leaves on disk, so that it goes on after a kill: weights, optimiser, and last a small state that names them.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

/// `state.json`. A checkpoint counts when this names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything that decides the outcome, as text.
    pub settings: String,
    /// Epochs that are done.
    pub epochs: usize,
    /// The epoch, from 0, whose weights are `best`; `None`: nothing selects, the last count.
    pub best: Option<usize>,
    /// Per curve, a value per epoch.
    pub curves: std::collections::BTreeMap<String, Vec<f64>>,
    pub seconds: f64,
    pub finished: bool,
}

impl RunFolder {
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The state of a run that was begun here with the same settings.
    ///
    /// # Errors
    /// Where it was begun with others.
    pub fn resume(&self, settings: &str) -> anyhow::Result<Option<Progress>> {
        std::fs::create_dir_all(&self.0).with_context(|| format!("{} cannot be made", self.0.display()))?;
        let Some(found) = read_json::<Progress>(&self.at("state.json"))? else { return Ok(None) };
        ensure!(found.settings == settings, "{} holds a run with other settings or stores; remove it, or name another folder", self.0.display());
        Ok(Some(found))
    }

    pub fn load<M: Module>(&self, net: M, optimizer: ModuleOptimizer, epoch: usize) -> anyhow::Result<(M, ModuleOptimizer)> {
        let net = self.load_weights(net, &format!("net-{epoch}"))?;
        let path = self.at(&format!("optimizer-{epoch}.bpk"));
        let optimizer =
            optimizer.load(&path).map_err(|e| anyhow::anyhow!("{e:?}")).with_context(|| format!("{} cannot be read; remove the run", path.display()))?;
        Ok((net, optimizer))
    }

    pub fn load_weights<M: Module>(&self, net: M, name: &str) -> anyhow::Result<M> {
        let path = self.at(&format!("{name}.bpk"));
        net.try_load_file(&path).map_err(|e| anyhow::anyhow!("{e:?}")).with_context(|| format!("the weights {} cannot be read", path.display()))
    }

    /// Weights and optimiser of an epoch, then the state that names them; then what the state before named is removed.
    ///
    /// # Errors
    /// Where the disk is full: the checkpoint before stays whole.
    pub fn save<M: Module>(&self, net: &M, optimizer: &ModuleOptimizer, progress: &Progress) -> anyhow::Result<()> {
        let epoch = progress.epochs;
        self.save_weights(net, &format!("net-{epoch}"))?;
        let (new, path) = (self.at("optimizer.tmp.bpk"), self.at(&format!("optimizer-{epoch}.bpk")));
        remove(&new)?;
        optimizer.save(&new).map_err(|e| anyhow::anyhow!("{e:?}")).with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
        settle(&new, &path)?;
        write_json(&self.at("state.json"), progress)?;
        for file in std::fs::read_dir(&self.0)?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let old = name.strip_prefix("net-").or(name.strip_prefix("optimizer-")).and_then(|n| n.strip_suffix(".bpk"));
            if old.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n != epoch) {
                remove(&file.path())?;
            }
        }
        Ok(())
    }

    pub fn save_weights<M: Module>(&self, net: &M, name: &str) -> anyhow::Result<()> {
        let (new, path) = (self.at("weights.tmp.bpk"), self.at(&format!("{name}.bpk")));
        remove(&new)?;
        net.valid().save_file(&new).map_err(|e| anyhow::anyhow!("{e:?}")).with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
        settle(&new, &path)
    }
}

/// On the disk, then in its place.
fn settle(new: &Path, path: &Path) -> anyhow::Result<()> {
    std::fs::File::open(new).and_then(|file| file.sync_all()).with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
    std::fs::rename(new, path).with_context(|| format!("{} cannot be written", path.display()))
}

/// `None` where there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; remove the run", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Whole or not at all.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let new = path.with_extension("json.tmp");
    std::fs::write(&new, serde_json::to_vec_pretty(value)?).with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
    settle(&new, path)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("{} cannot be removed", path.display())),
        _ => Ok(()),
    }
}
