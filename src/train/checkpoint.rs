//! The files of a training run: weights, optimiser state, and a small state file that names them
//! and is written last. A killed run resumes from these files.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::train::refused::Refused;

/// The folder of a training run.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

/// Contents of `state.json`. A checkpoint is valid once this file names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// All settings that determine the result of the training, as text.
    pub settings: String,
    /// Number of finished epochs.
    pub epochs: usize,
    /// The epoch, counted from 0, of the weights in `best.bpk`. `None`: no epoch is selected, and
    /// the last weights are used.
    pub best: Option<usize>,
    /// The value of each curve per epoch, by the curve's name.
    pub curves: std::collections::BTreeMap<String, Vec<f64>>,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// Whether training has ended: all epochs are done, or early stopping ended it.
    pub finished: bool,
}

impl RunFolder {
    /// The path of the file `name` in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates the folder and locks it against other processes for the lifetime of the returned
    /// file. The kernel releases the lock however the process ends. Half-written files of killed
    /// processes are removed.
    ///
    /// # Errors
    /// Another process trains in this folder, or the folder cannot be written.
    pub fn lock(&self) -> anyhow::Result<File> {
        let (folder, path) = (self.0.display(), self.at("lock"));
        std::fs::create_dir_all(&self.0).with_context(|| format!("{folder} cannot be made"))?;
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        match file.try_lock() {
            Ok(()) => self.remove_half_written()?,
            Err(TryLockError::WouldBlock) => bail!(
                "{folder} is being trained by another process: wait for it, or name another folder"
            ),
            // Some network file systems have no locks. The folder may then be written by another
            // process at the same time.
            Err(TryLockError::Error(error)) => println!(
                "{folder} cannot be locked ({error}): make sure that only one process trains there"
            ),
        }
        Ok(file)
    }

    /// Removes the temporary files that a killed process left.
    fn remove_half_written(&self) -> anyhow::Result<()> {
        for file in std::fs::read_dir(&self.0)
            .with_context(|| format!("{} cannot be read", self.0.display()))?
            .flatten()
        {
            let name = file.file_name().to_string_lossy().into_owned();
            // Burn writes to a temporary file beside the given path, with the process id after the
            // name.
            if name.ends_with(".tmp.bpk")
                || name.ends_with(".json.tmp")
                || (name.contains(".bpk.") && name.ends_with(".tmp"))
            {
                remove(&file.path())?;
            }
        }
        Ok(())
    }

    /// Reads `run.json` of a run that the command `verb` made over stores. `command` is the
    /// beginning of an error message about a run of another kind, such as "evaluate takes".
    ///
    /// # Errors
    /// The folder holds no run, a run of another command, or a description of another version.
    pub fn description<T: DeserializeOwned>(&self, verb: &str, command: &str) -> anyhow::Result<T> {
        let (folder, path) = (self.0.display(), self.at("run.json"));
        let bytes = std::fs::read(&path)
            .with_context(|| format!("{folder} is no run of {verb} over stores"))?;
        let found: serde_json::Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", path.display()))?;
        if let Some(kind) = found["recipe"]["kind"]
            .as_str()
            .filter(|kind| *kind != verb)
        {
            bail!(Refused(format!(
                "{folder} is a run of {kind}; {command} a run of {verb}"
            )));
        }
        serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is not as this version of {verb} writes it",
                path.display()
            )
        })
    }

    /// The state of the run in this folder, if it was made with `settings`; `None` if the folder
    /// holds no run.
    ///
    /// # Errors
    /// The run has other settings.
    pub fn resume(&self, settings: &str) -> anyhow::Result<Option<Progress>> {
        let Some(found) = read_json::<Progress>(&self.at("state.json"))? else {
            return Ok(None);
        };
        ensure!(
            found.settings == settings,
            "{} holds another run, or one with other settings, stores, labels or splits, or of an \
             earlier version: name another folder",
            self.0.display()
        );
        Ok(Some(found))
    }

    /// Loads weights and optimiser state of the checkpoint after `epoch` finished epochs.
    ///
    /// # Errors
    /// A file is missing or cannot be read.
    pub fn load<M: Module>(
        &self,
        net: M,
        optimizer: ModuleOptimizer,
        epoch: usize,
    ) -> anyhow::Result<(M, ModuleOptimizer)> {
        let net = self.load_weights(net, &format!("net-{epoch}"))?;
        let path = self.at(&format!("optimizer-{epoch}.bpk"));
        let optimizer = optimizer
            .load(&path)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .with_context(|| format!("{} cannot be read; remove the run", path.display()))?;
        Ok((net, optimizer))
    }

    /// Loads the weights of the file `<name>.bpk` into `net`.
    ///
    /// # Errors
    /// The file is missing, or its weights do not fit `net`.
    pub fn load_weights<M: Module>(&self, net: M, name: &str) -> anyhow::Result<M> {
        let path = self.at(&format!("{name}.bpk"));
        net.try_load_file(&path)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .with_context(|| format!("the weights {} cannot be read", path.display()))
    }

    /// Writes weights and optimiser state after `progress.epochs` finished epochs, then the state
    /// file that names them, and removes the files of the previous checkpoint.
    ///
    /// # Errors
    /// A file cannot be written; the previous checkpoint stays complete.
    pub fn save<M: Module>(
        &self,
        net: &M,
        optimizer: &ModuleOptimizer,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let epoch = progress.epochs;
        self.save_weights(net, &format!("net-{epoch}"))?;
        let (new, path) = (
            self.at("optimizer.tmp.bpk"),
            self.at(&format!("optimizer-{epoch}.bpk")),
        );
        remove(&new)?;
        optimizer
            .save(&new)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
        sync_and_rename(&new, &path)?;
        write_json(&self.at("state.json"), progress)?;
        for file in std::fs::read_dir(&self.0)?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let old = name
                .strip_prefix("net-")
                .or(name.strip_prefix("optimizer-"))
                .and_then(|n| n.strip_suffix(".bpk"));
            if old
                .and_then(|n| n.parse::<usize>().ok())
                .is_some_and(|n| n != epoch)
            {
                remove(&file.path())?;
            }
        }
        Ok(())
    }

    /// Writes the weights of `net` into the file `<name>.bpk`, atomically.
    pub fn save_weights<M: Module>(&self, net: &M, name: &str) -> anyhow::Result<()> {
        let (new, path) = (self.at("weights.tmp.bpk"), self.at(&format!("{name}.bpk")));
        remove(&new)?;
        net.valid()
            .save_file(&new)
            .map_err(|e| anyhow::anyhow!("{e:?}"))
            .with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
        sync_and_rename(&new, &path)
    }
}

/// Syncs the file `new` to disk, then renames it to `path`.
fn sync_and_rename(new: &Path, path: &Path) -> anyhow::Result<()> {
    std::fs::File::open(new)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
    std::fs::rename(new, path).with_context(|| format!("{} cannot be written", path.display()))
}

/// Parses a JSON file; `None` if it does not exist.
///
/// # Errors
/// The file cannot be read or parsed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged, or of another kind of run; name another folder",
                path.display()
            )
        })?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes `value` as a JSON file, atomically: through a temporary file beside it.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let new = path.with_extension("json.tmp");
    std::fs::write(&new, serde_json::to_vec_pretty(value)?)
        .with_context(|| format!("{} cannot be written; is the disk full?", new.display()))?;
    sync_and_rename(&new, path)
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
mod tests {
    use super::*;

    #[test]
    fn a_locked_run_is_refused_and_leftovers_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder(folder.path().join("run"));
        let lock = run.lock().unwrap();
        let left = [
            "optimizer.tmp.bpk",
            "optimizer.tmp.bpk.123-4.tmp",
            "weights.tmp.bpk.123-0.tmp",
            "optimizer-2.bpk.9-1.tmp",
            "state.json.tmp",
        ];
        let kept = [
            "best.bpk",
            "net-3.bpk",
            "optimizer-3.bpk",
            "run.json",
            "state.json",
        ];
        left.iter()
            .chain(&kept)
            .for_each(|name| std::fs::write(run.at(name), "x").unwrap());
        let error = run.lock().unwrap_err().to_string();
        assert!(
            error.contains("is being trained by another process"),
            "{error}"
        );
        assert!(
            left.iter().all(|name| run.at(name).exists()),
            "the other process's files are its own"
        );
        drop(lock);
        let _lock = run.lock().unwrap();
        let mut found: Vec<String> = std::fs::read_dir(&run.0)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "best.bpk",
                "lock",
                "net-3.bpk",
                "optimizer-3.bpk",
                "run.json",
                "state.json"
            ]
        );
    }

    #[test]
    fn a_run_of_another_command_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder(folder.path().to_owned());
        let load = || {
            run.description::<Progress>("finetune", "evaluate takes")
                .unwrap_err()
                .to_string()
        };
        assert!(load().contains("is no run of finetune"));
        write_json(
            &run.at("run.json"),
            &serde_json::json!({ "recipe": { "kind": "pretrain" } }),
        )
        .unwrap();
        assert!(
            load().ends_with("is a run of pretrain; evaluate takes a run of finetune"),
            "{}",
            load()
        );
        write_json(
            &run.at("run.json"),
            &serde_json::json!({ "recipe": { "kind": "finetune" } }),
        )
        .unwrap();
        assert!(load().contains("this version of finetune"));
        // The default bundle's runs have states of another form.
        write_json(&run.at("state.json"), &crate::train::fit::State::default()).unwrap();
        let error = run.resume("settings").unwrap_err().to_string();
        assert!(
            error.contains("another kind of run") && !error.contains("remove"),
            "{error}"
        );
    }
}
