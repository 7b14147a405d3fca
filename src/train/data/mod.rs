//! Data sets, read in place, in their published layouts.
//!
//! [`list`] returns a data set's items and the faults of its copy on disk. It reads annotations and
//! checks that media files exist; it decodes no recording. An incomplete copy is a [`Listing`] with
//! [`Fault`]s; a folder that is not the data set is a [`DataError`].

use std::path::{Path, PathBuf};

mod affectnet;
pub mod caer;
mod catalogue;
pub mod crema_d;
mod emo_db;
pub mod fer;
mod fer_list;
mod folded_names;
pub mod folder;
#[cfg(test)]
mod fuzz;
pub mod goemotions;
mod goemotions_list;
mod iemocap;
mod listing;
pub mod meld;
pub mod mosei;
mod msp_podcast;
pub mod nemo;
mod nemo_list;
mod raf_db;
pub mod ravdess;
mod ravdess_list;
pub mod speech_clip;
mod table;
#[cfg(test)]
mod testing;
mod tree;
pub mod voices;
pub mod votes;
pub mod voxceleb2;
mod wire_labels;

pub use listing::{Fault, Item, Listing, Media, Picture, Split, Target};

/// The permitted use of some samples of a data set. The accuracy of a model is never reported on
/// the samples by which the model was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Samples for training.
    Train,
    /// Samples for the choice of models and thresholds, and for calibration.
    Select,
    /// Samples for the reported accuracy.
    Report,
}

/// Options of the loaders. A loader ignores the options of other data sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// MELD: an utterance without a recording is an item with its words alone ([`Media::None`]).
    /// Without this option the utterance is a fault.
    pub text_only: bool,
    /// RAVDESS: number of the fold, 0 to 9, of the reference's ten folds over the 24 actors.
    /// `None`: the default split, [`ravdess::split_of`].
    pub fold: Option<usize>,
    /// FER2013: if true, PublicTest is [`Split::Val`] and all of Training is [`Split::Train`]. If
    /// false, PublicTest is [`Split::Test`] and a fixed tenth of Training is [`Split::Val`].
    pub public_test_selects: bool,
}

/// Why a data set's folder cannot be listed, or one of its annotation files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No loader has this name.
    #[error("no data set is called {name:?}: there are {}", names().join(", "))]
    Unknown { name: String },
    /// An option has an invalid value; `what` names the option and the valid values.
    #[error("{what}")]
    Refused { what: String },
    /// A required file or folder is missing.
    #[error("{what} is not at {}: {remedy}", path.display())]
    Missing {
        what: &'static str,
        path: PathBuf,
        remedy: String,
    },
    /// A file or folder cannot be read.
    #[error("{} cannot be read: check that it is mounted and that you may read it", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// An annotation file lacks a required column. `found`: the names of its columns.
    #[error("{} has no column {column:?}: found {}", path.display(), found.join(", "))]
    Column {
        path: PathBuf,
        column: &'static str,
        found: Vec<String>,
    },
    /// An annotation file is malformed; `what` is the fault in one sentence.
    #[error("{}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    /// The folder holds no item of the data set. `layout`: the expected files.
    #[error("nothing of {dataset} in {}{}: expected {layout}", root.display(), first_of(faults))]
    Empty {
        dataset: &'static str,
        root: PathBuf,
        layout: &'static str,
        faults: Vec<Fault>,
    },
}

/// The first fault in parentheses with the number of the others, for an error message. Empty if
/// there is no fault.
fn first_of(faults: &[Fault]) -> String {
    match faults {
        [] => String::new(),
        [only] => format!(" ({}: {})", only.at, only.what),
        [first, rest @ ..] => format!(
            " ({}: {}; and {} more faults)",
            first.at,
            first.what,
            rest.len()
        ),
    }
}

/// A data set's `list` function: the arguments are the data set's folder and the options.
type Loader = fn(&Path, &Options) -> Result<Listing, DataError>;

/// The loaders by the data sets' names on the command line, sorted by name.
const LOADERS: [(&str, Loader); 16] = [
    ("affectnet", affectnet::list),
    ("caer", caer::list),
    ("cmu-mosei", mosei::list),
    ("crema-d", crema_d::list),
    ("emo-db", emo_db::list),
    ("fer2013", fer_list::list),
    ("folder", folder::list),
    ("goemotions", goemotions_list::list),
    ("iemocap", iemocap::list),
    ("meld", meld::list),
    ("msp-podcast", msp_podcast::list),
    ("nemo", nemo_list::list),
    ("raf-db", raf_db::list),
    ("ravdess", ravdess_list::list),
    ("recordings", folder::list_recordings),
    ("voxceleb2", voxceleb2::list),
];

/// The names of all data sets that [`list`] accepts, sorted.
pub fn names() -> Vec<&'static str> {
    LOADERS.iter().map(|(name, _)| *name).collect()
}

/// Lists the data set `name` (one of [`names`]) in the folder `root`.
///
/// # Errors
/// The name is unknown, the folder does not exist, or the data set's loader refuses it.
pub fn list(name: &str, root: &Path, options: &Options) -> Result<Listing, DataError> {
    let Some((_, loader)) = LOADERS.iter().find(|(known, _)| *known == name) else {
        return Err(DataError::Unknown {
            name: name.to_string(),
        });
    };
    if !root.exists() {
        return Err(DataError::Missing {
            what: "the data set's folder",
            path: root.to_path_buf(),
            remedy: "check --root".into(),
        });
    }
    loader(root, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_loader_refuses_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorted = names();
        sorted.sort();
        assert_eq!(sorted, names());
        for name in names() {
            match list(name, folder.path(), &Options::default()) {
                Err(DataError::Empty {
                    dataset, layout, ..
                }) => assert!(dataset == name && !layout.is_empty(), "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn errors_for_an_unknown_name_and_a_missing_folder_state_the_remedy() {
        let error = list("mosei", Path::new("/"), &Options::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cmu-mosei") && error.contains("voxceleb2"),
            "{error}"
        );
        let error = list(
            "caer",
            Path::new("/there/is/no/such/folder"),
            &Options::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("/there/is/no/such/folder") && error.ends_with("check --root"),
            "{error}"
        );
    }
}
