//! `expressd prepare`: generates the sentence encoder of a bundle from the published weights. A
//! bundle names this encoder's file but does not contain it, because it is as large as the weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::sentence::SentenceFiles;
use crate::manifest::{Manifest, hex_sha256};

/// Makes a bundle's sentence encoder from the published weights.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: expressd prepare --bundle models/default")]
pub struct PrepareArgs {
    /// The bundle.
    #[arg(long, value_name = "DIR", default_value = "models/default")]
    pub bundle: PathBuf,
    /// The folder with model.safetensors and tokenizer.json, fetched by set-up.
    #[arg(long, value_name = "DIR", default_value = ".deps/all_minilm_l6_v2")]
    pub weights: PathBuf,
}

/// Writes the sentence encoder's graph and tokenizer into the bundle, where they are missing or
/// their hash differs from the manifest's.
///
/// # Errors
/// The bundle or the weights cannot be read, the weights have a wrong hash, or a generated file
/// differs from the hash in the manifest.
pub fn prepare(args: &PrepareArgs) -> anyhow::Result<()> {
    let path = args.bundle.join("manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} cannot be read; name a bundle with --bundle",
            path.display()
        )
    })?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))?;
    let mut wanted: Vec<(&str, &str)> = manifest
        .encoders
        .iter()
        .filter(|e| e.source == super::sentence::SOURCE)
        .map(|e| (e.file.as_str(), e.sha256.as_str()))
        .collect();
    if wanted.is_empty() {
        println!("{}: nothing to generate", args.bundle.display());
        return Ok(());
    }
    wanted.extend(
        manifest
            .text
            .as_ref()
            .map(|text| (text.tokenizer.as_str(), text.sha256.as_str())),
    );
    let is_there = |file: &str, sha256: &str| {
        std::fs::read(args.bundle.join(file)).is_ok_and(|bytes| hex_sha256(&bytes) == sha256)
    };
    wanted.retain(|(file, sha256)| !is_there(file, sha256));
    if wanted.is_empty() {
        println!("{}: all files are complete", args.bundle.display());
        return Ok(());
    }
    let sentence = SentenceFiles::from_dir(&args.weights).with_context(|| {
        format!(
            "{} does not hold the sentence encoder's weights; fetch them with: make setup",
            args.weights.display()
        )
    })?;
    for (file, sha256) in wanted {
        let bytes = if manifest
            .text
            .as_ref()
            .is_some_and(|text| text.tokenizer == file)
        {
            &sentence.tokenizer
        } else {
            &sentence.graph
        };
        ensure!(
            hex_sha256(bytes) == sha256,
            "{file} differs from the bundle's manifest: the bundle was made by another version; \
             take one of this version"
        );
        write(&args.bundle.join(file), bytes)?;
        println!("{sha256}  {file}");
    }
    Ok(())
}

/// Writes a temporary file and renames it, so that `path` never holds a part of `bytes`.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("tmp");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::project;

    /// Copies the manifest of the default bundle into `folder`; returns the arguments to prepare
    /// that bundle.
    fn args_for(folder: &Path) -> PrepareArgs {
        std::fs::copy(
            project("models/default/manifest.toml"),
            folder.join("manifest.toml"),
        )
        .unwrap();
        PrepareArgs {
            bundle: folder.to_owned(),
            weights: project(".deps/all_minilm_l6_v2"),
        }
    }

    #[test]
    fn missing_and_damaged_files_are_written_and_complete_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let args = args_for(folder.path());
        prepare(&args).unwrap();
        let manifest: Manifest =
            toml::from_str(&std::fs::read_to_string(folder.path().join("manifest.toml")).unwrap())
                .unwrap();
        let entry = manifest
            .encoders
            .iter()
            .find(|e| e.source == crate::onnx::sentence::SOURCE)
            .expect("the default bundle has words");
        let made = std::fs::read(folder.path().join(&entry.file)).unwrap();
        assert_eq!(hex_sha256(&made), entry.sha256);
        let tokenizer = folder
            .path()
            .join(&manifest.text.as_ref().unwrap().tokenizer);
        assert!(tokenizer.is_file());
        // A truncated file is written again; a complete file is not touched.
        std::fs::write(folder.path().join(&entry.file), &made[..made.len() / 2]).unwrap();
        let before = std::fs::metadata(&tokenizer).unwrap().modified().unwrap();
        prepare(&args).unwrap();
        assert_eq!(
            std::fs::read(folder.path().join(&entry.file)).unwrap(),
            made
        );
        assert_eq!(
            std::fs::metadata(&tokenizer).unwrap().modified().unwrap(),
            before
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            3,
            "nothing else is left behind"
        );
    }

    #[test]
    fn missing_weights_are_an_error_that_names_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let args = PrepareArgs {
            weights: folder.path().join("nowhere"),
            ..args_for(folder.path())
        };
        let error = format!("{:#}", prepare(&args).unwrap_err());
        assert!(error.contains("make setup"), "{error}");
    }
}
