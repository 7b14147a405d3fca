//! Writes a bundle into a temporary folder beside its final folder, and then moves the whole bundle
//! there.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::model::{GENERATED, SUMS, seal};
use crate::train::refused::Refused;

/// A bundle that is being written into a temporary folder. An existing bundle in the final folder
/// stays complete until [`StagedBundle::publish`]. If this value is dropped earlier, the temporary
/// folder is removed.
#[derive(Debug)]
pub struct StagedBundle {
    /// The final folder.
    target: PathBuf,
    /// The temporary folder.
    folder: PathBuf,
    /// Whether an existing bundle in the final folder may be replaced.
    overwrite: bool,
    /// A lock on the temporary folder, which lasts as long as the file is open.
    _lock: File,
}

impl StagedBundle {
    /// Begins a new bundle whose final folder is `target`. `overwrite`: an existing bundle is
    /// replaced.
    ///
    /// # Errors
    /// [`Refused`] as by [`refuse_existing`], or if another process writes this bundle. The
    /// temporary folder cannot be written.
    pub fn begin(target: &Path, overwrite: bool) -> anyhow::Result<StagedBundle> {
        refuse_existing(target, overwrite)?;
        // Symbolic links are resolved, so that the bundle is replaced and not a link to it.
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let parent = parent_folder(&target);
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{} cannot be made", parent.display()))?;
        let folder = parent.join(format!(".{}.export", folder_name(&target)?));
        let failed = || format!("{} cannot be written", folder.display());
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        let lock = File::open(&folder).with_context(failed)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            let text = format!("another process writes {}: wait for it", target.display());
            return Err(Refused(text).into());
        }
        recover(&target, &folder).with_context(failed)?;
        // Removes files of an earlier export that was killed.
        for entry in std::fs::read_dir(&folder).with_context(failed)? {
            std::fs::remove_file(entry.with_context(failed)?.path()).with_context(failed)?;
        }
        Ok(StagedBundle {
            target,
            folder,
            overwrite,
            _lock: lock,
        })
    }

    /// Begins a new version of the bundle in the folder `target`, with copies of all its files.
    ///
    /// # Errors
    /// As [`StagedBundle::begin`], or a file cannot be copied.
    pub fn copy_of(target: &Path) -> anyhow::Result<StagedBundle> {
        let staged = StagedBundle::begin(target, true)?;
        for name in files(target)? {
            std::fs::copy(target.join(&name), staged.path().join(&name))
                .with_context(|| format!("{name} cannot be copied"))?;
        }
        Ok(staged)
    }

    /// The temporary folder with the files, before [`StagedBundle::publish`].
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes the file `name` into the temporary folder; an existing one is replaced.
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        std::fs::write(self.folder.join(name), bytes)
            .with_context(|| format!("{name} cannot be written"))
    }

    /// Writes the list of hashes, `SHA256SUMS`, and moves the bundle to its final folder. At every
    /// moment the final folder holds either the old or the new bundle. If the file system cannot
    /// exchange folders, the final folder is missing between two renames. If the process is killed
    /// at that moment, the next export restores the old bundle.
    ///
    /// # Errors
    /// As [`StagedBundle::begin`], or the disk fails.
    pub fn publish(self) -> anyhow::Result<()> {
        seal(&self.folder)?;
        for name in files(&self.folder)? {
            File::open(self.folder.join(&name))
                .and_then(|file| file.sync_all())
                .with_context(|| format!("{name} cannot be written"))?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("{} cannot be written", self.folder.display()))?;
        refuse_existing(&self.target, self.overwrite)?;
        let failed = || format!("{} cannot be replaced", self.target.display());
        if is_filled(&self.target) {
            // After the exchange the old bundle is in the temporary folder, which is removed on
            // drop.
            exchange(&self.folder, &self.target).with_context(failed)?;
        } else {
            std::fs::rename(&self.folder, &self.target).with_context(failed)?;
        }
        let _ = File::open(parent_folder(&self.target)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for StagedBundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Checks that a bundle may be written to `target`.
///
/// # Errors
/// [`Refused`] if `target` is a folder with content, unless it is a bundle and `overwrite` is set.
pub fn refuse_existing(target: &Path, overwrite: bool) -> anyhow::Result<()> {
    if !is_filled(target) {
        return Ok(());
    }
    let shown = target.display();
    ensure!(
        overwrite,
        Refused(format!(
            "{shown} exists already; to replace it, add --overwrite to this command, or choose \
             another folder"
        ))
    );
    let sums = std::fs::read_to_string(target.join(SUMS));
    let Some(sums) = sums.ok().filter(|_| target.join("manifest.toml").is_file()) else {
        let text = format!("{shown} is no bundle: remove it, or choose another folder");
        return Err(Refused(text).into());
    };
    let listed: Vec<&str> = sums
        .lines()
        .filter_map(|l| Some(l.split_once("  ")?.1))
        .collect();
    let is_ours = |name: &String| {
        let name = name.as_str();
        name == SUMS || GENERATED.contains(&name) || listed.contains(&name)
    };
    if let Some(foreign) = files(target)?.into_iter().find(|name| !is_ours(name)) {
        let text = format!(
            "{shown} holds {foreign}, which is no file of the bundle and would be lost: move it \
             away"
        );
        return Err(Refused(text).into());
    }
    Ok(())
}

/// Whether `target` exists and is not an empty folder; also true for a file.
fn is_filled(target: &Path) -> bool {
    match std::fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.exists(),
    }
}

/// The names of the files and folders in `folder`, sorted.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut names: Vec<String> = entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// The folder that contains `target`; `.` for a plain name.
fn parent_folder(target: &Path) -> &Path {
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The last component of the path `target`.
fn folder_name(target: &Path) -> anyhow::Result<String> {
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned());
    name.with_context(|| Refused(format!("{} is no name of a folder", target.display())))
}

/// Exchanges two folders, atomically if the file system can.
fn exchange(new: &Path, old: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => exchange_by_renames(new, old),
        result => Ok(result?),
    }
}

/// Path of the old bundle while [`exchange_by_renames`] replaces it. `staged`: the temporary
/// folder.
fn aside(staged: &Path) -> PathBuf {
    let mut aside = staged.as_os_str().to_owned();
    aside.push(".old");
    aside.into()
}

/// Repairs an exchange by renames that was killed: the old bundle returns to `target`, or is
/// removed if a bundle is there. `staged`: the temporary folder.
fn recover(target: &Path, staged: &Path) -> std::io::Result<()> {
    let aside = aside(staged);
    if !aside.exists() {
        return Ok(());
    }
    if is_filled(target) {
        return std::fs::remove_dir_all(aside);
    }
    std::fs::rename(aside, target)
}

/// Exchanges two folders by three renames; if the second one fails, the first one is undone.
fn exchange_by_renames(new: &Path, old: &Path) -> std::io::Result<()> {
    let aside = aside(new);
    std::fs::rename(old, &aside)?;
    if let Err(error) = std::fs::rename(new, old) {
        std::fs::rename(&aside, old)?;
        return Err(error);
    }
    std::fs::rename(&aside, new)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::train::refused::exit_code;

    /// The contents of each file of a folder, by name.
    fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| (name.clone(), std::fs::read(folder.join(&name)).unwrap());
        files(folder).unwrap().into_iter().map(read).collect()
    }

    /// Publishes a small bundle at `target` whose files contain `text`.
    fn make(target: &Path, text: &str, overwrite: bool) -> anyhow::Result<()> {
        let staged = StagedBundle::begin(target, overwrite)?;
        staged.write("manifest.toml", text.as_bytes())?;
        staged.write(&format!("{text}.onnx"), b"graph")?;
        staged.publish()
    }

    #[test]
    fn an_existing_bundle_is_replaced_as_a_whole_and_only_if_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("models/mine");
        make(&target, "one", false).unwrap();
        let one = contents(&target);
        assert_eq!(
            one.keys().collect::<Vec<_>>(),
            [SUMS, "manifest.toml", "one.onnx"]
        );
        let error = make(&target, "two", false).unwrap_err();
        assert!(error.to_string().contains("add --overwrite"), "{error}");
        assert_eq!((exit_code(&error), contents(&target)), (2, one.clone()));

        // A bundle that is dropped half-way, as after an error, and then a temporary folder that is
        // left over, as after a kill.
        let staged = StagedBundle::begin(&target, true).unwrap();
        staged.write("manifest.toml", b"half").unwrap();
        let error = StagedBundle::begin(&target, true).unwrap_err().to_string();
        assert!(error.contains("another process writes"), "{error}");
        drop(staged);
        assert_eq!(contents(&target), one);
        let left = folder.path().join("models/.mine.export");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("half.onnx"), "x").unwrap();

        make(&target, "two", true).unwrap();
        let two = contents(&target);
        assert_eq!(
            two.keys().collect::<Vec<_>>(),
            [SUMS, "manifest.toml", "two.onnx"]
        );
        assert_eq!(files(&folder.path().join("models")).unwrap(), ["mine"]);

        let staged = StagedBundle::copy_of(&target).unwrap();
        staged.write("two.onnx", b"other").unwrap();
        assert_eq!(contents(&target), two);
        staged.publish().unwrap();
        assert_eq!(contents(&target)["two.onnx"], b"other");
    }

    #[test]
    fn folders_with_foreign_files_and_plain_files_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("mine");
        std::fs::create_dir(&target).unwrap();
        make(&target, "one", false).expect("an empty folder is no bundle");
        std::fs::write(target.join("notes.txt"), "mine").unwrap();
        let error = make(&target, "two", true).unwrap_err();
        assert!(error.to_string().contains("holds notes.txt"), "{error}");
        std::fs::remove_file(target.join(SUMS)).unwrap();
        let error = make(&target, "two", true).unwrap_err();
        assert!(error.to_string().contains("is no bundle"), "{error}");
        assert_eq!(contents(&target)["notes.txt"], b"mine");
        let file = target.join("notes.txt");
        assert!(make(&file, "two", true).is_err() && file.is_file());
    }

    #[test]
    fn a_kill_between_two_renames_keeps_the_old_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("mine");
        make(&target, "one", false).unwrap();
        let one = contents(&target);
        let staged = folder.path().join(".mine.export");
        // State after the first rename: the old bundle is in the folder `aside`, and the final
        // folder is missing.
        std::fs::rename(&target, aside(&staged)).unwrap();
        std::fs::create_dir(&staged).unwrap();
        drop(StagedBundle::begin(&target, true).unwrap());
        assert_eq!(contents(&target), one);
        // State after the second rename: the new bundle is in the final folder, the old one in the
        // folder `aside`.
        std::fs::create_dir(aside(&staged)).unwrap();
        std::fs::write(aside(&staged).join("manifest.toml"), "old").unwrap();
        make(&target, "two", true).unwrap();
        assert_eq!(files(folder.path()).unwrap(), ["mine"]);
    }

    #[test]
    fn exchange_by_renames_and_by_the_system_swap_two_folders() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old] = ["new", "old"].map(|name| folder.path().join(name));
        for path in [&new, &old] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(
                path.join("name"),
                path.file_name().unwrap().as_encoded_bytes(),
            )
            .unwrap();
        }
        exchange_by_renames(&new, &old).unwrap();
        let name = |path: &Path| std::fs::read(path.join("name")).unwrap();
        assert_eq!((name(&old), name(&new)), (b"new".into(), b"old".into()));
        assert_eq!(files(folder.path()).unwrap(), ["new", "old"]);
        exchange(&new, &old).unwrap();
        assert_eq!(name(&old), b"old");
    }
}
