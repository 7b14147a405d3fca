//! The video and audio files of a copy of CMU-MOSEI.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::in_copy;
use crate::train::data::catalogue::Catalogue;
use crate::train::data::folded_names::folded;
use crate::train::data::tree::{AUDIO, VIDEO, walk};
use crate::train::data::{DataError, Media};

/// The media files of a copy, by the normal form of their names without extension.
pub struct MediaFiles {
    /// Whole videos.
    pub videos: HashMap<String, PathBuf>,
    /// Sound of whole videos.
    pub sounds: HashMap<String, PathBuf>,
    /// Segmented videos, one file per interval.
    pub cut: HashMap<String, PathBuf>,
    /// Existing files that cannot be used. Each has a fault.
    unusable: HashSet<String>,
}

impl MediaFiles {
    /// Finds the files below `root`. Unusable files become faults of `catalogue`.
    pub fn find(root: &Path, catalogue: &mut Catalogue) -> Result<MediaFiles, DataError> {
        let mut found = Catalogue::default();
        let mut below = |folders: &[&str], extensions| stems(root, folders, extensions, &mut found);
        let videos = below(
            &[
                "Videos/Full/Combined",
                "Videos/Combined",
                "Videos/Full",
                "Videos",
            ],
            &VIDEO,
        )?;
        let sounds = below(
            &[
                "Audio/Full/WAV_16000",
                "Audio/WAV_16000",
                "Audio/Full",
                "Audio",
            ],
            &AUDIO,
        )?;
        let cut = below(&["Videos/Segmented/Combined", "Videos/Segmented"], &VIDEO)?;
        let stem = |at| Some(folded(&Path::new(at).file_stem()?.to_string_lossy()));
        let unusable = found.fault_places().filter_map(stem).collect();
        found.move_faults(catalogue, |_| true);
        Ok(MediaFiles {
            videos,
            sounds,
            cut,
            unusable,
        })
    }

    /// Whether an interval has no media because its file cannot be used.
    pub fn is_unusable(&self, video: &str, number: usize) -> bool {
        self.unusable.contains(video) || self.unusable.contains(&format!("{video}_{number}"))
    }

    /// The media of an interval, and whether the file contains this interval only.
    pub fn media(&self, video: &str, number: usize) -> Option<(Media, bool)> {
        match (self.videos.get(video), self.sounds.get(video)) {
            (Some(video), Some(audio)) => {
                return Some((
                    Media::Separate {
                        video: video.clone(),
                        audio: audio.clone(),
                    },
                    false,
                ));
            }
            (Some(video), None) => return Some((Media::Recording(video.clone()), false)),
            _ => {}
        }
        let cut = self
            .cut
            .get(&format!("{video}_{number}"))
            .map(|path| (Media::Recording(path.clone()), true));
        cut.or_else(|| {
            self.sounds
                .get(video)
                .map(|path| (Media::Recording(path.clone()), false))
        })
    }
}

/// The files in the first existing folder of `candidates`, by the normal form of their names
/// without extension.
fn stems(
    root: &Path,
    candidates: &[&str],
    extensions: &[&str],
    catalogue: &mut Catalogue,
) -> Result<HashMap<String, PathBuf>, DataError> {
    let mut stems = HashMap::new();
    let Some(below) = in_copy(root, candidates) else {
        return Ok(stems);
    };
    let wants_cut = candidates[0].contains("Segmented");
    for file in walk(&below, extensions, catalogue)? {
        // A mirror with Videos/ alone may have the segmented videos below it.
        if !wants_cut && file.names.iter().any(|n| n == "Segmented") {
            continue;
        }
        let stem = folded(file.stem());
        if let Some(first) = stems.get(&stem) {
            let first: &PathBuf = first;
            catalogue.fault(
                file.path.display().to_string(),
                format!("{first:?} has the same name as {:?}: left out", file.path),
            );
            continue;
        }
        stems.insert(stem, file.path);
    }
    Ok(stems)
}
