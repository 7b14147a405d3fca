//! The video and sound files in a local copy of CMU-MOSEI.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::in_copy;
use crate::train::data::catalogue::Catalogue;
use crate::train::data::folded_names::folded;
use crate::train::data::tree::{AUDIO, VIDEO, walk};
use crate::train::data::{DataError, Media};

/// The media files in a copy of CMU-MOSEI. The keys are file names without extension, in Unicode
/// normal form.
pub struct MediaFiles {
    /// Full videos, by the video's name.
    pub videos: HashMap<String, PathBuf>,
    /// The sound of full videos, by the video's name.
    pub sounds: HashMap<String, PathBuf>,
    /// Segmented videos, one file per interval, by `<video>_<number>`.
    pub cut: HashMap<String, PathBuf>,
    /// The names of files that exist but cannot be used; each is a fault already.
    unusable: HashSet<String>,
}

impl MediaFiles {
    /// Finds the media files below `root`. Unusable files are added to `catalogue` as faults.
    ///
    /// # Errors
    /// A folder of media files cannot be read.
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

    /// Whether a file of the video, or of interval `number` of the video, exists but cannot be
    /// used.
    pub fn is_unusable(&self, video: &str, number: usize) -> bool {
        self.unusable.contains(video) || self.unusable.contains(&format!("{video}_{number}"))
    }

    /// The media of interval `number` of a video. True: the file contains this interval only;
    /// false: the whole video. `None`: there is no media file.
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

/// The files in the first existing folder of `candidates`, by their names without extension in
/// Unicode normal form.
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
    let wants_segments = candidates[0].contains("Segmented");
    for file in walk(&below, extensions, catalogue)? {
        // In a copy with Videos/ alone, the segmented videos may be below it.
        if !wants_segments && file.names.iter().any(|n| n == "Segmented") {
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
